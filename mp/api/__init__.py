"""For scripts of one's own: CLIP, learnt prompts and images in memory, without folders or results.

Everywhere, `images` are PIL images of the kinds that data/README.md lists, arrays uint8 [height, width, 3], or names of
files; class `names` are two or more, all different; `labels` are indices into them, one for each image. No argument is
changed, and two CLIPs share nothing. torch's default type, `no_grad`, autocast and the like around a call change no
bit (mp/api/state.py). Errors are one line each, in which settings are called as run.py's options.
"""
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.dataset import Item
from data.miniature.suite import WEIGHTS
from mp import finetune, meta
from mp.api.inputs import Picture, check, check_clip, check_labels, check_path, feed_of, is_list, opened, plain_views
from mp.api.state import fresh_state
from mp.clip.download import openai_weights
from mp.clip.model import CLIP
from mp.clip.weights import load
from mp.evaluate import learnt_classifier, words_classifier
from mp.learners import METHODS, Learner, learner_class
from mp.learners.settings import method_settings
from mp.prompts import PromptFile, learner_of, open_prompt, write_prompt
from mp.runtime.device import choose, let_round
from mp.runtime.errors import RunError, UserError, printable  # the first for scripts alone
from mp.runtime.progress import say
from mp.settings import POSITIVE, FinetuneSettings, MetaSettings, PromptSettings, flag, is_a
from mp.store.cells import FORMAT
from mp.store.provenance import provenance
from mp.tasks import make_task

Labelled = tuple[Sequence[Picture], Sequence[int], Sequence[str]]  # images, labels, class names
Report = Callable[[dict[str, Any]], object]
NOT_SET = {"method", "shots", "classes", "regulator"}  # here: a script brings the learner, and the images to take


@fresh_state()
def load_clip(weights: str | Path | None = None, device: str = "auto", precision: str = "auto",
              memory: float | None = None) -> CLIP:
    """Return a frozen CLIP: OpenAI's ViT-B/16, fetched once; that of a file; or with "mini" the embedded miniature.

    `device`, `precision`, `memory` (GiB): as run.py's options. On CUDA it switches on torch's deterministic algorithms,
    for the whole process. Raises UserError for weights that can't be had or used, and for what this machine lacks.
    """
    if memory is not None and not (is_a(float, memory) and POSITIVE.holds(memory)):
        raise UserError(f"--memory {memory!r}: out of range; give {POSITIVE.words}")
    compute = choose(str(device), precision, memory)
    if not isinstance(weights, (str, Path, type(None))):
        raise UserError(f"weights {weights!r}: give a file's name, \"mini\", or None for OpenAI's")
    if weights is None:
        weights = openai_weights()
    elif weights == "mini":
        weights = WEIGHTS
    check_path(weights)
    clip = load(weights, compute.device, compute.half, compute.memory)
    clip.tf32 = compute.tf32
    return clip


