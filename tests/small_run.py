"""run.py with a suite so small that all it computes takes seconds: one epoch of everything, two training datasets. The
processes that it starts import this file, so they are as small."""
import sys

import run
from data import suite
from mp.commands import table
from mp.experiment import session
from mp.learners import METHODS

real = suite.open_suite


def small(*args):
    whole = real(*args)
    tasks = {} if whole.other_tasks else {"training": whole.training[2:4]}
    return whole._replace(meta_epochs=1, **tasks)


session.open_suite = table.open_suite = small
for name, row in METHODS.items():
    METHODS[name] = row._replace(finetune=row.finetune | {"epochs": 1, "batch": 16})

if __name__ == "__main__":
    run.end_when_interrupted()
    sys.exit(run.main(sys.argv[1:]))
