"""Meta-training on tasks of one's own: five folders of pictures and a sixth that is new, from the command line to the table."""
import csv
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import run as program
from data import folder as own
from data.dataset import few_shot
from data.suite import open_suite
from mp import load_clip, make_learner, meta_train
from mp.commands import table
from mp.experiment import session
from mp.learners import METHODS
from mp.prompts import open_prompt
from mp.report.table2 import make_columns
from mp.store.cells import complete
from tests.robustness.tiny import pictures
from tests.walks.outputs import result, results

WORDS = ["rose", "tulip", "cup", "lamp"]  # that the miniature's CLIP knows
TASKS = "a b c d e".split()
PROMPT = "runs/mini/meta/coop-seed1-a+b+c+d+e/prompt.pt"  # without its digits
META = "meta --method coop --tasks e a c b d --datasets a b c d e f"
TABLE = "table --tasks a b c d e --datasets a f"


def shorten(patch):
    """One epoch of everything, of one small inner step."""
    def opened(*args):
        return open_suite(*args)._replace(meta_epochs=1)

    patch.setattr(session, "open_suite", opened)
    patch.setattr(table, "open_suite", opened)
    patch.setattr("mp.learners.promptsrc.TEMPLATES", ["a photo of a {}."])
    for name, row in METHODS.items():
        meta, finetune = {"inner_steps": 1, "batch": 4}, {"epochs": 1, "batch": 16}
        patch.setitem(METHODS, name, row._replace(meta=row.meta | meta, finetune=row.finetune | finetune))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    shorten(monkeypatch)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Six datasets, a to f, of four pictures a class."""
    root = tmp_path_factory.mktemp("own")
    for number, name in enumerate([*TASKS, "f"]):
        pictures(root / name, [f"{word}/{i}.png" for word in WORDS for i in range(4)], number)
    return root


@pytest.fixture
def place(folders, tmp_path, monkeypatch):
    place = shutil.copytree(folders, tmp_path / "w")
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def with_table(folders, tmp_path_factory):
    """The datasets, and a table's meta-prompts and results."""
    place = shutil.copytree(folders, tmp_path_factory.mktemp("table") / "w")
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        patch.chdir(place)
        assert program.main(shlex.split(f"{TABLE} --run")) == 0
    return place


@pytest.fixture
def ran(capsys):
    """Calls the program, which must end with the code; what it printed and said."""
    def call(command, code=0):
        ended = program.main(shlex.split(command))
        said = capsys.readouterr()
        assert ended == code, said.err
        return said
    return call


def row(text, name):
    return next(line for line in text.splitlines() if line.split()[:1] == [name]).split()[1:]


def made(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in place.glob("runs/**/*") if path.suffix in (".json", ".pt")}


def by_hand():
    """Return the meta-prompt of the tasks, in the order of their names, as a script learns it."""
    clip, tasks = load_clip("mini", device="cpu"), {}
    for name in TASKS:
        data = own.load(Path(name))
        items = few_shot(data.train, 16, 1)
        tasks[name] = [item.source for item in items], [item.label for item in items], data.classes
    return meta_train(make_learner("coop", clip), clip, tasks, epochs=1).state_dict()


