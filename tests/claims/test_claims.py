"""run.py claims: what it prints against the results on disk, run again, and from two processes."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from statistics import fmean
from types import SimpleNamespace

import pytest
from PIL import Image

import run as program
from data import suite
from mp.commands import claims, session
from mp.experiment.arms import Arm
from mp.learners import METHODS
from mp.report import findings
from mp.report.claims import TITLES, Comparison
from mp.runtime import pool
from mp.runtime.errors import RunError, UserError
from tests.conftest import ROOT

COMMAND = [sys.executable, "-m", "tests.claims.small_claims", "claims", "--method", "coop", "--seeds", "1", "2",
           "--datasets", "aircraft", "textures"]


def run(out, *more):
    return subprocess.run([*COMMAND, "--out", str(out), *more], cwd=ROOT, capture_output=True, text=True, check=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.fixture
def again(monkeypatch, capsys):
    """What one process prints, here."""
    def call(out, *more):
        assert program.main([*COMMAND[COMMAND.index("claims") :], "--out", str(out), "--jobs", "1", *more]) == 0
        return capsys.readouterr().out

    monkeypatch.setattr(session, "open_suite", lambda *args: suite.open_suite(*args)._replace(
        meta_epochs=1, training=suite.open_suite(None).training[2:3]))
    short = METHODS["coop"].finetune | {"epochs": 1, "batch": 16}
    monkeypatch.setitem(METHODS, "coop", METHODS["coop"]._replace(finetune=short))
    return call


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    out = tmp_path_factory.mktemp("claims")
    return out, run(out, "--jobs", "2")


def stamps(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".json", ".pt")}


def test_every_claim_has_its_table_and_its_sentence(once):
    out, ended = once
    text = ended.stdout
    for claim, title in TITLES.items():
        assert f"({claim}) {title}: coop, seeds 1 2" in text
    assert text.count("On held-out datasets: all classes, ") == 2 and text.count("On held-out datasets: base classes, ") == 1 and "clipped in" in text and "numbers more than the prompt's 512" in text
    for row in ("first-order MAML", "8 inner steps", "plain multi-task training", "γ = 0.2, 24 α, over γ = inf, 24 α", "through it"):
        assert row in text
    said = (out / "mini" / "claims.log").read_text()
    assert "meta-training" in said and "Traceback" not in ended.stderr + said


def test_a_number_is_the_mean_of_the_differences_on_disk(once):
    out, ended = once

    def accuracy(path):
        return json.loads((out / "mini" / path).read_text())["accuracies"]

    line = next(line for line in ended.stdout.splitlines() if line.startswith("over handcrafted templates"))
    means = [float(cell.split("±")[0]) for cell in line.split()[4:]]
    expected = []
    for names in (["aircraft"], ["textures"]):
        for part in ("base", "new", "all"):
            gains = [accuracy(f"zeroshot/meta-coop/{name}-seed{seed}.json")[part] - accuracy(f"zeroshot/handcrafted/{name}.json")[part]
                     for name in names for seed in (1, 2)]
            expected.append(fmean(gains))
    assert line.split()[3] == "2" and [abs(a - b) < 0.051 for a, b in zip(means, expected, strict=True)] == [True] * 6


def test_again_it_reads_what_is_there_and_one_process_prints_the_same(once, again):
    out, ended = once
    before = stamps(out)
    assert again(out) == ended.stdout and stamps(out) == before


def test_a_claim_alone(once, again):
    out, ended = once
    before = stamps(out)
    alone = again(out, "--only", "c")
    assert alone.startswith("(c) ") and "(a)" not in alone and stamps(out) == before
    body = ended.stdout[ended.stdout.index("(c) ") :]
    assert alone == body


def test_one_seed_is_no_evidence(once, again):
    out, _ = once
    text = again(out, "--seeds", "1")
    assert "one seed, so nothing is shown" in text and "not shown" not in text and "better" not in text


def test_the_wording_is_chosen_on_the_tasks_whatever_is_evaluated_on(once, again):
    out, ended = once
    line = 'Of 8 plain wordings, "an image of a {}." is the best on the tasks of meta-training.'
    assert line in ended.stdout
    alone = again(out, "--datasets", "textures", "--only", "a")
    assert line in alone and 'over "an image of a {}."' in alone


def test_force_computes_again(once, again, tmp_path):
    out = shutil.copytree(once[0], tmp_path / "again")
    before = stamps(out)
    again(out, "--only", "c", "--seeds", "1", "--datasets", "textures", "--force")
    written = {str(path.relative_to(out / "mini")) for path, stamp in stamps(out).items() if stamp != before[path]}
    assert {"meta/coop-seed1/prompt.pt", "zeroshot/start-coop/textures-seed1.json", "zeroshot/meta-coop/textures-seed1.json",
            "finetune/coop-handcrafted-base/textures-seed1.json", "finetune/coop-meta-base/textures-seed1.json"} <= written


def test_what_is_only_evaluated_may_have_two_classes(once, again, tmp_path):
    for name in ("cat", "dog"):
        for number in range(4):
            file = tmp_path / "pets of mine" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (60 * number, 90, 20)).save(file)
    own = ["--datasets", str(tmp_path / "pets of mine"), "--seeds", "1"]
    assert "over first-order MAML" in again(once[0], "--only", "a", *own)


def test_a_log_that_cannot_be_read_is_named(tmp_path):
    """Also one that lost epochs, of whose numbers a smaller ‖G‖ would be said."""
    good = '{"grad_norm": 1.0}\n'
    for text in (None, good + '{"gra', good + '{"grad_norm": []}', good + "1", good, ""):
        if text is not None:
            (tmp_path / "log.jsonl").write_text(text)
        with pytest.raises(UserError, match="log.jsonl: no log of meta-training .*; delete its folder, and"):
            claims.norms_of(tmp_path / "prompt.pt", 2)
    (tmp_path / "log.jsonl").write_text(2 * good)
    assert claims.norms_of(tmp_path / "prompt.pt", 2) == [1.0, 1.0]


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "mini" / "claims.log").mkdir(parents=True)
    with pytest.raises(UserError, match="claims.log: can't be written .*; delete it, or choose another --out"):
        with pool.open_pool(2, tmp_path / "mini" / "claims.log"):
            pass


def test_what_was_tuned_otherwise_is_refused_before_any_work(again, tmp_path, capsys):
    """Hours of meta-training would come before the one result that claims can't take."""
    more = ["--datasets", "textures", "--out", str(tmp_path)]
    assert program.main(["finetune", "--method", "coop", "--lr", "0.1", *more]) == 0
    capsys.readouterr()
    assert program.main(["claims", "--method", "coop", "--only", "c", "--jobs", "1", *more]) == 2
    said = capsys.readouterr().err
    assert "textures-seed1.json: made otherwise: settings.lr 0.1 (now 0.002)" in said and "to replace that one, delete it" in said
    assert "meta-training" not in said and not (tmp_path / "mini" / "meta").exists()


