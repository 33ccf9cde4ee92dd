"""run.py zeroshot: accuracies of prompts as they are, beside the handcrafted ones."""
import hashlib
import os
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

from mp.commands import report
from mp.commands.options import given_settings
from mp.commands.session import Session, method_of, open_session
from mp.evaluate import TestSet
from mp.learners import Learner
from mp.learners.settings import method_settings
from mp.maml import Params
from mp.prompts import PromptFile, learner_of, open_prompt
from mp.runtime.errors import UserError
from mp.runtime.progress import Progress
from mp.settings import PromptSettings
from mp.store import results

KIND = "zero-shot result"


class Prompt(NamedTuple):
    """A prompt to evaluate: a learner with its tensors, or words with {} for the class; neither: each dataset's own."""
    label: str                       # of its results' folder
    words: str | None = None
    learner: Learner | None = None
    fingerprint: str | None = None   # of the learner's tensors
    seed: int | None = None          # of a usual meta-prompt, or of a start that is partly random
    regulator: Params = {}           # φ, if one was learnt with it


HANDCRAFTED = Prompt("handcrafted")


def command(args: Namespace) -> None:
    files = {given: open_prompt(Path(given)) for given in args.prompt if is_file(given)}
    # Bad settings are refused also where no prompt asks for them.
    shape = given_settings(PromptSettings, args)
    runs = [method_settings(PromptSettings, method_of(args), shape, seed=seed) for seed in args.seeds]
    session = open_session(args)
    asked = {}  # title -> prompts, one per seed
    for given in dict.fromkeys(args.prompt):
        if given == "meta":
            asked[f"meta {runs[0].method}"] = [learnt_prompt(session, given, settings) for settings in runs]
        elif "{}" in given:
            asked[given] = [words_prompt(given)]
        elif given in files:
            file = files[given]
            own = method_settings(PromptSettings, method_of(args, file), shape, **file.shape, seed=args.seeds[0])
            asked[given] = [learnt_prompt(session, file, own)]
    compare(session, asked, args.force)


def words_prompt(words: str) -> Prompt:
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()
    return Prompt(f"words-{digest[:8]}", words)


def is_file(given: str) -> bool:
    """Whether a --prompt means a file. Raises UserError for words without a place for the class name."""
    if given in ("meta", "handcrafted") or "{}" in given:
        return False
    if " " in given and not os.path.exists(given):
        raise UserError(f"--prompt {given!r}: no such file; words need {{}} for the class name, as in "
                        "'a photo of a {}.'")
    return True


def learnt_prompt(session: Session, given: PromptFile | str, settings: PromptSettings) -> Prompt:
    """Of a file, or of "meta". Its results are named after the method and the seed if it is the method's usual
    meta-prompt, else after the method and its fingerprint."""
    file = session.meta_prompt(settings) if given == "meta" else given
    learner = learner_of(settings, session.clip, file)
    if given == "meta":
        return Prompt(f"meta-{settings.method}", None, learner, file.fingerprint, settings.seed)
    label = f"{settings.method}-{file.fingerprint[:8]}"
    return Prompt(label, None, learner, file.fingerprint, regulator=file.regulator)


def results_folder(session: Session, prompt: Prompt) -> Path:
    """Below it are the prompt's results: a usual meta-prompt's are kept with it, those of all others together."""
    return session.out if prompt.seed is None else session.tasks_out


def evaluate(session: Session, test: TestSet, prompt: Prompt, force: bool = False) -> dict[str, float]:
    """The accuracies of one prompt on one dataset, from its result file if that is there."""
    words = prompt.words
    if prompt.learner is None and words is None:
        words = test.dataset.template
    identity = session.identity(tested_on=test.dataset, prompt=words or prompt.fingerprint)

    def compute() -> dict:
        return {"accuracies": test.handcrafted(words) if words else test.learnt(prompt.learner)}

    path = results.zeroshot_file(results_folder(session, prompt), prompt.label, test.dataset.name, prompt.seed)
    return results.cell(path, KIND, identity, session.provenance, compute, force)["accuracies"]


def compare(session: Session, asked: dict[str, list[Prompt]], force: bool = False) -> None:
    """Evaluate every prompt, one per seed and title, on every dataset; keep the results and print them side by side."""
    handcrafted = {}
    columns = {title: [{} for _ in prompts] for title, prompts in asked.items()}
    progress, tests = Progress("evaluating dataset"), [session.test_set(name) for name in session.suite.datasets]
    for number, test in enumerate(tests, 1):
        name = test.dataset.name
        handcrafted[name] = evaluate(session, test, HANDCRAFTED, force)
        for title, prompts in asked.items():
            for column, prompt in zip(columns[title], prompts):
                column[name] = evaluate(session, test, prompt, force)
        progress.update(number, len(tests), name)
    print(report.table(session.suite.roles, handcrafted, columns))