def test_the_whole_chain(with_table, ran, monkeypatch):
    """Every command goes on from the meta-prompt that the table learnt."""
    monkeypatch.chdir(with_table)
    shown = ran(META)
    assert "learns" not in shown.err
    assert len(row(shown.out, "a*")) == len(row(shown.out, "f")) == 12 and not re.search(r"f\*|^a ", shown.out, re.MULTILINE)
    rows = [line.split("  ")[0] for line in shown.out.splitlines()[2:5]]
    assert rows == ["Average", "Average (train)", "Average (test)"]
    prompt = open_prompt(with_table / PROMPT)
    torch.testing.assert_close(prompt.params, dict(by_hand()), rtol=0, atol=2e-5)
    assert list(prompt.identity["trained_on"]) == TASKS
    tested = {result.dataset for result in results(with_table) if "meta-coop-a+b+c+d+e" in result.path.parts}
    assert tested == {*"abcdef"}
    for order in ("a b c d e", "./e/ d c b a a"):
        again = ran(f"zeroshot --method coop --prompt meta --tasks {order} --datasets f")
        assert row(again.out, "f") == row(shown.out, "f")
    before = made(with_table)
    ran("finetune --method coop --init meta --tasks a b c d e --datasets f")
    tuned = result(with_table, tuned=True, dataset="f", prompt=prompt.fingerprint)
    assert "coop-meta-a+b+c+d+e-base" in tuned.path.parts and made(with_table) == before
    ended = ran(f"{TABLE} --format csv")
    cells = {line["dataset"]: line for line in csv.DictReader(io.StringIO(ended.out)) if line["metric"] == "Base"}
    assert list(cells) == ["a", "f"] and set(cells["f"]) == {"dataset", "metric", *(column.key for column in make_columns())}
    assert "missing" not in ended.err and "" not in cells["a"].values()
    assert float(cells["f"]["finetune/coop/mp"]) == round(tuned.accuracies["base"], 2)
    shown = ran(TABLE)
    assert "meta-prompts of the tasks a, b, c, d, e\n" in shown.out
    averages = [line.split()[3:] for line in shown.out.splitlines() if line.startswith("Average (")]
    assert averages == [row(shown.out, "a*")[1:], row(shown.out, "f")[1:]]


def test_nothing_is_mixed_with_table_1s_tasks(with_table, ran, tmp_path, monkeypatch):
    """What doesn't depend on tasks serves both; where both are learnt, `meta` means what was learnt from the tasks."""
    monkeypatch.chdir(shutil.copytree(with_table, tmp_path / "w"))
    before = made(tmp_path / "w")
    zeroshot, finetune = "zeroshot --prompt meta --method coop --datasets f", "finetune --init meta --method coop --datasets f"
    for command in (zeroshot, finetune):
        for tasks in ("", "--tasks a b"):
            said = ran(f"{command} {tasks}", 2).err
            assert "no meta-prompt coop-seed1" in said and "make it with: python run.py meta --method coop" in said
    shown = ran("table --datasets a f")
    assert "meta-prompts of" not in shown.out and "*" not in row(shown.out, "a")
    assert row(shown.out, "a")[1:] == [cell if column.arm.learnt is None else "-" for cell, column in
                                       zip(row(ran(TABLE).out, "a*")[1:], make_columns())]
    assert made(tmp_path / "w") == before
    starts = []
    ran("meta --method coop --datasets f")
    for tasks, folder in (("", "meta-coop"), ("--tasks a b c d e", "meta-coop-a+b+c+d+e")):
        ran(f"{zeroshot} {tasks}")
        ran(f"{finetune} {tasks}")
        evaluated, = [one for one in results(tmp_path, dataset="f", tuned=False) if folder in one.path.parts]
        tuned, = [one for one in results(tmp_path, dataset="f", tuned=True)
                  if folder.replace("meta-coop", "coop-meta") + "-base" in one.path.parts]
        assert evaluated.identity["prompt"] == tuned.identity["prompt"]
        starts.append(tuned.identity["prompt"])
    assert starts[0] != starts[1] == open_prompt(tmp_path / "w" / PROMPT).fingerprint


@pytest.mark.parametrize("words", ["coop-seed1", "coop-seed1-a+b"])
def test_a_copied_folder_is_not_taken_for_another_tasks(words, place, ran):
    """Whatever the names say."""
    ran("meta --method coop --tasks a b c d e --datasets f")
    folder = complete(place / PROMPT).parent
    shutil.copytree(folder, folder.with_name(words + folder.name[-13:]))
    asked = "--tasks b a" if "+" in words else ""
    for command in ("zeroshot --prompt meta", "finetune --init meta"):
        said = ran(f"{command} --method coop {asked} --datasets f", 2).err
        assert f"no meta-prompt {words}" in said and "differs in trained_on" in said
    shown = ran(f"table {asked} --datasets f")
    assert row(shown.out, "f")[2] == "-"


