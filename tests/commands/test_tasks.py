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
from data.feed import Feed
from data.suite import open_suite
from mp.clip.weights import load
from mp.commands import table
from mp.experiment import session
from mp.learners import METHODS, make_learner
from mp.meta import meta_train
from mp.prompts import open_prompt
from mp.settings import MetaSettings
from mp.report.table2 import make_columns
from mp.store.cells import complete
from mp.tasks import make_task
from tests.robustness.tiny import pictures
from tests.walks.outputs import result, results

WORDS = ["rose", "tulip", "cup", "lamp"]  # that the miniature's CLIP knows
TASKS = "a b c d e".split()
PROMPT = "runs/mini/meta/coop-seed1-a+b+c+d+e/prompt.pt"  # without its digits
META = "meta --method coop --tasks e a c b d --datasets a b c d e f"
TABLE = "table --tasks a b c d e --datasets a f"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """One epoch of everything."""
    def opened(*args):
        return open_suite(*args)._replace(meta_epochs=1)

    monkeypatch.setattr(session, "open_suite", opened)
    monkeypatch.setattr(table, "open_suite", opened)
    for name, row in METHODS.items():
        monkeypatch.setitem(METHODS, name, row._replace(finetune=row.finetune | {"epochs": 1, "batch": 16}))


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


@pytest.fixture
def ran(place, capsys):
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
    """The meta-prompt of the tasks, in the order of their names, with nothing of mp/commands."""
    mini = open_suite(None)
    model = load(mini.weights)
    learner = make_learner("coop", model, depth=3, length=4)
    tasks = []
    for name in TASKS:
        data = own.load(Path(name))
        items = few_shot(data.train, 16, 1)
        tasks.append(make_task(learner, model, name, data.classes, Feed(32).plain(items), [item.label for item in items]))
    (state,) = meta_train(learner, model, tasks, MetaSettings("coop", **METHODS["coop"].meta | {"epochs": 1}))
    return state.params


def test_the_whole_chain(place, ran):
    shown = ran(META).out
    assert len(row(shown, "a*")) == len(row(shown, "f")) == 12 and not re.search(r"f\*|^a ", shown, re.MULTILINE)
    assert [line.split("  ")[0] for line in shown.splitlines()[2:5]] == ["Average", "Average (train)", "Average (test)"]
    prompt = open_prompt(place / PROMPT)
    torch.testing.assert_close(prompt.params, by_hand(), rtol=0, atol=0)
    assert list(prompt.identity["trained_on"]) == TASKS
    tested = {result.dataset for result in results(place) if "meta-coop-a+b+c+d+e" in result.path.parts}
    assert tested == {*"abcdef"}
    columns = [row(ran(f"zeroshot --method coop --prompt meta --tasks {order} --datasets f").out, "f")
               for order in ("a b c d e", "./e/ d c b a a")]
    assert columns == [row(shown, "f")] * 2
    ran("finetune --method coop --init meta --tasks a b c d e --datasets f")
    tuned = result(place, tuned=True)
    assert tuned.identity["prompt"] == prompt.fingerprint and "coop-meta-a+b+c+d+e-base" in tuned.path.parts
    before = made(place)
    ended = ran(f"{TABLE} --run --format csv")
    assert "missing" not in ended.err and before.items() <= made(place).items()
    cells = {line["dataset"]: line for line in csv.DictReader(io.StringIO(ended.out)) if line["metric"] == "Base"}
    assert list(cells) == ["a", "f"] and set(cells["f"]) == {"dataset", "metric", *(column.key for column in make_columns())}
    assert "" not in cells["a"].values() and float(cells["f"]["finetune/coop/mp"]) == round(tuned.accuracies["base"], 2)
    shown = ran(TABLE)
    assert "meta-prompts of the tasks a, b, c, d, e\n" in shown.out
    averages = [line.split()[3:] for line in shown.out.splitlines() if line.startswith("Average (")]
    assert averages == [row(shown.out, "a*")[1:], row(shown.out, "f")[1:]]


def test_nothing_is_mixed_with_table_1s_tasks(place, ran):
    """What doesn't depend on tasks serves both."""
    ran(f"{TABLE} --run")
    before = made(place)
    for command in ("zeroshot --prompt meta --method coop --datasets f", "finetune --init meta --method coop --datasets f"):
        for tasks in ("", "--tasks a b"):
            said = ran(f"{command} {tasks}", 2).err
            assert "no meta-prompt coop-seed1" in said and "make it with: python run.py meta --method coop" in said
    shown = ran("table --datasets a f")
    assert "meta-prompts of" not in shown.out and "*" not in row(shown.out, "a")
    assert row(shown.out, "a")[1:] == [cell if column.arm.learnt is None else "-" for cell, column in
                                       zip(row(ran(TABLE).out, "a*")[1:], make_columns())]
    assert made(place) == before


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


def test_tasks_of_other_images_are_other_tasks(place, ran):
    """Of the same names, where they lie now: `meta` learns anew, and what is meant by "meta" then has to be said."""
    ran("meta --method coop --tasks a b --datasets f")
    for word in WORDS:
        shutil.copy(place / "b" / word / "0.png", place / "a" / word / "4.png")
    said = ran("meta --method coop --tasks a b --datasets f").err
    assert "learns 1; " in said and "the nearest that is there differs in trained_on.a" in said
    assert len(list(place.glob("runs/mini/meta/coop-seed1-a+b-*/prompt.pt"))) == 2
    for command in ("zeroshot --prompt meta --method coop", "finetune --init meta --method coop"):
        assert "several meta-prompts would fit" in ran(f"{command} --tasks a b --datasets f", 2).err
    assert "several" not in ran("meta --method coop --tasks a b --datasets f").err


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


def test_data_lists_tasks_too(ran):
    lines = ran("data --tasks a pets --datasets f").out.splitlines()
    assert [line.split()[:2] for line in lines] == [[name, "ready"] for name in ("weights", "f", "pets", "a")]
