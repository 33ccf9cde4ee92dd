"""run.py as a program: its help, its start, its streams, and that another process writes the same bytes.

What it makes of bad options and files is in tests/robustness, what its commands compute in tests/walks.
"""
import json
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.walks import outputs
from tests.walks.small import run

INPUTS = "--data --weights --workers --tasks --datasets"
MACHINE = "--device --precision --memory"
ALL = f"{INPUTS} {MACHINE} --seeds --out --force"
HELP = {
    "data": f"--check {INPUTS}",
    "meta": "--method --depth --length --epochs --inner-steps --inner-lr --meta-lr --clip-norm --shots --support --batch "
            f"--query-batch --first-order --regulator --sum-tasks {ALL}",
    "zeroshot": f"--prompt --method --depth --length {ALL}",
    "predict": f"--names --names-from --names-of --prompt --method --out --top --format --data --weights --workers --tasks {MACHINE}",
    "finetune": "--init --method --depth --length --classes --epochs --lr --batch --shots --momentum --weight-decay --gpa-mean "
                f"--gpa-std {ALL}",
    "table": f"--run --absolute --jobs --paper --format --to --classes --methods {ALL}",
    "claims": f"--method --only --jobs {ALL}", "show": "--export --data --weights",
}
SHOW_HELP = """
import contextlib, sys, run
for command in sys.argv[1:]:
    with contextlib.suppress(SystemExit):
        run.main([command, "--help"])
    print("END")
print({"torch", "numpy"} & sys.modules.keys())"""


def test_help_names_every_option_and_needs_no_torch():
    command = [sys.executable, "-c", SHOW_HELP, *HELP]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    *helps, last = shown.split("END\n")
    assert last == "set()\n" and "%%" not in shown
    for options, text in zip(HELP.values(), helps, strict=True):
        assert {*options.split(), "--help"} == set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, re.MULTILINE))


# run.py as a program, with a command that prints what torch would find: run.main isn't what is asked here.
SHOW_THREADS = """
import os, runpy, sys
from mp import commands
commands.run = lambda *_: print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
runpy.run_path("run.py", run_name="__main__")"""


@pytest.mark.parametrize("given, expected", [
    ({}, "1000 None"), ({"GOMP_SPINCOUNT": "7"}, "7 None"), ({"OMP_WAIT_POLICY": "active"}, "None active")])
def test_a_waiting_thread_sleeps_soon_unless_the_person_has_chosen(given, expected):
    env = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    shown = subprocess.run([sys.executable, "-c", SHOW_THREADS], cwd=ROOT, env=env | given, capture_output=True, text=True,
                           check=True)
    assert shown.stdout.split() == [*expected.split(), "False"]  # libgomp, which torch loads, hasn't read it yet


SHOW_GARBAGE = """
import atexit, gc, runpy, sys
atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 10**5, file=sys.stderr))
runpy.run_path("run.py", run_name="__main__")"""


def test_what_it_imports_is_never_looked_through_for_garbage():
    command = [sys.executable, "-c", SHOW_GARBAGE, "data", "--datasets", "pets"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search("^pets +ready", ended.stdout, re.MULTILINE) and ended.stderr == "True True\n"


@pytest.mark.parametrize("arguments, closed, code", [
    ("--datasets pets", ">&-", 0), ("--datasets pets", "2>&-", 0), ("--datasets nowhere", ">&- 2>&-", 2)])
def test_closed_streams(arguments, closed, code, tmp_path):
    command = f"{sys.executable} {ROOT / 'run.py'} table {arguments} {closed}"
    ended = subprocess.run(command, cwd=tmp_path, shell=True, capture_output=True)
    assert ended.returncode == code and b"Traceback" not in ended.stderr


def test_a_reader_that_stops_reading_is_no_error_to_speak_of(tmp_path):
    """As with `| head`."""
    command = [sys.executable, str(ROOT / "run.py"), "table"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1 and "roken pipe" not in said and "Traceback" not in said


def test_another_process_writes_the_same_bytes(tmp_path):
    """One whose hashes are others: no order of a set is in a file."""
    command, places = "meta --method coop --tasks pets flowers --datasets cars", (tmp_path / "here", tmp_path / "there")
    for place in places:
        place.mkdir()
    run(places[0], command)
    subprocess.run([sys.executable, "-m", "tests.walks.small", *command.split()], cwd=places[1], check=True,
                   env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}, capture_output=True)
    ours, theirs = ({path.relative_to(place): content for path, (_, content) in outputs.everything(place).items()}
                    for place in places)
    assert ours.keys() == theirs.keys() and len(ours) == 5
    for path, content in ours.items():
        if path.suffix != ".json":
            if path.name != "log.jsonl":
                assert content == theirs[path]
            continue
        about = [json.loads(text) for text in (content, theirs[path])]
        for part in about:
            part["provenance"].pop("seconds", None)
        assert about[0] == about[1]