@fresh_state()
def make_learner(method: str, clip: CLIP, **settings: Any) -> Learner:
    """Return the learner of a method, named as by --method, from its handcrafted start.

    `settings`: `seed`, of what starts at random (1), and those that a prompt is made with: `length`, `depth` (9, or all
    layers where the towers have fewer). Raises UserError for an unknown method, and for a setting that plays no part in
    it or that CLIP can't take.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise UserError(f"--method {printable(str(method)[:40])}: unknown; use one of {', '.join(METHODS)}")
    check_clip(clip)
    return learner_of(choose_settings(PromptSettings, method, settings), clip)


@fresh_state()
def load_prompt(path: str | Path, clip: CLIP, **settings: Any) -> Learner:
    """Return the learner of a prompt file: of `save_prompt` or run.py, or of the method's own code.

    `settings`: as of `make_learner`; shapes are the file's. It says so where a regulator is left out, which only
    `run.py finetune` takes. Raises UserError if the file can't be used or doesn't fit CLIP.
    """
    check_clip(clip)
    check_path(path)
    prompt = open_prompt(Path(path))
    if prompt.regulator:
        say(f"{path}: its regulator is left out; `run.py finetune --init` takes it")
    chosen = choose_settings(PromptSettings, prompt.method, settings, **prompt.shape)
    return learner_of(chosen, clip, prompt)


@fresh_state()
def save_prompt(learner: Learner, path: str | Path) -> None:
    """Write a file for `load_prompt`, or run.py's --prompt and --init. Raises UserError if it can't be written."""
    check_path(path)
    method, device = method_of(learner), next(learner.parameters()).device
    about = provenance(str(device)) | {"clip": getattr(learner, "clip", "")}
    identity = {"format": FORMAT, "made_with": getattr(learner, "made_with", {})}
    write_prompt(Path(path), method, learner.state_dict(), identity, about)


@fresh_state()
@torch.no_grad()
def classify(prompt: Learner | str, clip: CLIP, images: Sequence[Picture], names: Sequence[str]) -> Tensor:
    """Return probabilities [B, C], on the CPU, of C class names for each of B images.

    `prompt`: a learner, or words such as "a photo of a {}.". Raises UserError for bad images or names, and a
    learner that doesn't fit CLIP, and RunError for one whose logits aren't finite.
    """
    check_clip(clip)
    check(clip, images, names)
    let_round(clip.logit_scale.device, clip.tf32)
    if not isinstance(prompt, str):
        classifier = learnt_classifier(fitted_copy(prompt, clip), clip, names)
    elif "{}" in prompt:
        classifier = words_classifier(clip, prompt, names)
    else:
        raise UserError(f"{prompt!r}: words need {{}} for the class name, as in 'a photo of a {{}}.'; `load_prompt` "
                        "opens a file")
    probabilities = torch.cat([classifier(views).softmax(-1).cpu() for views in plain_views(clip, images)])
    if not probabilities.isfinite().all():
        raise RunError("the logits of images aren't all finite, so no probability is; make the prompt again")
    return probabilities


@fresh_state()
def meta_train(learner: Learner, clip: CLIP, tasks: Mapping[str, Labelled], report: Report = lambda numbers: None,
               **settings: Any) -> Learner:
    """Run Algorithm 1: return a new learner with the meta-prompt, learnt from this one's values.

    `tasks`: by name, the images, labels and class names of each; all images are used, and some class needs two.
    `report` gets every epoch's numbers: epoch, query_loss, zero_gradients (the tensors that learn nothing) and more.
    `settings`: as of `run.py meta`, but for those of `make_learner`. Raises UserError, before any training, for a bad
    task or setting and a learner that doesn't fit CLIP, and RunError for a loss that isn't finite.
    """
    learner, chosen = begin_training(MetaSettings, learner, clip, report, settings, shots=sys.maxsize)
    are_triples = isinstance(tasks, Mapping) and all(is_list(task) and len(task) == 3 for task in tasks.values())
    if not are_triples or not tasks:
        raise UserError("tasks: give a dict of one or more names, each with its images, labels and class names")
    for name, (images, labels, names) in tasks.items():
        check(clip, images, names, f"{name}: ")
        check_labels(labels, images, names, f"{name}: ")
    prepared = []
    for name, (images, labels, names) in tasks.items():
        views = plain_views(clip, images, f"{name}: ")
        prepared.append(make_task(learner, clip, name, names, views, labels))
    for state in meta.meta_train(learner, clip, prepared, chosen):
        report(state.numbers)
    learner.load_state_dict(state.params)
    return learner


@fresh_state()
def fine_tune(learner: Learner, clip: CLIP, images: Sequence[Picture], labels: Sequence[int], names: Sequence[str],
              report: Report = lambda numbers: None, **settings: Any) -> Learner:
    """Return a new learner, trained from this one's values on all of the images, which are augmented.

    `report` gets every epoch's numbers: epoch, loss, zero_gradients (the tensors that learn nothing) and more.
    `settings`: as of `run.py finetune`, but for those of `make_learner`. Raises UserError, before any training, for bad
    images, labels, names or settings and a learner that doesn't fit CLIP, and RunError for a loss that isn't finite.
    """
    learner, chosen = begin_training(FinetuneSettings, learner, clip, report, settings)
    check(clip, images, names)
    check_labels(labels, images, names)
    items = []
    for i, (image, label) in enumerate(zip(images, labels)):
        items.append(Item(np.asarray(opened(image, f"images[{i}]")), int(label)))
    batches = feed_of(clip).augmented(items, chosen.batch, chosen.seed, "")
    for state in finetune.finetune(learner, clip, learner.prepare(clip, names), batches, chosen):
        report(state.numbers)
    learner.load_state_dict(state.prompt)
    return learner


def begin_training(kind: type, learner: Learner, clip: CLIP, report: Report, given: dict[str, Any],
                   **usual: Any) -> tuple[Learner, Any]:
    """Return the learner to train, which is a copy, and the settings; have CUDA round as this CLIP wants it. Raises
    UserError if any of it can't be used."""
    check_clip(clip)
    if not callable(report):
        raise UserError(f"report: {type(report).__name__}; give a function of an epoch's numbers, or leave it out")
    chosen = choose_settings(kind, method_of(learner), given, **usual)
    let_round(clip.logit_scale.device, clip.tf32)
    learner = fitted_copy(learner, clip)
    learner.clip = clip.mark()  # of what it is going to be learnt with
    return learner, chosen


def choose_settings(kind: type, method: str, given: dict[str, Any], **usual: Any) -> Any:
    """Return settings as `method_settings` does. Raises UserError also for a name that isn't one of these settings."""
    known = {field.name for field in fields(kind)} - NOT_SET
    if kind is not PromptSettings:
        known -= {field.name for field in fields(PromptSettings)} - {"seed"}
    values = {}
    for name, value in given.items():
        if name not in known:
            raise UserError(f"{flag(name)}: not one of the settings here, which are {', '.join(sorted(known))}")
        values[name] = value.item() if isinstance(value, np.generic) else value
    chosen = method_settings(kind, method, values, **usual)
    if not 0 <= chosen.seed < 2**32:
        raise UserError(f"--seed {chosen.seed}: out of range; give 0 to {2**32 - 1}")
    return chosen


def method_of(learner: Learner) -> str:
    """Return the name of a learner's method. Raises UserError for something else than a learner."""
    for method in METHODS:
        if type(learner) is learner_class(method):
            return method
    raise UserError(f"{str(learner)[:40]!r}: not a learner; `make_learner` and `load_prompt` give one")


def fitted_copy(learner: Learner, clip: CLIP) -> Learner:
    """Return a copy of the learner on CLIP's device. Say it if it was learnt with other weights. Raises UserError if it
    doesn't fit CLIP."""
    method = method_of(learner)
    params = {name: value.cpu() for name, value in learner.state_dict().items()}
    identity = {"made_with": getattr(learner, "made_with", {})}
    prompt = PromptFile(Path("the learner"), method, params, identity, {"clip": getattr(learner, "clip", "")})
    return learner_of(PromptSettings(prompt.method, **prompt.shape), clip, prompt)
