"""run.py finetune: fine-tune on each dataset (mp/finetune.py), from a handcrafted or a learnt prompt; accuracies."""
from argparse import Namespace
from pathlib import Path

from mp.commands.options import given_settings, method_of
from mp.experiment.arms import HANDCRAFTED, Arm, changed, tuning_settings
from mp.experiment.jobs import do_all
from mp.experiment.session import Session, open_session
from mp.learners.settings import in_effect
from mp.report import accuracies
from mp.runtime.progress import say
from mp.settings import FinetuneSettings, PromptSettings, in_words


def command(args: Namespace) -> None:
    """Fine-tune and evaluate what isn't there yet, and print all accuracies."""
    session = open_session(args)
    arm = arm_of(session, args)
    title = f"{arm.method} from {Path(*Path(args.init).parts[-2:])}"  # every prompt.pt is in a folder that says which
    say(f"fine-tuning {title}: {in_words(in_effect(tuning_settings(arm, args.seeds[0])))}")
    results = do_all(session, args, [HANDCRAFTED, arm])
    print(accuracies.table(session.suite.roles, results, {title: arm}))


def arm_of(session: Session, args: Namespace) -> Arm:
    """Return the arm that --init and the settings stand for. A file's prompt keeps its shape."""
    settings = given_settings(FinetuneSettings, args)
    if args.init == "handcrafted":
        return Arm(method_of(args), tuned=changed(**settings))
    if args.init == "meta":
        shape = given_settings(PromptSettings, args)
        return Arm(method_of(args), learnt=changed(**shape), tuned=changed(**settings))
    file = session.open_prompt(args.init)
    method = method_of(args, file)
    settings = file.shape | settings
    return Arm(method, file=args.init, tuned=changed(**settings))
