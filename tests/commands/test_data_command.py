"""run.py data, and the rehearsal of the paper's suite: every command on files of the published layouts."""
import json
import shutil

import pytest
from PIL import Image

import run as program
from data import paper
from data.suite import open_suite
from tests import rehearsal

LEFT_OUT = "left out 1 files or folders such as 'noending'"


@pytest.fixture(scope="module")
def two(tmp_path_factory, recipe):
    """A folder with two whole datasets, and small weights."""
    root = tmp_path_factory.mktemp("two")
    rehearsal.write_dataset("EuroSAT", root, small=True)
    rehearsal.write_dataset("FGVC Aircraft", root, small=True)
    rehearsal.openai_archive(recipe.clip_state("A"), root / "w.pt")
    return root


@pytest.fixture
def ran(two, tmp_path, capsys):
    """A function that runs a command with small weights, and returns its exit code, output and messages."""
    def run(command, *more):
        out = ["--out", str(tmp_path / "runs")] if not command.startswith("data") else []
        code = program.main([*command.split(), *map(str, more), "--weights", str(two / "w.pt"), *out])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def eurosat(two, tmp_path):
    """A copy of the dataset's folder, and the paths of its test images."""
    folder = shutil.copytree(two / "eurosat", tmp_path / "eurosat")
    split = json.loads((folder / "split_zhou_EuroSAT.json").read_text())
    return folder, [folder / "2750" / path for path, _, _ in split["test"]]


@pytest.fixture
def birds(tmp_path):
    """A folder of one's own, in which one file isn't known to be an image."""
    folder = tmp_path / "birds"
    for name in ("crow/1.png", "crow/2.png", "owl/1.PNG", "owl/2.png", "owl/noending"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), "red").save(folder / name, "PNG")
    return folder


def test_what_is_ready(ran, two):
    code, out, _ = ran("data --check --datasets eurosat fgvc_aircraft --data", two)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3
    assert lines[0].startswith("weights        ready") and "8-pixel patches of 32-pixel images" in lines[0]
    assert lines[1].startswith("EuroSAT        ready") and "10 classes" in lines[1] and "20 train" in lines[1]
    assert lines[1].endswith("10 test; not the published benchmark: 10 of 10 classes, 20 of 13,500 training "
                             "and 10 of 8,100 test images")


def test_what_is_missing_where_it_belongs_and_where_to_get_it(two, capsys):
    assert program.main(["data"]) == 0 and len(capsys.readouterr().out.splitlines()) == 12  # the miniature is ready
    assert program.main(["data", "--data", str(two)]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) <= 25 and paper.GUIDE in out  # one screen
    assert "ViT-B-16.pt; " not in out and "the first run fetches it" in out
    for name, row in paper.TABLE.items():
        if name not in ("EuroSAT", "FGVC Aircraft"):
            assert f"NOT READY  no folder {two / row.folder}\n" in out and row.source in out and row.size in out
    assert err.count("\n") == 1 and "not ready: weights, Caltech101, Flowers102" in err and "EuroSAT" not in err


def test_images_that_are_missing_or_unreadable(ran, eurosat):
    """Empty ones, and links that lead nowhere or in a circle, are missing; a link to an image is one."""
    folder, (cut, gone, empty, dead, circle, linked, *_) = eurosat
    data = "--datasets eurosat --data"
    cut.write_bytes(cut.read_bytes()[:200])
    assert f"{cut}: not a readable image" in ran(f"zeroshot {data}", folder.parent)[2]
    linked.rename(linked.with_suffix(".kept"))
    for path in (gone, empty, dead, circle):
        path.unlink()
    empty.touch()
    dead.symlink_to("nowhere.jpg")
    circle.symlink_to(circle.name)
    linked.symlink_to(linked.with_suffix(".kept"))
    code, out, _ = ran(f"data --check {data}", folder.parent)
    missing = "4 of 30 listed images are missing, empty, or can't be read, the first is"
    assert code == 2 and f"{missing} {gone}\n" in out
    assert f"{cut}: not a readable image" in out and "lists all such images" not in out and f"{gone}: no such image" in out and str(linked) not in out


def test_class_names_that_are_too_long_for_clip_are_not_ready(ran, birds):
    (birds / "owl").rename(birds / ("0 " * 80 + "owl"))
    code, out, _ = ran("data --datasets", birds)
    assert code == 2 and "birds    NOT READY" in out and "too long for CLIP" in out