def test_an_error_ends_the_processes(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(pool, "active_children", lambda: [SimpleNamespace(kill=lambda: ended.append(1))])
    before = dict(os.environ)
    with pytest.raises(UserError), claims.workers(SimpleNamespace(out=tmp_path), Namespace(jobs=2)):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        raise UserError("bad")
    assert ended == [1] and os.environ == before


def test_a_process_that_is_killed_is_told(tmp_path):
    with pytest.raises(RunError, match="a process was killed, .* the same command goes on, try a smaller --jobs"):
        with pool.open_pool(2, tmp_path / "log") as run:
            list(run(os._exit, [9]))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_killed_it_leaves_no_process_and_no_noise(end, tmp_path):
    started = subprocess.Popen([*COMMAND, "--out", str(tmp_path), "--jobs", "2"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "mini" / "claims.log"
    # SIGKILL waits until a process writes there: one that is just being started would complain, and who could keep it?
    while not log.exists() or end == signal.SIGKILL and not log.stat().st_size:
        assert started.poll() is None
        time.sleep(0.05)
    started.send_signal(end)
    _, said = started.communicate(timeout=60)  # its processes hold the pipe, too
    assert started.returncode in (130, -signal.SIGKILL) and "Warning" not in said and "Traceback" not in said


def test_a_training_that_diverges_is_left_out_and_the_rest_goes_on(capsys):
    """Its seed of that arm, as it is and tuned; where fine-tuning diverges, no average of that seed is made."""
    wild, learnt = Arm("coop", learnt=(("inner_lr", 9.0),)), Arm("coop", learnt=())
    wanted = [learnt, wild, wild._replace(tuned=()), learnt._replace(tuned=()), Arm(words="a {}.")]
    asked = []

    def run(label, jobs):
        asked.extend(jobs)
        def result(job):
            kind, arm, seed, name = job
            if kind == "learn":
                return "epoch 3: the loss is nan" if arm.learnt == wild.learnt and seed == 2 else None
            return "epoch 1: the loss is inf" if (arm.tuned, name, seed) == ((), "b", 1) else {"all": 50.0 + seed if seed else 50.0}
        return claims.finished(label, jobs, ((job, (result(job), 0.0)) for job in jobs))

    session = SimpleNamespace(suite=SimpleNamespace(datasets=["a", "b"]))
    found = claims.compute(run, session, wanted, [1, 2])
    assert sorted(found[wild]) == [1] and sorted(found[learnt]) == [1, 2] and found[wanted[-1]] == {None: dict.fromkeys("ab", {"all": 50.0})}
    assert found[wanted[2]] == {1: {"a": {"all": 51.0}}} and found[wanted[3]][2].keys() == {"a", "b"}
    assert not any(kind == "evaluate" and arm.learnt == wild.learnt and seed == 2 for kind, arm, seed, _ in asked)
    said = capsys.readouterr().err
    assert "inner_lr 9, seed 2: left out: epoch 3: the loss is nan" in said and "inner_lr 9, fine-tuned, b, seed 1: left out: epoch 1" in said
    (_, cells), = findings.compare([Comparison("x", wanted[2], wanted[-1])], found.get, {"a": "train", "b": "train"})
    assert cells["Average (train)", "all"] is None


def test_the_notes_are_those_of_the_logs(once):
    """How large ‖G‖ got and how often it was clipped, of both seeds' logs; and how many numbers φ has."""
    out, ended = once
    for title, folder, clip_norm in (("γ = 0.2, over handcrafted", "coop-clip_norm0.2", 0.2), ("γ = 5, over handcrafted", "coop", 5.0)):
        norms = []
        for seed in (1, 2):
            log = out / "mini/meta" / f"{folder}-seed{seed}" / "log.jsonl"
            norms += [json.loads(line)["grad_norm"] for line in log.read_text().splitlines()]
        share = sum(norm > clip_norm for norm in norms) / len(norms)
        line = next(line for line in ended.stdout.splitlines() if line.startswith(title))
        assert line.endswith(f"‖G‖ up to {max(norms):.1f}, clipped in {share:.0%} of epochs")
