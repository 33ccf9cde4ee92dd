"""run.py zeroshot: accuracies of prompts as they are, beside the handcrafted ones."""
import os
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import nn

from mp.commands import report
from mp.store import cache, promptfile, results
from mp.runtime.errors import UserError
from mp.evaluate import TestSet
from mp.runtime.progress import Progress
from mp.commands.session import Session, open_session


@dataclass(frozen=True)
class Shape:
    """What it takes to build a learner."""
    method: str
    depth: int
    length: int
    seed: int


class Prompt(NamedTuple):
    """A prompt to evaluate: a learner with its file, or words with {} for the class; neither: each dataset's own."""
    label: str  # of its results' folder
    words: str | None = None
    learner: nn.Module | None = None
    file: Path | None = None
    seed: int | None = None


HANDCRAFTED = Prompt("handcrafted")


def command(args: Namespace) -> None:
    session = open_session(args)
    asked, files_asked = {}, {}  # title -> prompts, one per seed; title -> files
    for prompt in args.prompt:
        if "{}" in prompt:
            asked[prompt] = [Prompt(f"words-{cache.digest(prompt)[:8]}", prompt)]
        elif prompt == "meta":
            files_asked[f"meta {args.method}"] = [session.find_prompt(prompt, args.method, s) for s in args.seeds]
        elif " " in prompt and not os.path.exists(prompt):
            raise UserError(f"--prompt {prompt!r}: no such file; words need {{}} for the class name, as in "
                            "'a photo of a {}.'")
        elif prompt != "handcrafted":
            path = session.find_prompt(prompt, args.method, args.seeds[0])
            files_asked[f"{path.parent.name}/{path.name}"] = [path]
    shape = session.fitted(Shape(args.method, args.depth, args.length, args.seeds[0]), tell=bool(files_asked))
    for title, paths in files_asked.items():
        asked[title] = [learnt_prompt(session, path, shape, seed) for path, seed in zip(paths, args.seeds)]
    compare(session, asked, args.force)


def learnt_prompt(session: Session, path: Path, shape, seed: int) -> Prompt:
    """A prompt file, ready to evaluate. Its results are named after its folder if `run.py meta` made it."""
    learner = session.learner_from(path, shape)
    usual = path.resolve() == session.meta_prompt(shape.method, seed).resolve()
    label = f"meta-{shape.method}" if usual else f"{shape.method}-{promptfile.sha256(path)[:8]}"
    return Prompt(label, None, learner, path, seed)


def evaluate(session: Session, test: TestSet, prompt: Prompt, force: bool = False) -> dict:
    """The result of one prompt on one dataset, from its file if that is there."""
    words = prompt.words or (None if prompt.learner else test.dataset.template)
    made_from = session.made_from(test.dataset) | {
        "prompt": words or promptfile.sha256(prompt.file), "seed": prompt.seed}

    def compute() -> dict:
        return {"accuracies": test.handcrafted(words) if words else test.learnt(prompt.learner)}

    path = result_file(session.out, prompt.label, test.dataset.name, prompt.seed)
    return results.cell(path, made_from, session.made_by, compute, force)


def result_file(out: Path, label: str, dataset: str, seed: int | None) -> Path:
    return out / "zeroshot" / label / f"{dataset.replace(' ', '')}{f'-seed{seed}' if seed is not None else ''}.json"


def compare(session: Session, asked: dict[str, list[Prompt]], force: bool = False) -> None:
    """Evaluate every prompt, one per seed and title, on every dataset; keep the results and print them side by side."""
    handcrafted, columns = {}, {title: [{} for _ in seeds] for title, seeds in asked.items()}
    progress, tests = Progress("evaluating dataset"), session.test_sets()
    for number, test in enumerate(tests, 1):
        name = test.dataset.name
        handcrafted[name] = evaluate(session, test, HANDCRAFTED, force)["accuracies"]
        for title, prompts in asked.items():
            for column, prompt in zip(columns[title], prompts):
                column[name] = evaluate(session, test, prompt, force)["accuracies"]
        progress.update(number, len(tests), name)
    print(report.table({test.dataset.name: test.dataset.role for test in tests}, handcrafted, columns))
