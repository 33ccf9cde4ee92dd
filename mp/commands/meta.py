"""run.py meta: learn a meta-prompt (Algorithm 1: mp/meta.py) for each seed, then compare it with handcrafted ones."""
from argparse import Namespace

from mp.commands.options import given_settings, method_of
from mp.experiment.arms import HANDCRAFTED, Arm, changed, unusual_learning
from mp.experiment.jobs import do_all
from mp.experiment.session import open_session
from mp.report import accuracies
from mp.runtime.processes import first_process
from mp.settings import MetaSettings


def command(args: Namespace) -> None:
    """Learn and evaluate what isn't there yet, and print all accuracies. With torchrun, the first process prints."""
    session = open_session(args, learns=True)
    settings = given_settings(MetaSettings, args)
    arm = Arm(method_of(args), learnt=changed(**settings))
    results = do_all(session, args, [HANDCRAFTED, arm])
    if first_process():
        title = f"{arm.method}{unusual_learning(session.suite, arm)}"
        print(accuracies.table(session.suite.roles, results, {title: arm}))
