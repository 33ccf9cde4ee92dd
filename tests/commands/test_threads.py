"""How long OpenMP's threads spin while they wait: a default, unless the person has chosen."""
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# run.py as a program, with a command that prints what torch would find: run.main isn't what is asked here.
SHOW = """
import os, runpy, sys
from mp import commands
commands.run = lambda *_: print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
runpy.run_path("run.py", run_name="__main__")
"""


@pytest.mark.parametrize("given, found", [({}, "1000 None"), ({"GOMP_SPINCOUNT": "7"}, "7 None"),
                                          ({"OMP_WAIT_POLICY": "active"}, "None active")])
def test_a_waiting_thread_sleeps_soon_unless_the_person_has_chosen(given, found):
    env = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    shown = subprocess.run([sys.executable, "-c", SHOW], cwd=ROOT, env=env | given, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == [*found.split(), "False"]  # libgomp, which torch loads, hasn't read it yet
