"""run.py predict: the most probable classes of any images."""
import csv
import json
import os
import sys
from argparse import Namespace
from pathlib import Path

import torch

from data.dataset import Item
from data.errors import CHECK_ALL
from data.feed import Feed
from data.names import check_names, name_notes
from data.readers import ENDINGS, files_below
from mp.commands.zeroshot import arm_of, is_file
from mp.evaluate import Classify, learnt_classifier, words_classifier
from mp.experiment.session import Session, open_session
from mp.experiment.training import starting_learner
from mp.learners.prompts import START
from mp.runtime.errors import RunError, UserError, printable
from mp.runtime.progress import Progress, say


def command(args: Namespace) -> None:
    """Print the most probable classes of every image. Raises UserError before any image is classified, RunError at the
    end if some can't be read."""
    check(args)
    paths = find_images(args.images)
    items = [Item(path, 0) for path in paths]  # nothing here asks for a label
    troubles = Feed(0, workers=0).troubles(items)
    first = next(troubles)
    if first and all(troubles):  # stops at the first that can be read
        raise UserError(f"no image can be read: {first.removesuffix(CHECK_ALL)}")
    session = open_session(args)
    names, template = args.names, f"{START} {{}}."
    if args.datasets:
        dataset = session.load(session.suite.datasets[0])
        names, template = dataset.classes, dataset.template
    with torch.no_grad():
        classify = classifier(session, args, names, template)
        session.say_unknown(*names)
        unread = answer(session, args, items, names, classify)
    if unread:
        raise RunError(f"{unread} of {len(items)} images can't be read; they are named above, the others answered")


def check(args: Namespace) -> None:
    """Raise UserError for options that play no part, and for names that can't be told apart: fewer than two, or a file
    among them; DataError for one that is empty, or two alike. Says if they are no words."""
    if args.method and not is_file(args.prompt) and args.prompt != "meta":
        raise UserError(f"--method {args.method}: plays no part in --prompt {args.prompt!r}; leave it out")
    if args.tasks and args.prompt != "meta":
        raise UserError("--tasks: plays no part without --prompt meta; leave it out")
    if args.datasets:  # whose names are checked where they are read
        return
    if len(args.names) < 2:
        raise UserError(f"class names: {', '.join(args.names) or 'none'}; give two or more, to be told apart")
    for name in args.names:
        if os.path.isfile(name):
            raise UserError(f"class names: {name!r} is a file; give images before the options, and names that are none")
    check_names(args.names, "class names")
    for note in name_notes(args.names):
        say(note)


def find_images(paths: list[str]) -> list[str]:
    """Return the files, and of folders those that are images by their endings; says how many others are left out.

    Raises UserError for what isn't there, and a folder without images.
    """
    images = []
    for path in paths:
        if not os.path.exists(path):
            raise UserError(f"{path!r}: no such image or folder; give others")
        if os.path.isfile(path):
            images.append(path)
            continue
        if not os.path.isdir(path):
            raise UserError(f"{path!r}: a pipe or the like, and images are read twice; give files")
        files = files_below(Path(path))
        inside = [file for file in files if file.lower().endswith(ENDINGS)]
        if not inside:
            raise UserError(f"{path}: no images in that folder ({', '.join(ENDINGS)}); give another")
        if len(inside) < len(files):
            say(f"{path}: left out {len(files) - len(inside)} files that aren't images by their endings")
        images += inside
    return images


def classifier(session: Session, args: Namespace, names: list[str], template: str) -> Classify:
    """Return the function that --prompt stands for; `template` is the handcrafted one."""
    if args.prompt == "handcrafted":
        return words_classifier(session.clip, template, names)
    if "{}" in args.prompt:
        return words_classifier(session.clip, args.prompt, names)
    learner = starting_learner(session, arm_of(session, args, args.prompt), seed=1)
    return learnt_classifier(learner, session.clip, names)


def answer(session: Session, args: Namespace, items: list[Item], names: list[str], classify: Classify) -> int:
    """Print what each image shows, a batch at a time. Say which can't be read, and return how many."""
    progress, done, unread = Progress("image", patience=5), 0, 0
    if args.format == "csv":
        print("image,rank,class,probability")
    for views, troubles in session.feed.readable(items):
        logits = classify(views)
        if not logits.isfinite().all():
            raise RunError("the logits of images aren't all finite, so no probability is; make the prompt again")
        values, order = logits.cpu().double().softmax(-1).sort(descending=True, stable=True)
        for i, trouble in enumerate(troubles):
            if trouble:
                unread += 1
                say(trouble.removesuffix(CHECK_ALL))
            else:
                classes = [names[label] for label in order[i, : args.top]]
                show(items[done + i].source, classes, values[i, : args.top].tolist(), args.format)
        done += len(troubles)
        progress.update(done, len(items), f"{unread} unreadable")
    return unread


def show(image: str, classes: list[str], probabilities: list[float], style: str) -> None:
    """Print the classes of one image, the most probable first."""
    if style == "json":
        answers = [{"class": name, "probability": value} for name, value in zip(classes, probabilities)]
        print(json.dumps({"image": image, "classes": answers}))
    elif style == "csv":
        rows = [(image, rank, *pair) for rank, pair in enumerate(zip(classes, probabilities), 1)]
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
    else:
        print(printable(image))
        for name, value in zip(classes, probabilities):
            print(f"{100 * value:7.2f}  {printable(name)}")