def test_what_is_not_the_benchmark(ran, two, eurosat, monkeypatch):
    """Data without all classes isn't ready; who computes with it is told, also by `meta` of what it trains on."""
    folder, (image, *_) = eurosat
    split = {part: [[str(image.relative_to(folder / "2750")), label, f"name {label}"] for label in range(3)]
             for part in ("train", "test")}
    (folder / "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    note = "not the published benchmark: 3 of 10 classes, 3 of 13,500 training and 3 of 8,100 test images"
    code, out, _ = ran("data --datasets eurosat --data", folder.parent)
    assert code == 2 and f"EuroSAT  NOT READY  {note}\n" in out
    code, _, said = ran("zeroshot --datasets eurosat --data", folder.parent)
    assert code == 0 and said.count(f"EuroSAT: {note}") == 1
    monkeypatch.setattr("mp.experiment.session.open_suite",
                        lambda *given: open_suite(*given)._replace(training=["EuroSAT"]))
    short = "--shots 2 --support 1 --batch 4 --epochs 1 --datasets fgvc_aircraft --data"
    code, _, said = ran(f"meta --method coop {short}", two)
    assert code == 0 and said.count("EuroSAT: not the published benchmark: 10 of 10 classes, 20 of 13,500") == 1


def test_names_of_files_are_told_on_one_line(ran, birds):
    (birds / "owl/a\n\x1b[31m.png").write_bytes(b"no image")
    code, out, _ = ran("data --check --datasets", birds)
    assert code == 2 and out.count("\n") == 3
    assert out.splitlines()[2].startswith(rf"{birds}/owl/a\n\x1b[31m.png: not a readable image")


def test_files_that_are_left_out_are_told(ran, birds):
    code, out, _ = ran("data --datasets", birds)
    line = out.splitlines()[1]
    assert code == 0 and line.startswith("birds    ready") and "2 train" in line
    assert f"2 test; the first classes: crow, owl; {LEFT_OUT}" in line
    for command in ("zeroshot", "finetune --method coop --epochs 1 --classes all"):
        code, _, said = ran(f"{command} --datasets", birds)
        assert code == 0 and said.count(f"birds: {LEFT_OUT}") == 1


def test_names_that_are_no_words_are_told_by_data_and_by_commands(ran, birds):
    """Once by each."""
    for number, folder in enumerate(sorted(birds.iterdir())):
        folder.rename(birds / f"00{number}")
    note = "class names such as '000' are numbers, and CLIP reads '0 0 0': if they stand for words, give these instead"
    assert ran("data --datasets", birds)[1].count(note) == 1
    assert ran("zeroshot --datasets", birds)[2].count(f"birds: {note}") == 1


def test_the_miniatures_clip_on_a_folder_of_ones_own_is_told(ran, birds, tmp_path, capsys):
    says = "birds: computed with the miniature's small CLIP; for OpenAI's give"
    out = ["--out", str(tmp_path / "runs")]
    for datasets, times in (([str(birds), "pets"], 1), (["pets"], 0)):
        assert program.main(["zeroshot", *out, "--datasets", *datasets]) == 0
        assert capsys.readouterr().err.count(says) == times
    (tmp_path / "empty").mkdir()
    for data in ([], ["--data", tmp_path / "empty"]):
        code, _, said = ran("zeroshot --datasets", birds, *data)
        assert code == 0 and "miniature's small CLIP" not in said


def test_a_dataset_without_test_images_is_refused_before_any_work(ran, two, tmp_path):
    shutil.copytree(two / "fgvc_aircraft", tmp_path / "fgvc_aircraft")
    (tmp_path / "fgvc_aircraft/images_variant_test.txt").write_text("\n")
    message = f"{tmp_path}/fgvc_aircraft/images_variant_test.txt: no image is listed"
    code, out, _ = ran("data --datasets FGVCAircraft --data", tmp_path)
    assert code == 2 and "FGVC Aircraft  NOT READY" in out and message in out
    for command in ("zeroshot", "finetune --method coop"):
        code, _, said = ran(f"{command} --datasets FGVCAircraft --data", tmp_path)
        assert code == 2 and message in said and not (tmp_path / "runs").exists()


def test_the_table_computes_no_cell_if_a_later_one_cannot_be(ran, birds, tmp_path):
    (birds / "owl/1.PNG").unlink()
    code, _, said = ran("table --run --datasets satellite", birds)
    assert code == 2 and "owl: 1 images" in said and not list((tmp_path / "runs").rglob("*.*"))


def test_weights_that_are_wrong(two, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = ["data", "--data", str(two), "--datasets", "eurosat"]
    assert program.main([*command, "--weights", str(tmp_path / "absent.pt")]) == 2
    assert "absent.pt: no such weights file" in capsys.readouterr().out
    (tmp_path / "meta-prompts").mkdir()
    (tmp_path / "meta-prompts" / "ViT-B-16.pt").write_bytes(b"half of it")
    assert program.main(command) == 2
    assert "not OpenAI's file, its SHA-256 should be 5806e77cd80f" in capsys.readouterr().out


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_rehearsal(tmp_path, capsys, monkeypatch):
    """Every command on all eleven layouts, as a user runs them, on small towers of as many layers as prompts need."""
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # so that what the rehearsal sets is unset at the end
    rehearsal.main([str(tmp_path / "r"), "--small"])
    data, zeroshot = capsys.readouterr().out.split(" python run.py ")[1:3]
    words = data.replace(",", "").split()
    assert data.count(" ready ") == 12 and {str(row.counts[0]) for row in paper.TABLE.values()} <= set(words)
    names = [line.split()[0].rstrip("*") for line in zeroshot.splitlines() if "." in line]
    assert names[-11:] == [name.split()[0] for name in paper.NAMES]
    runs = tmp_path / "r/runs/paper"
    assert {path.relative_to(runs).parts[0] for path in runs.rglob("*.json")} == {"meta", "zeroshot", "finetune"}
    features = list((tmp_path / "r/cache/meta-prompts/features").iterdir())
    assert len(features) == 11  # one file a dataset, shared by all commands
