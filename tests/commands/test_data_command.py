"""run.py data, and the rehearsal of the paper's suite: every command on files of the published layouts."""
import json
import shutil

import pytest
from PIL import Image

import run as program
from data import paper
from data.suite import open_suite
from tests import rehearsal
from tests.rehearsal import openai_archive, write_dataset


@pytest.fixture(scope="module")
def two(tmp_path_factory, recipe):
    """A folder with two whole datasets, and small weights."""
    root = tmp_path_factory.mktemp("two")
    write_dataset("EuroSAT", root, small=True)
    write_dataset("FGVC Aircraft", root, small=True)
    openai_archive(recipe.clip_state("A"), root / "w.pt")
    return root


def data(root, *args, code=0):
    """Lines of `run.py data`, by their first word."""
    arguments = ["data", "--data", str(root), *map(str, args)]
    assert program.main(arguments) == code


def test_what_is_ready(two, capsys):
    data(two, "--weights", two / "w.pt", "--datasets", "eurosat", "fgvc aircraft", "--check")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("weights        ready") and "8-pixel patches of 32-pixel images" in lines[0]
    assert lines[1].startswith("EuroSAT        ready") and "10 classes" in lines[1] and "20 train" in lines[1]
    assert lines[1].endswith("10 test; not the published benchmark: 10 of 10 classes, 20 of 13,500 training "
                             "and 10 of 8,100 test images")


