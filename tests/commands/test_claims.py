"""Claims' jobs in several processes, and where something goes wrong; its numbers are in tests/walks/test_claims.py."""
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from mp.commands import claims
from mp.experiment import jobs, places, training
from mp.experiment.arms import Arm, Job
from mp.report import findings
from mp.report.claims import Comparison
from mp.runtime import pool
from mp.runtime.errors import RunError, UserError
from mp.store.cells import Result
from tests.conftest import ROOT
from tests.walks import outputs
from tests.walks.small import run

CLAIMS = "claims --method coop --only c --seeds 1 2 --tasks pets --datasets cars --jobs"
TWO = [sys.executable, "-m", "tests.walks.small", *CLAIMS.split(), "2"]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}


def test_two_processes_print_what_one_does(tmp_path):
    """From files that the other reads, too; what they say is in a log."""
    both = subprocess.run(TWO, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=True)
    log = (tmp_path / "runs/mini/jobs.log").read_text()
    assert "meta-training" in log and "Traceback" not in both.stderr + log
    assert "learns 2; " in both.stderr and "tunes 4" in both.stderr
    before = outputs.everything(tmp_path)
    assert run(tmp_path, f"{CLAIMS} 1").out == both.stdout and outputs.everything(tmp_path) == before
    assert run(tmp_path, f"{CLAIMS} 1 --out alone").out == both.stdout


def test_a_log_that_is_not_whole_is_named(tmp_path, monkeypatch):
    """Also one that lost epochs, of whose numbers a smaller ‖G‖ would be said."""
    monkeypatch.setattr(places, "learnt_place", lambda *_: SimpleNamespace(prompt=tmp_path / "prompt.pt"))
    monkeypatch.setattr(claims.arms, "meta_settings", lambda *_: SimpleNamespace(epochs=2))
    session = SimpleNamespace(suite=None)
    good = '{"query_loss": 1.0, "grad_norm": 3.0, "clipped_norm": 1.0}\n'
    for text in (None, good + '{"gra', good + good.replace("3.0", "[]"), good + "1", good, "", good + good.replace("3.0", "NaN")):
        if text is not None:
            (tmp_path / "log.jsonl").write_text(text)
        with pytest.raises(UserError, match="its log of meta-training isn't whole; delete the folder"):
            claims.norms_of(session, Arm("coop"), 1)
    (tmp_path / "log.jsonl").write_text(2 * good)
    assert claims.norms_of(session, Arm("coop"), 1) == [3.0, 3.0]


def test_how_often_it_was_clipped_is_of_all_seeds_that_were_learnt(monkeypatch):
    monkeypatch.setattr(claims, "norms_of", lambda session, arm, seed: [1.0, 4.0 * seed])
    monkeypatch.setattr(claims.arms, "meta_settings", lambda *_: SimpleNamespace(clip_norm=5.0))
    session, results = SimpleNamespace(suite=None), SimpleNamespace(by_seed=lambda arm: {1: {}, 2: {}} if arm.learnt else {})
    rows = [Comparison("learnt", Arm("coop", learnt=(("clip_norm", 5.0),)), Arm(words="")),
            Comparison("diverged", Arm("coop", learnt=()), Arm(words=""))]
    assert claims.notes_of(session, results, rows) == {"learnt": "‖G‖ up to 8.0, clipped in 25% of epochs"}


def test_a_log_of_the_processes_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "jobs.log").mkdir()
    with pytest.raises(UserError, match="jobs.log: can't be written .*; delete it, or choose another --out"):
        with pool.open_pool(2, tmp_path / "jobs.log"):
            pass


