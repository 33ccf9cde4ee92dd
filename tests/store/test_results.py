"""One file a result: kept, refused when made otherwise, set aside when damaged, computed by one process alone."""
import json
import multiprocessing
import os
import platform
import time
from contextlib import nullcontext
from dataclasses import asdict, replace

import pytest
import torch

from mp.runtime import files, torchfile
from mp.store import results, states
from mp.store.identity import FORMAT, Identity
from mp.runtime.errors import RunError, UserError

KIND, PROVENANCE = "fine-tuning result", {"commit": "c"}
MADE_FROM = Identity(FORMAT, "w", "cpu", "fp32", settings={"lr": 0.1}, prompt="abc")


def cell(path, value=50.0, identity=MADE_FROM, force=False):
    def compute():
        return {"accuracies": {"base": value, "new": 30.0, "all": 20.0}}
    return results.cell(path, KIND, identity, PROVENANCE, compute, force)


def test_computed_once_unless_forced(tmp_path):
    path = tmp_path / "a" / "r.json"
    first = cell(path)
    assert first["accuracies"] == {"base": 50.0, "new": 30.0, "all": 20.0, "harmonic_mean": 37.5}
    assert first["identity"] == asdict(MADE_FROM) and first["provenance"]["seconds"] >= 0
    assert cell(path, 60.0) == first == json.loads(path.read_text())
    assert cell(path, 60.0, force=True)["accuracies"]["base"] == 60.0


def test_a_write_removes_what_killed_writes_of_the_same_file_left_and_nothing_else(tmp_path):
    dead = multiprocessing.get_context("fork").Process(target=lambda: None)
    dead.start()
    dead.join()
    here, path = platform.node(), tmp_path / "r[1].json"
    left = tmp_path / f".r[1].json.{here}-{dead.pid}.part"
    stays = [f".r[1].json.{here}-{os.getppid()}.part", f".r[1].json.elsewhere{here}-{dead.pid}.part",
             f".r1.json.{here}-{dead.pid}.part", f".r[1].json.{here}-x.part"]
    for name in (left.name, *stays):
        (tmp_path / name).touch()
    files.write_json(path, 1)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *stays}


def test_a_state_in_another_order_is_read_by_name():
    like = {"ctx": torch.zeros(2), "vision.2": torch.zeros(2), "vision.10": torch.zeros(2)}
    values = {k: torch.full((2,), float(i)) for i, k in enumerate(like)}
    made = states.placed_like(dict(sorted(values.items())), like)
    assert list(made) == list(like) and all(torch.equal(made[k], values[k]) for k in like)


def test_a_state_of_the_programs_own_may_be_deleted(tmp_path):
    path = tmp_path / "state.pt"
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match="delete it, and the same command starts from the beginning"):
        states.resume(path, "meta-prompt", MADE_FROM, None, 1, {})


def test_other_settings_are_refused_with_both_shown(tmp_path):
    cell(tmp_path / "r.json")
    before = (tmp_path / "r.json").read_bytes()
    with pytest.raises(UserError, match=r"r.json: made otherwise: settings.lr 0.1 \(now 0.2\); --force"):
        cell(tmp_path / "r.json", identity=replace(MADE_FROM, settings={"lr": 0.2}))
    assert (tmp_path / "r.json").read_bytes() == before


def test_files_of_another_version_are_refused(tmp_path):
    cell(tmp_path / "zeroshot/x/r.json")
    results.refuse_earlier_version(tmp_path)
    written = json.loads((tmp_path / "zeroshot/x/r.json").read_text())
    (tmp_path / "zeroshot/x/old.json").write_text(json.dumps(written | {"identity": {"format": 0}}))
    with pytest.raises(UserError, match="old.json: from another version of this project; move that folder away"):
        cell(tmp_path / "zeroshot/x/old.json")
    (tmp_path / "zeroshot/x/old.json").write_text(json.dumps(written | {"made_by": {}, "made_from": {"format": 2}}))
    with pytest.raises(UserError, match="old.json: from another version"):
        results.refuse_earlier_version(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"accuracies": {"base": 1}}', '{"accuracies": 3, "identity": {}}',
                                    '{"accuracies": {"base": NaN}, "identity": {}, "provenance": {}}', "[" * 100_000,
                                    '{"accuracies": {"base": 101}, "identity": {}, "provenance": {}}'])
