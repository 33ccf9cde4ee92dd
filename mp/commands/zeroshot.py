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
    """Evaluate what isn't there yet, and print all accuracies."""
    check(args)
    session = open_session(args)
    columns = {}
    for prompt in dict.fromkeys(args.prompt):
        if prompt == "handcrafted":  # which is shown anyway
            continue
        arm = arm_of(session, args, prompt)
        title = prompt
        if prompt == "meta" and f"meta {arm.method}" not in args.prompt:  # which a file may be called
            title = f"meta {arm.method}"
        columns[title] = arm
    results = do_all(session, args, [HANDCRAFTED, *columns.values()])
    print(accuracies.table(session.suite.roles, results, columns))


def check(args: Namespace) -> None:
    """Raise UserError, before anything is opened, for words without {}, and for options that play no part."""
    files = [prompt for prompt in args.prompt if is_file(prompt)]
    if "meta" in args.prompt:
        return
    of_meta = list(given_settings(PromptSettings, args))
    if args.seeds != [1]:
        of_meta.append("seeds")
    if of_meta:
        raise UserError(f"{flag(of_meta[0])}: plays no part without --prompt meta; leave it out")
    if args.method and not files:
        raise UserError(f"--method {args.method}: plays no part in words; leave it out")


def arm_of(session: Session, args: Namespace, prompt: str) -> Arm:
    """Return the arm that a --prompt stands for."""
    if prompt == "meta":
        shape = given_settings(PromptSettings, args)
        return Arm(method_of(args), learnt=changed(**shape))
    if is_file(prompt):
        file = session.open_prompt(prompt)
        return Arm(method_of(args, file), file=prompt)
    return HANDCRAFTED if prompt == "handcrafted" else Arm(words=prompt)


def is_file(prompt: str) -> bool:
    """Whether a --prompt means a file. Raises UserError for words without a place for the class name."""
    if prompt in ("meta", "handcrafted") or "{}" in prompt:
        return False
    if " " in prompt and not cells.complete(Path(prompt)).exists():
        raise UserError(f"--prompt {prompt!r}: no such file; words need {{}} for the class name, as in "
                        "'a photo of a {}.'")
    return True