def test_an_error_ends_the_processes(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(pool, "active_children", lambda: [SimpleNamespace(kill=lambda: ended.append(1))])
    before = dict(os.environ)
    with pytest.raises(UserError), pool.open_pool(2, tmp_path / "log"):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        raise UserError("bad")
    assert ended == [1] and os.environ == before


def test_a_process_that_is_killed_is_told(tmp_path):
    with pytest.raises(RunError, match="a process was killed, .* the same command goes on, try a smaller --jobs"):
        with pool.open_pool(2, tmp_path / "log") as run_all:
            list(run_all(os._exit, [9]))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_killed_it_leaves_no_process_and_no_noise(end, tmp_path):
    started = subprocess.Popen(TWO, cwd=tmp_path, env=ENV, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "runs/mini/jobs.log"
    # SIGKILL waits until a process writes there: one that is just being started would complain, and who could keep it?
    while not log.exists() or end == signal.SIGKILL and not log.stat().st_size:
        assert started.poll() is None
        time.sleep(0.05)
    started.send_signal(end)
    _, said = started.communicate(timeout=60)  # its processes hold the pipe, too
    assert started.returncode in (130, -signal.SIGKILL) and "Warning" not in said and "Traceback" not in said


def test_a_training_that_diverges_is_left_out_and_the_rest_goes_on(monkeypatch, capsys):
    """Its seed of that arm, as it is and tuned; where fine-tuning diverges, no average of that seed is made."""
    wild, learnt = Arm("coop", learnt=(("inner_lr", 9.0),)), Arm("coop", learnt=())
    wanted = [learnt, wild, wild._replace(tuned=()), learnt._replace(tuned=()), Arm(words="a {}.")]
    asked = []

    def do(session, job, force, leave_out, report):
        asked.append(job)
        assert leave_out
        if job == Job(wild, 2):
            return "epoch 3: the loss is nan"
        return "epoch 1: the loss is inf" if job == Job(wanted[2], 1, "b") else ""

    monkeypatch.setattr(jobs, "do", do)
    monkeypatch.setattr(jobs, "epochs_of", lambda session, job: 1)
    monkeypatch.setattr(jobs, "survey", lambda session, all_jobs, force: all_jobs)
    monkeypatch.setattr(jobs.places, "place", lambda session, job: SimpleNamespace(path=job.seed))
    monkeypatch.setattr(jobs.cells, "read", lambda seed: Result(None, {"accuracies": {"all": 50.0 + (seed or 0)}}))
    suite = SimpleNamespace(datasets=["a", "b"])
    session = SimpleNamespace(suite=suite, learns=True, forget_prompts=lambda: None)
    args = SimpleNamespace(seeds=[1, 2], force=False)
    results = jobs.do_all(session, args, wanted, leave_out=True)
    assert sorted(results.by_seed(wild)) == [1] and sorted(results.by_seed(learnt)) == [1, 2]
    assert results.by_seed(wanted[-1]) == {None: dict.fromkeys("ab", {"all": 50.0})}
    assert results.by_seed(wanted[2]) == {1: {"a": {"all": 51.0}}} and results.by_seed(wanted[3])[2].keys() == {"a", "b"}
    assert not any(job.dataset and job.arm.learnt == wild.learnt and job.seed == 2 for job in asked)
    said = capsys.readouterr().err
    assert "coop, seed 2: left out: epoch 3: the loss is nan" in said and "coop, b, seed 1: left out: epoch 1" in said
    (_, cells), = findings.compare([Comparison("x", wanted[2], wanted[-1])], results.by_seed, {"a": "train", "b": "train"})
    assert cells["Average (train)", "all"] is None


def test_a_training_that_diverges_without_leave_to_go_on_ends_the_run(monkeypatch):
    def learn(*_):
        raise RunError("epoch 3: the loss is nan")

    monkeypatch.setattr(training, "learn", learn)
    with pytest.raises(RunError, match="the loss is nan"):
        jobs.do(None, Job(Arm("coop", learnt=()), 1), False, leave_out=False, report=None)
    assert jobs.do(None, Job(Arm("coop", learnt=()), 1), False, leave_out=True, report=None) == "epoch 3: the loss is nan"
