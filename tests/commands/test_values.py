"""What options' values mean."""
import os
from pathlib import Path

import pytest

from mp.commands.options import parse


@pytest.mark.parametrize("command, name", [
    *((command, name) for command in ("data", "meta", "zeroshot", "finetune", "table", "claims") for name in ("data", "weights")),
    *((command, "out") for command in ("meta", "zeroshot", "finetune", "table", "claims")), ("table", "to"), ("finetune", "init")])
def test_the_home_folder_in_every_path(command, name, monkeypatch):
    monkeypatch.setenv("HOME", "/house/somebody")
    assert str(getattr(parse([command, f"--{name}=~/x"], ""), name)) == "/house/somebody/x"
    assert str(getattr(parse([command, f"--{name}=a~/x"], ""), name)) == "a~/x"


@pytest.mark.parametrize("arguments, name, value", [
    (["data", "--datasets=~/x"], "datasets", ["{}/x"]), (["meta", "--tasks", "~/x", "dtd"], "tasks", ["{}/x", "dtd"]),
    (["zeroshot", "--prompt", "~/p.pt", "meta", "~{} is it"], "prompt", ["{}/p.pt", "meta", "~{} is it"]),
    (["predict", "~/a.png", "--names", "~/a", "b", "--prompt=~/p.pt", "--out=~/x"], "images", ["{}/a.png"]),
    (["predict", "~/a.png", "--names-of=~/x"], "datasets", ["{}/x"]), (["show", "~/p.pt", "--export=~/x"], "prompt", "{}/p.pt"),
    (["show", "p.pt", "--export=~/x"], "export", "{}/x"), (["predict", "a.png", "--names", "~/a", "b"], "names", ["~/a", "b"])])
def test_the_home_folder_in_lists_and_files(arguments, name, value, monkeypatch):
    monkeypatch.setenv("HOME", "/house/somebody")
    expected = [word.replace("{}/", "/house/somebody/") for word in ([value] if isinstance(value, str) else value)]
    found = getattr(parse(arguments, ""), name)
    assert list(map(str, found if isinstance(found, list) else [found])) == expected


def test_names_of_a_file_in_the_home_folder_and_mp_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MP_DATA", "~/sets")
    (tmp_path / "names.txt").write_text("a\nb\n")
    args = parse(["predict", "a.png", "--names-from=~/names.txt"], "")
    assert args.names == ["a", "b"] and args.data == Path(os.environ["HOME"]) / "sets"