def test_the_page_shows_the_trainings_of_these_tasks(place, ran):
    ran("meta --method coop --tasks a b --datasets f")
    for tasks, curves in (("--tasks b a", 3), ("", 0), ("--tasks a", 0)):
        page = ran(f"table {tasks} --datasets f --format html").out
        assert page.count("<polyline") == curves and page.count("meta-training: method coop") == bool(curves)
    assert "meta-prompts of the tasks a" in page


@pytest.mark.parametrize("tasks, says", [
    ("nowhere", "no dataset 'nowhere' in the mini suite, and no folder of that name"),
    ("DTD", "DTD is of the paper's suite; give --data DIR"),
    ("alone", "alone: only the sub-folder 'rose'"), ("single", "single/cup: 1 images"),
    ("parts", "parts: one training image of each class, such as 'cup'; meta-training needs"),
    ("a deep/a", "deep/a: another folder of that name is given, too"), ("deep/f", "f: another folder of that name is given, too"),
    ("deep/pets", "deep/pets: results are kept by the folder's name, and this one is a dataset's of the suite"),
    ("flowers", "flowers: a dataset of the suite, and a folder here"), ("deep/Average", "Average: results are kept by")])
def test_bad_tasks_are_refused_before_any_work(tasks, says, place, ran):
    for name, count in (("deep/a", 4), ("deep/f", 4), ("deep/pets", 4), ("flowers", 4), ("deep/Average", 4), ("single", 1)):
        pictures(place / name, [f"{word}/{i}.png" for word in ("cup", "rose") for i in range(count)], 9)
    pictures(place / "alone", ["rose/0.png", "rose/1.png"], 9)
    pictures(place / "parts", [f"{part}/{word}/0.png" for part in ("train", "test") for word in ("cup", "rose")], 9)
    for command in ("meta --method coop", "table --run"):
        said = [line for line in ran(f"{command} --tasks {tasks} --datasets f", 2).err.splitlines() if line.startswith("run.py: ")]
        assert len(said) == 1 and says in said[0]
    assert not (place / "runs").exists()


def test_the_papers_numbers_are_of_its_own_tasks(place, ran):
    said = ran("table --data . --paper --tasks a --datasets f", 2)
    assert said.err == "run.py: --paper: the paper's numbers are of Table 1's tasks; leave --tasks out\n" and said.out == ""
    six = "ucf101 caltech101 eurosat oxford_pets flowers102 fgvc_aircraft"
    assert "(in brackets the paper's value" in ran(f"table --data . --paper --tasks {six}").out


def test_which_datasets_are_evaluated_and_which_are_tasks(place):
    mini = open_suite(None)
    chosen = open_suite(None, None, ["e", "pets", "b", "food", str(place / "b"), "PETS"])
    assert chosen.training == ["pets", "food", "b", "e"] == chosen.other_tasks and chosen.datasets == [*mini.datasets, "b", "e"]
    assert [name for name, role in chosen.roles.items() if role == "train"] == chosen.training
    both = open_suite(None, ["f", "food", "b"], ["b"])
    assert both.datasets == ["food", "f", "b"] and both.training == ["b"]
    assert both.load("b") == own.load(Path("b")) and both.load("f") == own.load(Path("f"))
    usual = open_suite(None, None, mini.training[::-1])
    assert usual.training == mini.training and not usual.other_tasks and not mini.other_tasks
    assert not open_suite(None, ["b"]).other_tasks


def test_data_lists_tasks_too(place, ran):
    lines = ran("data --tasks a pets --datasets f").out.splitlines()
    assert [line.split()[:2] for line in lines] == [[name, "ready"] for name in ("weights", "f", "pets", "a")]
