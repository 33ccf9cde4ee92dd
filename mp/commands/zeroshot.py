"""run.py zeroshot: accuracies of prompts as they are, beside the handcrafted ones."""
from argparse import Namespace
from pathlib import Path

from mp.commands.options import given_settings, method_of
from mp.experiment.arms import HANDCRAFTED, Arm, changed
from mp.experiment.jobs import do_all
from mp.experiment.session import Session, open_session
from mp.report import accuracies
from mp.runtime.errors import UserError
from mp.settings import PromptSettings, flag
from mp.store import cells


def command(args: Namespace) -> None:
    check(args)
    session = open_session(args)
    columns = {}
    for prompt in dict.fromkeys(args.prompt):
        if prompt != "handcrafted":
            arm = arm_of(session, args, prompt)
            columns[f"meta {arm.method}" if prompt == "meta" else prompt] = arm
    results = do_all(session, args, [HANDCRAFTED, *columns.values()])
    print(accuracies.table(session.suite.roles, results, columns))


def check(args: Namespace) -> None:
    """Raise UserError, before anything is opened, for words without {}, and for options that play no part."""
    files = [prompt for prompt in args.prompt if is_file(prompt)]
    if "meta" in args.prompt:
        return
    for name in given_settings(PromptSettings, args):
        raise UserError(f"{flag(name)}: plays no part without --prompt meta; leave it out")
    if args.seeds != [1]:
        raise UserError("--seeds: plays no part without --prompt meta; leave it out")
    if args.method and not files:
        raise UserError(f"--method {args.method}: plays no part in words; leave it out")


def arm_of(session: Session, args: Namespace, prompt: str) -> Arm:
    """Return the arm that a --prompt stands for."""
    if prompt == "meta":
        return Arm(method_of(args), learnt=changed(**given_settings(PromptSettings, args)))
    if is_file(prompt):
        return Arm(method_of(args, session.open_prompt(prompt)), file=prompt)
    return HANDCRAFTED if prompt == "handcrafted" else Arm(words=prompt)


def is_file(prompt: str) -> bool:
    """Whether a --prompt means a file. Raises UserError for words without a place for the class name."""
    if prompt in ("meta", "handcrafted") or "{}" in prompt:
        return False
    if " " in prompt and not cells.complete(Path(prompt)).exists():
        raise UserError(f"--prompt {prompt!r}: no such file; words need {{}} for the class name, as in "
                        "'a photo of a {}.'")
    return True
