"""One file a result: kept, refused when made otherwise, set aside when damaged, computed by one process alone."""
import json
import multiprocessing
import os
import platform
import time

import pytest
import torch

from mp.runtime import files, tensors
from mp.store import promptfile, results
from mp.runtime.errors import RunError, UserError

MADE_FROM, MADE_BY = {"settings": {"lr": 0.1}, "prompt": "abc"}, {"commit": "c"}


def cell(path, value=50.0, made_from=MADE_FROM, force=False):
    return results.cell(path, made_from, MADE_BY, lambda: {"accuracies": {"base": value, "new": 30.0, "all": 20.0}}, force)


def test_computed_once_unless_forced(tmp_path):
    path = tmp_path / "a" / "r.json"
    first = cell(path)
    assert first["accuracies"] == {"base": 50.0, "new": 30.0, "all": 20.0, "harmonic_mean": 37.5}
    assert first["made_from"] == {"format": results.FORMAT} | MADE_FROM and first["made_by"]["seconds"] >= 0
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


def test_a_prompts_hash_is_of_its_tensors_alone(tmp_path):
    two = {"ctx": torch.arange(6.0).view(2, 3)}
    hashes = []
    for method, params, made_by in (("coop", two, {"command": "a"}), ("coop", two, {"command": "bc"}),
                                    ("cocoop", two, {}), ("coop", {"ctx": two["ctx"].view(3, 2)}, {}),
                                    ("coop", {"ctx": two["ctx"] + 1}, {})):
        promptfile.write(tmp_path / "p.pt", method, params, made_by)
        hashes.append(promptfile.sha256(tmp_path / "p.pt"))
    assert hashes[0] == hashes[1] and len(set(hashes)) == 4
    for content in ({}, {"params": 3}, {"params": {"ctx": [1.0]}}, {"params": {"ctx": torch.eye(2).to_sparse()}}):
        tensors.write(tmp_path / "p.pt", {"method": "coop"} | content)
        with pytest.raises(UserError, match="not a prompt file"):
            promptfile.sha256(tmp_path / "p.pt")


def test_no_harmonic_mean_of_one_part():
    assert results.with_harmonic_mean({"base": 1.0, "all": 1.0}) == {"base": 1.0, "all": 1.0}
    assert results.with_harmonic_mean({"base": 0.0, "new": 0.0})["harmonic_mean"] == 0.0


def test_other_settings_are_refused_with_both_shown(tmp_path):
    cell(tmp_path / "r.json")
    before = (tmp_path / "r.json").read_bytes()
    with pytest.raises(UserError, match=r"r.json: made with other settings: settings.lr 0.1 \(now 0.2\); --force"):
        cell(tmp_path / "r.json", made_from={"settings": {"lr": 0.2}, "prompt": "abc"})
    assert (tmp_path / "r.json").read_bytes() == before
    other = json.loads(before)
    other["made_from"]["format"] = 0
    (tmp_path / "r.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=rf"format 0 \(now {results.FORMAT}\)"):
        cell(tmp_path / "r.json")


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"accuracies": {"base": 1}}', '{"accuracies": 3, "made_from": {}}',
                                    '{"accuracies": {"base": NaN}, "made_from": {}, "made_by": {}}', "[" * 100_000,
                                    '{"accuracies": {"base": 101}, "made_from": {}, "made_by": {}}'])
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
        results.cell(tmp_path / "r.json", MADE_FROM, MADE_BY, compute)

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
        results.cell(tmp_path / "r.json", MADE_FROM, MADE_BY, fails)
    assert not (tmp_path / "r.json").exists() and cell(tmp_path / "r.json")
    with pytest.raises(UserError, match="can't be written"):
        cell(tmp_path / "r.json" / "below.json")
    os.symlink("/dev/full", tmp_path / "full")
    with pytest.raises(RunError, match="not finite"):
        cell(tmp_path / "n.json", float("nan"))
    assert not (tmp_path / "n.json").exists()