def test_the_miniature_is_ready(capsys):
    assert program.main(["data"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12


def test_what_is_missing_where_it_belongs_and_where_to_get_it(two, capsys):
    data(two, code=2)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) <= 25 and paper.GUIDE in out  # one screen
    assert "ViT-B-16.pt; " not in out and "the first run fetches it" in out
    for name, row in paper.TABLE.items():
        if name not in ("EuroSAT", "FGVC Aircraft"):
            assert f"NOT READY  no folder {two / row.folder}\n" in out and row.source in out and row.size in out
    assert err.count("\n") == 1 and "not ready: weights, Caltech101, Flowers102" in err and "EuroSAT" not in err


def test_images_that_are_missing_or_unreadable(two, tmp_path, capsys):
    folder = two / "eurosat"
    (tmp_path / "eurosat").symlink_to(folder)
    options = ["--weights", two / "w.pt", "--datasets", "eurosat"]
    items = json.loads((folder / "split_zhou_EuroSAT.json").read_text())["test"]
    first, second = (folder / "2750" / items[i][0] for i in (0, 1))
    whole = first.read_bytes(), second.read_bytes()
    first.write_bytes(whole[0][:200])
    second.unlink()
    data(tmp_path, *options, code=2)
    assert f"1 of 30 listed images are missing, empty, or can't be read, the first is {tmp_path / 'eurosat/2750' / items[1][0]}" in capsys.readouterr().out
    data(tmp_path, *options, "--check", code=2)
    out = capsys.readouterr().out
    assert f"{items[0][0]}: not a readable image" in out and f"{items[1][0]}: no such image" in out
    second.write_bytes(whole[1])
    assert program.main(["zeroshot", "--data", str(tmp_path), *map(str, options), "--out", str(tmp_path / "runs")]) == 2
    assert f"{items[0][0]}: not a readable image" in capsys.readouterr().err
    first.write_bytes(whole[0])


def test_empty_images_and_links_that_lead_nowhere_are_missing(two, tmp_path, capsys):
    """And links that lead in a circle; a link to an image is one."""
    shutil.copytree(two / "eurosat", tmp_path / "eurosat")
    folder = tmp_path / "eurosat/2750"
    paths = [folder / path for path, _, _ in json.loads((tmp_path / "eurosat/split_zhou_EuroSAT.json").read_text())["test"]]
    for path in paths[:4]:
        path.rename(path.with_suffix(".kept"))
    paths[0].touch()
    paths[1].symlink_to("nowhere.jpg")
    paths[2].symlink_to(paths[2].name)
    paths[3].symlink_to(paths[3].with_suffix(".kept"))
    data(tmp_path, "--weights", two / "w.pt", "--datasets", "eurosat", code=2)
    assert f"3 of 30 listed images are missing, empty, or can't be read, the first is {paths[0]}\n" in capsys.readouterr().out


def test_class_names_that_are_too_long_for_clip_are_not_ready(birds, capsys):
    (birds / "owl").rename(birds / ("0 " * 80 + "owl"))
    assert program.main(["data", "--datasets", str(birds)]) == 2
    assert "birds    NOT READY" in (out := capsys.readouterr().out) and "too long for CLIP" in out


def test_another_number_of_classes_is_not_the_benchmark(two, tmp_path, capsys):
    folder = tmp_path / "eurosat"
    (folder / "2750").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "2750" / "a.jpg")
    split = {part: [["a.jpg", label, f"name {label}"] for label in range(3)] for part in ("train", "test")}
    (folder / "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    data(tmp_path, "--weights", two / "w.pt", "--datasets", "eurosat", code=2)
    note = "not the published benchmark: 3 of 10 classes, 3 of 13,500 training and 3 of 8,100 test images"
    assert f"EuroSAT  NOT READY  {note}\n" in capsys.readouterr().out
    given = ["--data", str(tmp_path), "--weights", str(two / "w.pt"), "--out", str(tmp_path / "runs")]
    assert program.main(["zeroshot", *given, "--datasets", "eurosat"]) == 0
    assert capsys.readouterr().err.count(f"EuroSAT: {note}") == 1


def test_meta_says_what_is_not_the_benchmark(two, tmp_path, capsys, monkeypatch):
    """Of the datasets that it trains on."""
    monkeypatch.setattr("mp.experiment.session.open_suite",
                        lambda *given: open_suite(*given)._replace(training=["EuroSAT"]))
    given = ["--data", str(two), "--weights", str(two / "w.pt"), "--out", str(tmp_path / "runs"), "--method", "coop"]
    small = ["--shots", "2", "--support", "1", "--batch", "4", "--epochs", "1", "--datasets", "fgvc_aircraft"]
    assert program.main(["meta", *given, *small]) == 0
    assert capsys.readouterr().err.count("EuroSAT: not the published benchmark: 10 of 10 classes, 20 of 13,500") == 1


@pytest.fixture
def birds(tmp_path):
    """A folder of one's own, in which one file isn't known to be an image."""
    folder = tmp_path / "birds"
    for name in ("crow/1.png", "crow/2.png", "owl/1.PNG", "owl/2.png", "owl/noending"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), "red").save(folder / name, "PNG")
    return folder


