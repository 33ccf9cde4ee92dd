"""Locks where the system has none, and what killed writes leave where a process can't be asked after."""
import errno
import fcntl
import os
import subprocess
import sys

import pytest

from mp.runtime import files, interrupt
from tests.conftest import ROOT

# Imports all there is, and runs a command that takes locks.
WINDOWS = """
import importlib, pkgutil, sys
sys.modules.update(fcntl=None, resource=None)
import mp, run
for module in pkgutil.walk_packages(mp.__path__, "mp."):
    importlib.import_module(module.name)
sys.exit(run.main(["zeroshot", "--datasets", "aircraft", "textures"]))
"""


@pytest.fixture(autouse=True)
def nothing_said():
    files.say_once.cache_clear()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL])
@pytest.mark.parametrize("waits", [False, True])
def test_without_locks_the_work_is_done_and_it_is_said_once(number, waits, monkeypatch, tmp_path, capsys):
    def flock(lock, how):
        raise BlockingIOError if waits and how & fcntl.LOCK_NB else OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with files.locked(tmp_path / "folder/.lock"):
            files.write_json(tmp_path / "folder/result.json", 1)
    assert (tmp_path / "folder/result.json").read_text() == "1\n"
    said = [line for line in capsys.readouterr().err.splitlines() if "another process" not in line]
    assert said == [f"files can't be locked here ({os.strerror(number)}): two commands at a time may do the same work "
                    "twice; files are whole all the same"]


def test_an_error_of_the_work_is_no_error_of_the_lock(tmp_path, capsys):
    with pytest.raises(OSError, match="disk"), files.locked(tmp_path / ".lock"):
        raise OSError(errno.ENOSPC, "disk full")
    assert not capsys.readouterr().err


def test_a_system_without_fcntl_and_resource(tmp_path):
    ended = subprocess.run([sys.executable, "-c", WINDOWS], capture_output=True, text=True, cwd=tmp_path,
                           env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("files can't be locked here") == 1


def test_only_posix_can_ask_after_a_process(monkeypatch, tmp_path):
    """Elsewhere os.kill ends it."""
    asked = []
    (tmp_path / f".a.json.{files.platform.node()}-1.part").touch()
    monkeypatch.setattr(os, "kill", lambda *args: asked.append(args))
    files.sweep(tmp_path / "a.json")
    assert asked == [(1, 0)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        files.sweep(tmp_path / "a.json")
    assert asked == [(1, 0)]


def test_what_is_no_file_is_written_to_and_a_link_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_whole(tmp_path / "pipe", lambda part: part.write_text("all"))
    assert os.read(reader, 9) == b"all" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    files.write_whole(tmp_path / "link", lambda part: part.write_text("new"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe", "target"]


@pytest.mark.parametrize("arguments, says", [(["meta"], "the same command again to go on"), (["predict"], "nothing is kept"),
                                             (["meta", "--force"], "without --force to go on")])
def test_what_to_do_after_an_interruption(arguments, says):
    assert says in interrupt.advice(arguments)
