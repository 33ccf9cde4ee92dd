"""The columns are the paper's, and arms."""
import csv
import subprocess
import sys

import pytest

from mp.experiment.arms import Arm
from mp.report import columns
from tests.conftest import ROOT
from tests.report.tables import COLUMNS, KEYS


def test_columns_are_the_papers_in_its_order():
    with open(columns.PAPER, newline="") as f:
        papers = next(csv.reader(f))[2:]
    assert [key for key in KEYS if key in papers] == papers
    baselines = {key: COLUMNS[key].baseline.key for key in papers if COLUMNS[key].baseline}
    assert baselines == {
        "zeroshot/mp-coop": "zeroshot/hand", "zeroshot/mp-cocoop": "zeroshot/hand", "zeroshot/mp-promptsrc": "zeroshot/hand",
        "finetune/coop/mp": "finetune/coop/hand", "finetune/cocoop/mp": "finetune/cocoop/hand",
        "finetune/promptsrc/mp": "finetune/promptsrc/hand"}


def test_a_column_is_an_arm_with_a_title():
    """None: as it is, or not learnt; (): as usual."""
    found = {column.key: (column.group, column.title, column.arm) for column in columns.make_columns(["coop"])}
    assert found == {
        "zeroshot/hand": ("zero-shot", "H", Arm(words="")),
        "zeroshot/mp-coop": ("zero-shot", "CoOp MP", Arm("coop", learnt=())),
        "finetune/coop/hand": ("fine-tuned", "CoOp H", Arm("coop", tuned=())),
        "finetune/coop/mp": ("fine-tuned", "CoOp MP", Arm("coop", learnt=(), tuned=()))}
    other = {column.key: column.arm for column in columns.make_columns(["maple"], "new")}
    assert other["finetune/maple/mp"] == Arm("maple", learnt=(), tuned=(("classes", "new"),))
    assert other["zeroshot/mp-maple"] == Arm("maple", learnt=())


@pytest.mark.parametrize("source", ["", "its own paper"])
def test_a_new_method_has_its_columns_by_its_line_among_the_methods(source):
    """Unless the line says that it isn't of this paper."""
    code = """
from mp.learners import METHODS, Method
METHODS["another"] = Method("Another", "coop.CoOp", dict(inner_lr=0.01, batch=8), dict(batch=2), source={!r})
from mp.report.columns import make_columns
print(*(column.key for column in make_columns() if column.method == "another"))
"""
    ended = subprocess.run([sys.executable, "-c", code.format(source)], cwd=ROOT, capture_output=True, text=True, check=True)
    own = ["zeroshot/mp-another", "finetune/another/hand", "finetune/another/mp"]
    assert ended.stdout.split() == ([] if source else own)
