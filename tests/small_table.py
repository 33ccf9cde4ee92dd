"""run.py with a suite so small that a whole table takes seconds: one epoch of everything on two datasets."""
import sys

from data import suite
from mp import session, table
from mp.settings import FINETUNE

if __name__ == "__main__":
    import run

    def small(*args):
        whole = suite.open_suite(*args)
        return whole._replace(meta_epochs=1, training=whole.training[2:4])

    session.open_suite = table.open_suite = small
    for method, epochs in (("coop", 1), ("cocoop", 1), ("promptsrc", 14)):  # GPA averages around epoch 15
        FINETUNE[method].update(epochs=epochs, batch=16)
    run.end_when_interrupted()
    sys.exit(run.main(sys.argv[1:]))