def test_files_that_are_left_out_are_told(birds, tmp_path, capsys):
    assert program.main(["data", "--datasets", str(birds)]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("birds    ready") and "2 train" in line and "2 test; the first classes: crow, owl; left out 1 files or folders such as 'noending'" in line
    for command in (["zeroshot"], ["finetune", "--method", "coop", "--epochs", "1", "--classes", "all"]):
        assert program.main([*command, "--datasets", str(birds), "--out", str(tmp_path / "runs")]) == 0
        assert capsys.readouterr().err.count("birds: left out 1 files or folders such as 'noending'") == 1


def test_names_that_are_no_words_are_told_by_data_and_by_commands(birds, two, tmp_path, capsys):
    """Once by each."""
    numbers = birds.rename(birds.parent / "birds_too")
    for number, folder in enumerate(sorted(numbers.iterdir())):
        folder.rename(numbers / f"00{number}")
    note = "class names such as '000' are numbers, and CLIP reads '0 0 0': if they stand for words, give these instead"
    assert program.main(["data", "--datasets", str(numbers)]) == 0
    assert capsys.readouterr().out.count(note) == 1
    assert program.main(["zeroshot", "--datasets", str(numbers), "--weights", str(two / "w.pt"), "--out", str(tmp_path / "o")]) == 0
    assert capsys.readouterr().err.count(f"birds_too: {note}") == 1


def test_the_miniatures_clip_on_a_folder_of_ones_own_is_told(birds, two, tmp_path, capsys):
    says, out = "birds: computed with the miniature's small CLIP; for OpenAI's give", ["--out", str(tmp_path / "runs")]
    assert program.main(["zeroshot", "--datasets", str(birds), "pets", *out]) == 0
    assert capsys.readouterr().err.count(says) == 1
    given = ["--weights", str(two / "w.pt")]
    (tmp_path / "empty").mkdir()
    for others in (["--datasets", "pets"], ["--datasets", str(birds), *given], ["--data", str(tmp_path / "empty"), "--datasets", str(birds), *given]):
        assert program.main(["zeroshot", *others, *out, "--force"]) == 0
        assert "miniature's small CLIP" not in capsys.readouterr().err


def test_a_dataset_without_test_images_is_refused_before_any_work(two, tmp_path, capsys):
    shutil.copytree(two / "fgvc_aircraft", tmp_path / "fgvc_aircraft")
    (tmp_path / "fgvc_aircraft/images_variant_test.txt").write_text("\n")
    given = ["--data", str(tmp_path), "--weights", str(two / "w.pt"), "--datasets", "FGVCAircraft"]
    message = f"{tmp_path}/fgvc_aircraft/images_variant_test.txt: no image is listed"
    assert program.main(["data", *given]) == 2
    out = capsys.readouterr().out
    assert "FGVC Aircraft  NOT READY" in out and message in out
    for command in (["zeroshot"], ["finetune", "--method", "coop"]):
        assert program.main([*command, *given, "--out", str(tmp_path / "runs")]) == 2
        assert not (tmp_path / "runs").exists()
        assert message in capsys.readouterr().err


def test_the_table_computes_no_cell_if_a_later_one_cannot_be(birds, tmp_path, capsys):
    (birds / "owl/1.PNG").unlink()
    out = tmp_path / "runs"
    assert program.main(["table", "--run", "--datasets", "satellite", str(birds), "--out", str(out)]) == 2
    assert "owl: 1 images" in capsys.readouterr().err and not list(out.rglob("*.*"))


def test_weights_that_are_wrong(two, tmp_path, capsys, cache_folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data(two, "--weights", tmp_path / "absent.pt", "--datasets", "eurosat", code=2)
    assert "absent.pt: no such weights file" in capsys.readouterr().out
    (tmp_path / "meta-prompts").mkdir()
    (tmp_path / "meta-prompts" / "ViT-B-16.pt").write_bytes(b"half of it")
    data(two, "--datasets", "eurosat", code=2)
    assert "not OpenAI's file, its SHA-256 should be 5806e77cd80f" in capsys.readouterr().out


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_rehearsal(tmp_path, capsys, monkeypatch):
    """Every command on all eleven layouts, as a user runs them, on small towers of as many layers as prompts need."""
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # so that what the rehearsal sets is unset at the end
    rehearsal.main([str(tmp_path / "r"), "--small"])
    out, err = capsys.readouterr()
    ready = [line.split() for line in out.splitlines() if " ready " in line]
    counts = {row.counts[0] for row in paper.TABLE.values()}
    assert len(ready) == 12 and {int(w.replace(",", "")) for line in ready for w in line if w.replace(",", "").isdigit()} >= counts
    assert "Warning" not in err
    names = {p.relative_to(tmp_path / "r/runs/paper").as_posix().split("/")[0] for p in (tmp_path / "r/runs").rglob("*.json")}
    assert names == {"meta", "zeroshot", "finetune"}
    table = [line.split()[0] for line in out.split(" python run.py ")[2].splitlines() if "." in line]
    assert [name.rstrip("*") for name in table[-11:]] == [name.split()[0] for name in paper.NAMES]
    features = list((tmp_path / "r/cache/meta-prompts/features").iterdir())
    assert len(features) == 11  # one file a dataset, shared by all commands
