"""What options' values mean."""
from pathlib import Path

import pytest

from mp.commands.options import parse


@pytest.mark.parametrize("arguments, name, value", [
    (["data", "--data=~/x"], "data", "{}/x"), (["data", "--data=a~/x"], "data", "a~/x"),
    (["show", "p.pt", "--weights=~/x"], "weights", "{}/x"), (["meta", "--out=~/x"], "out", "{}/x"),
    (["table", "--to=~/x"], "to", "{}/x"), (["finetune", "--init=~/x"], "init", "{}/x"),
    (["data", "--datasets=~/x"], "datasets", ["{}/x"]), (["meta", "--tasks", "~/x", "dtd"], "tasks", ["{}/x", "dtd"]),
    (["zeroshot", "--prompt", "~/p.pt", "meta", "~{} is it"], "prompt", ["{}/p.pt", "meta", "~{} is it"]),
    (["predict", "~/a.png", "--names", "~/a", "b", "--prompt=~/p.pt"], "images", ["{}/a.png"]),
    (["predict", "a.png", "--names", "~/a", "b", "--prompt=~/p.pt"], "prompt", "{}/p.pt"),
    (["predict", "a.png", "--names", "~/a", "b", "--out=~/x"], "out", "{}/x"),
    (["predict", "a.png", "--names-of=~/x"], "datasets", ["{}/x"]), (["show", "~/p.pt"], "prompt", "{}/p.pt"),
    (["show", "p.pt", "--export=~/x"], "export", "{}/x"), (["predict", "a.png", "--names", "~/a", "b"], "names", ["~/a", "b"])])
def test_the_home_folder(arguments, name, value, monkeypatch):
    monkeypatch.setenv("HOME", "/house/somebody")
    values = value if isinstance(value, list) else [value]
    parsed = getattr(parse(arguments, ""), name)
    assert list(map(str, parsed if isinstance(parsed, list) else [parsed])) == [
        word.replace("{}/", "/house/somebody/") for word in values]


def test_names_of_a_file_in_the_home_folder_and_mp_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MP_DATA", "~/sets")
    (tmp_path / "names.txt").write_text("a\nb\n")
    args = parse(["predict", "a.png", "--names-from=~/names.txt"], "")
    assert args.names == ["a", "b"] and args.data == Path(tmp_path) / "sets"