def test_damaged_files_are_named_set_aside_and_made_again(tmp_path, capsys, damage):
    whole = cell(tmp_path / "r.json")
    (tmp_path / "r.json").write_text(damage)
    assert cell(tmp_path / "r.json")["accuracies"] == whole["accuracies"]
    assert "r.json: damaged; set aside as r.damaged" in capsys.readouterr().err
    assert (tmp_path / "r.damaged").read_text() == damage


def test_one_of_several_processes_computes(tmp_path):
    def work():
        def compute():
            with open(tmp_path / "computed", "a") as f:
                f.write("x")
            time.sleep(0.3)
            return {"accuracies": {"all": 1.0}}
        results.cell(tmp_path / "r.json", KIND, MADE_FROM, PROVENANCE, compute)

    processes = [multiprocessing.get_context("fork").Process(target=work) for _ in range(4)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * 4 and (tmp_path / "computed").read_text() == "x"


def test_a_failed_computation_and_a_folder_that_cannot_be_written(tmp_path):
    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.cell(tmp_path / "r.json", KIND, MADE_FROM, PROVENANCE, fails)
    assert not (tmp_path / "r.json").exists() and cell(tmp_path / "r.json")
    with pytest.raises(UserError, match="can't be written"):
        cell(tmp_path / "r.json" / "below.json")
    os.symlink("/dev/full", tmp_path / "full")
    with pytest.raises(RunError, match="not finite"):
        cell(tmp_path / "n.json", float("nan"))
    assert not (tmp_path / "n.json").exists()


def test_tasks_have_folders_of_their_own_whatever_they_are_called(tmp_path):
    """All can be made, and none is another's: where names are long or many, joined otherwise, or differ in case or spaces."""
    assert results.tasks_folder(tmp_path, []) == tmp_path
    asked = [["a", "b"], ["a+b"], ["A", "b"], ["b", "a"], ["snow owl"], ["snowowl"], ["FGVC Aircraft", "..x"], ["é" * 127],
             ["é" * 126 + "e"], [str(i) for i in range(500)], [str(i) for i in range(501)]]
    found = [results.tasks_folder(tmp_path, names) for names in asked]
    for path in found:
        path.mkdir(parents=True)  # each for the first time
        assert path.parent == tmp_path / "tasks" and len(path.name.encode()) <= 100
    assert found[0].name.startswith("a+b-") and found[6].name.startswith("FGVCAircraft+..x-") and found[7].name.startswith("ééé")
    assert len({path.name.lower() for path in found}) == len(asked)  # some systems don't tell case
    assert results.tasks_folder(tmp_path, ("a", "b")) == found[0]


def test_a_result_beside_a_state_is_an_older_one_until_the_new_one_is_written(tmp_path, monkeypatch):
    """Whoever waited for a process that finished takes its result, though there was a state when he came."""
    path, state, computed = tmp_path / "r.json", tmp_path / "r.state.pt", []

    def compute():
        computed.append(len(computed))
        assert not computed[0] or state.exists()
        return {"accuracies": {"all": float(len(computed))}}

    def one(**more):
        return results.cell(path, KIND, MADE_FROM, PROVENANCE, compute, **more)["accuracies"]["all"]

    assert one(state=state) == 1 == one(state=state)
    state.write_text("an epoch")
    assert one(state=state) == 2 == one(state=state) and not state.exists() and not list(tmp_path.glob("*.damaged"))
    state.write_text("an epoch")
    monkeypatch.setattr(results.files, "locked", lambda lock: nullcontext(state.unlink()))  # the other one finished
    assert one(state=state) == 2 and len(computed) == 2
