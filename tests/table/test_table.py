"""Table 2 from result files: what belongs into it, and --run."""
import contextlib
import io
import json
import re
import shlex
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch

import run as program
from data import paper
from data.miniature import suite as mini
from data.suite import Suite, open_suite
from mp.clip.weights import load
from mp.commands import options, session, table
from mp.commands.zeroshot import HANDCRAFTED
from mp.learners import METHODS
from mp.learners.deep import layers_of
from mp.report import averages, columns
from mp.runtime import files
from mp.settings import PARTS, FinetuneSettings, as_dict
from mp.store import promptfile, results
from mp.store.identity import FORMAT, Identity
from mp.table.entries import file_of

COLUMNS = {column.key: column for column in columns.make_columns()}
KEYS = list(COLUMNS)
PAPER = Suite("paper", paper.TRAINING, paper.NAMES, None, None, 200)
MINI = Suite("mini", mini.TRAINING, list(mini.TABLE), None, None, 50)
TRAINED_ON = dict.fromkeys(mini.TRAINING, "0123")


def write(out, suite, seeds, value, prompt=None):
    """A result file for every cell; `value(key, dataset, part, seed)` in per cent; `prompt`: the fingerprint in all."""
    for column in COLUMNS.values():
        for dataset in suite.datasets:
            for seed in seeds if column.method else [None]:
                settings = None
                if column.arm.tuned is not None:
                    settings = as_dict(FinetuneSettings(column.method, **METHODS[column.method].finetune, seed=seed))
                identity = Identity(FORMAT, "ab" * 32, "cpu", "fp32", settings, tested_on={dataset: "0123"}, prompt=prompt)
                kind = "fine-tuning result" if column.arm.tuned is not None else "zero-shot result"
                made_by = {"command": f"python run.py makes {column.key}", "commit": "c0ffee", "torch": "2"}
                results.cell(file_of(column, out, dataset, seed, "base"), kind, identity, made_by,
                             lambda: {"accuracies": {p: value(column.key, dataset, p, seed) for p in PARTS}})


def write_prompt(path, **identity):
    about = {"format": FORMAT, "weights": "ab" * 32, "trained_on": TRAINED_ON, **identity}
    promptfile.write(path, "coop", {"ctx": torch.zeros(4, 8)}, about, {})


def change(path, place, value):
    """Sets one value, by its keys, in a result or prompt file."""
    content = json.loads(path.read_text()) if path.suffix == ".json" else torch.load(path, weights_only=True)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    if path.suffix == ".json":
        path.write_text(json.dumps(content))
    else:
        torch.save(content, path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Three seeds of random numbers for the miniature: the folder, and the numbers [key, dataset, part, seed]."""
    out = tmp_path_factory.mktemp("runs")
    numbers = np.random.default_rng(0).uniform(20, 90, (len(KEYS), 11, 3, 3))
    numbers[0] = numbers[0, :, :, :1]  # the handcrafted zero-shot prompts have no seed

    def value(key, dataset, part, seed):
        return numbers[KEYS.index(key), MINI.datasets.index(dataset), PARTS.index(part), (seed or 1) - 1]

    for method in columns.SHOWN:
        write_training(out / "mini", method)
    write(out / "mini", MINI, [1, 2, 3], value, promptfile.fingerprint(results.meta_prompt(out / "mini", "coop", 1)))
    return out, numbers


def write_training(out, method):
    """What a meta-training of 50 epochs leaves."""
    prompt = results.meta_prompt(out, method, 1)
    identity = {"weights": "ab" * 32, "trained_on": TRAINED_ON, "settings": {"method": method, "inner_lr": 0.025 / 6}}
    write_prompt(prompt, **identity)
    log = [dict(query_loss=3 / i, grad_norm=9 / i, clipped_norm=min(5, 9 / i)) for i in range(1, 51)]
    prompt.with_name("log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    prompt.with_name("settings.json").write_text(json.dumps({"identity": {"format": FORMAT, **identity}}))


def printed(out, *args, capsys):
    assert program.main(["table", "--out", str(out), *args]) == 0
    return capsys.readouterr()


@pytest.mark.parametrize("name", averages.averaged({"a": "train", "b": "test"}))
def test_no_folder_takes_the_place_of_an_average(tmp_path, capsys, name):
    (tmp_path / name / "owl").mkdir(parents=True)
    assert program.main(["table", "--out", str(tmp_path), "--datasets", "pets", str(tmp_path / name)]) == 2
    assert f"{name}: tables have a row of averages of this name; rename the folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Results that equal the paper's numbers; 50 in a column that it doesn't have."""
    out, published = tmp_path_factory.mktemp("paper"), columns.paper_accuracies()
    write(out / "paper", PAPER, [1], lambda key, dataset, part, _: published[key][dataset][part] if key in published else 50.0)
    return out


def test_paper_needs_the_papers_datasets(filled, capsys):
    assert program.main(["table", "--paper", "--out", str(filled[0])]) == 2
    assert "--paper: the paper has no numbers for the miniature" in capsys.readouterr().err


def test_missing_cells_and_the_commands_that_fill_them(tmp_path, capsys):
    tmp_path = tmp_path / "two words"
    out = printed(tmp_path, "--seeds", "1", "2", "--classes", "all", "--datasets", "pets", "cars", capsys=capsys)
    assert "-" in out.out and "±" not in out.out
    commands = [line.strip() for line in out.err.splitlines() if line.startswith("  python run.py")]
    assert len(commands) == len(KEYS)
    parsed = [options.parse(shlex.split(line)[2:], "") for line in commands]
    asked = [(a.command, a.method, getattr(a, "init", None)) for a in parsed]
    metas = [("meta", method, None) for method in columns.SHOWN]
    assert asked[: len(metas) + 3] == [("zeroshot", None, None), *metas, ("finetune", "coop", "handcrafted"),
                                       ("finetune", "coop", "meta")]
    assert all(a.out == tmp_path and a.datasets == ["pets", "cars"] for a in parsed)
    assert all(a.seeds == [1, 2] for a in parsed[1:])  # handcrafted words have no seed
    assert all(a.classes == "all" for a in parsed if a.command == "finetune")


def test_a_damaged_result_is_a_missing_one(filled, tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = file_of(COLUMNS["zeroshot/mp-coop"], tmp_path / "mini", "pets", 1, "base")
    path.write_text(path.read_text()[:40])
    out = printed(tmp_path, capsys=capsys)
    assert "pets-seed1.json: damaged; left out" in out.err and "python run.py meta --method coop --seeds 1" in out.err
    assert sum(" - " in line or line.endswith(" -") for line in out.out.splitlines()) == 12  # pets and two averages, 4 rows each


def test_results_of_other_settings_or_prompts_are_left_out(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(file_of(COLUMNS["finetune/coop/hand"], tmp_path / "mini", "pets", 1, "base"), ["identity", "settings", "epochs"], 2)
    write_prompt(results.meta_prompt(tmp_path / "mini", "coop", 1))
    out = printed(tmp_path, capsys=capsys)
    assert "pets-seed1.json: left out, made otherwise: epochs 2 (now 200); its command below, with --force, makes" in out.err
    assert out.err.count("left out, made from another meta-prompt than the one that is there now") == 22
    commands = [line.strip() for line in out.err.splitlines() if line.startswith("  python run.py")]
    assert commands[1] == f"python run.py finetune --method coop --init handcrafted --seeds 1 --out {tmp_path} --datasets pets --force"
    assert commands[0].startswith("python run.py zeroshot --prompt meta --method coop --seeds 1 ") and len(commands) == 3


def test_a_damaged_meta_prompt_is_told_and_its_results_are_shown(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    whole = printed(tmp_path, capsys=capsys)
    prompt = results.meta_prompt(tmp_path / "mini", "coop", 1)
    prompt.parent.mkdir(parents=True)
    prompt.write_text("x")
    again = printed(tmp_path, capsys=capsys)
    assert again.out == whole.out and again.err.count(f"{prompt}: damaged, or not a file of this project") == 1


@pytest.mark.parametrize("place, value", [
    (["trained_on"], {"pets": "0123"}), (["trained_on"], TRAINED_ON | {"birds": "0123"}), (["trained_on"], torch.ones(2)), ([], torch.ones(2))])
def test_what_was_made_from_a_meta_prompt_of_other_tasks_is_left_out(tmp_path, capsys, place, value):
    prompt = results.meta_prompt(tmp_path / "mini", "coop", 1)
    write_prompt(prompt)
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0, promptfile.fingerprint(prompt))
    assert printed(tmp_path, capsys=capsys).err == ""
    change(prompt, ["identity", *place], value)
    said = printed(tmp_path, capsys=capsys).err
    assert said.count(f"{prompt}: trained on other tasks; left out, with what was made from it\n") == 1
    assert said.count(": left out, made from another meta-prompt") == 22 and "run.py meta --method coop --seeds 1 --out" in said


def test_a_meta_prompt_that_is_there_is_not_learnt_again_by_the_commands(tmp_path, capsys):
    write_prompt(results.meta_prompt(tmp_path / "mini", "coop", 1))
    for seeds, command in ((["1"], "zeroshot --prompt meta --method coop --seeds 1 "), (["1", "2"], "meta --method coop --seeds 1 2 ")):
        assert f"python run.py {command}" in printed(tmp_path, "--seeds", *seeds, capsys=capsys).err


@pytest.mark.parametrize("place, value, reason", [
    (["weights"], "cd" * 32, "weights cdcdcdcdcdcdcdcdcdcd (now abababababababababab)"),
    (["weights"], "x\n\x1b", r"weights x\n\x1b (now abababababababababab)"),
    (["tested_on", "pets"], "4567", "tested_on.pets 4567 (now 0123)"), (["tested_on"], [], "tested_on [] (now {'pets': '0123'})")])
def test_results_of_other_weights_or_images_are_left_out(tmp_path, capsys, place, value, reason):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(file_of(COLUMNS["zeroshot/mp-coop"], tmp_path / "mini", "pets", 1, "base"), ["identity", *place], value)
    out = printed(tmp_path, capsys=capsys)
    assert f"pets-seed1.json: left out, made otherwise: {reason};" in out.err and out.err.count("left out") == 1


@pytest.mark.parametrize("key", ["finetune/coop/hand", "finetune/promptsrc/mp"])
def test_what_was_fine_tuned_on_other_images_than_most_of_its_dataset_and_seed_is_left_out(tmp_path, capsys, key):
    write(tmp_path / "mini", MINI, [1, 2], lambda *_: 50.0)
    for one in KEYS:
        for seed in (1, 2) if one.startswith("finetune") else ():
            for name in MINI.datasets:
                path = file_of(COLUMNS[one], tmp_path / "mini", name, seed, "base")
                change(path, ["identity", "trained_on"], {name: f"{name} {seed}"})
    assert "left out" not in printed(tmp_path, "--seeds", "1", "2", capsys=capsys).err
    path = file_of(COLUMNS[key], tmp_path / "mini", "pets", 2, "base")
    change(path, ["identity", "trained_on", "pets"], "4567")
    said = printed(tmp_path, "--seeds", "1", "2", capsys=capsys).err
    assert f"{path}: left out, made otherwise: trained_on.pets 4567 (now pets 2);" in said and said.count(": left out") == 1


def test_what_does_not_fit_has_no_say_in_which_images_do(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    for key in KEYS[1:]:
        path = file_of(COLUMNS[key], tmp_path / "mini", "pets", 1, "base")
        if key.startswith("finetune") and key != "finetune/coop/hand":
            change(path, ["identity", "settings", "shots"], 4)
            change(path, ["identity", "trained_on"], {"pets": "four"})
    said = printed(tmp_path, capsys=capsys).err
    assert said.count("made otherwise: shots 4 (now 16)") == said.count(": left out") == sum("finetune" in key for key in KEYS) - 1


def test_the_weights_given_are_those_that_count(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    out = printed(tmp_path, "--weights", str(mini.WEIGHTS), capsys=capsys)
    assert out.err.count("left out, made otherwise: weights abababababababababab (now") == 11 * len(KEYS) and "50.0" not in out.out


@pytest.mark.parametrize("prompt, results_there, command", [
    ("these weights", True, "zeroshot --prompt meta --method coop --seeds 1 "), ("none", False, "meta --method coop --seeds 1 "),
    ("other weights", True, "meta --method coop --seeds 1 "), ("other weights", False, "meta --method coop --seeds 1 "),
    ("damaged", False, "meta --method coop --seeds 1 ")])
def test_a_meta_prompt_that_cannot_be_used_is_learnt_anew_by_the_commands(tmp_path, capsys, prompt, results_there, command):
    """What can't be used is replaced only with --force."""
    if results_there:
        write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = results.meta_prompt(tmp_path / "mini", "coop", 1)
    if prompt != "none":
        write_prompt(path, **({} if prompt == "other weights" else {"weights": files.sha256(mini.WEIGHTS)}))
    if prompt == "damaged":
        path.write_text("x")
    said = printed(tmp_path, "--weights", str(mini.WEIGHTS), capsys=capsys).err
    line, = (line for line in said.splitlines() if line.startswith(f"  python run.py {command}"))
    assert line.count("--force") == (results_there or prompt != "none")
    asked = options.parse(shlex.split(line)[2:], "")
    assert asked.weights == mini.WEIGHTS and asked.out == tmp_path


def test_what_is_left_out_again_has_its_advice(tmp_path, capsys):
    """Most results are of images that aren't there any more: the new one is left out however often it is made."""
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    advice = "where that doesn't help, most are .*: `run.py table --run --force` makes all anew, another --out keeps both\n"
    assert not re.search(advice, printed(tmp_path, capsys=capsys).err)
    change(file_of(COLUMNS["zeroshot/hand"], tmp_path / "mini", "pets", 1, "base"), ["identity", "tested_on", "pets"], "4567")
    assert len(re.findall(advice, printed(tmp_path, capsys=capsys).err)) == 1


@pytest.mark.parametrize("place, value", [(["identity", "format"], FORMAT - 1), (["made_by"], {})])
def test_results_of_earlier_versions_are_refused(tmp_path, capsys, place, value):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(file_of(COLUMNS["zeroshot/mp-coop"], tmp_path / "mini", "pets", 1, "base"), place, value)
    assert program.main(["table", "--out", str(tmp_path)]) == 2
    assert "pets-seed1.json: from another version of this project" in capsys.readouterr().err


def test_depth_counts_on_the_papers_suite_alone(papers, tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    for out, suite, count in ((tmp_path, MINI, 0), (papers, PAPER, 1)):
        path = file_of(COLUMNS["finetune/promptsrc/hand"], out / suite.name, suite.datasets[4], 1, "base")
        before = path.read_text()
        change(path, ["identity", "settings", "depth"], 3)
        said = printed(out, *(["--data", str(tmp_path)] if suite is PAPER else []), capsys=capsys).err
        assert said.count("left out, made otherwise: depth 3 (now 9)") == count
        path.write_text(before)


def test_with_the_miniature_s_own_weights_its_layers_are_the_depth(tmp_path, capsys, monkeypatch):
    """Fine-tuned with --depth 1, a result was taken for the paper's setting."""
    monkeypatch.setattr(files, "sha256", lambda path: "ab" * 32)
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    for number, dataset in enumerate(MINI.datasets):
        path = file_of(COLUMNS["finetune/promptsrc/hand"], tmp_path / "mini", dataset, 1, "base")
        change(path, ["identity", "settings", "depth"], 1 if number == 4 else mini.LAYERS)
    said = printed(tmp_path, capsys=capsys).err
    own = [line for line in said.splitlines() if "promptsrc-handcrafted-base" in line and "left out" in line]
    assert len(own) == 1 and f"{MINI.datasets[4]}-seed1.json: left out, made otherwise: depth 1 (now 3)" in own[0]
    assert mini.LAYERS == layers_of(load(mini.WEIGHTS))


SMALL = ["table", "--run", "--datasets", "aircraft"]


@contextlib.contextmanager
def small():
    """One epoch of everything on two training datasets."""
    def opened(*args):
        whole = open_suite(*args)
        return whole._replace(meta_epochs=1, training=whole.training[2:4])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "open_suite", opened)
        patch.setattr(table, "open_suite", opened)
        for name, row in METHODS.items():
            short = {"epochs": 1, "batch": 16}
            patch.setitem(METHODS, name, row._replace(finetune=row.finetune | short))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole small table: the folder, and its text."""
    out = tmp_path_factory.mktemp("small")
    with small(), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), write_through=True)) as stdout:
        assert program.main([*SMALL, "--out", str(out)]) == 0
        stdout.seek(0)
        return out, stdout.read()


@pytest.fixture
def place(finished, tmp_path):
    """A copy of it, to go on with."""
    with small():
        yield shutil.copytree(finished[0], tmp_path / "runs")


def tuned(place, key="finetune/coop/mp"):
    return file_of(COLUMNS[key], place / "mini", "aircraft", 1, "base")


def computed(capsys):
    """The progress lines of cells."""
    return [line.split("  ")[1] for line in capsys.readouterr().err.splitlines() if line.startswith("cell ")]


def test_run_leaves_what_is_finished_and_computes_the_rest(finished, place, capsys, monkeypatch):
    """Whatever device made it. A finished cell isn't opened for its test images; a damaged one is computed again."""
    for file in [tuned(place), tuned(place, "zeroshot/hand"), results.meta_prompt(place / "mini", "coop", 1)]:
        for kept in ("identity", "provenance"):
            change(file, [kept, "device"], "cuda")
            change(file, [kept, "precision"], "fp16")
    before = {path: path.read_bytes() for path in place.rglob("*.*") if path.suffix in (".json", ".pt")}
    missing, damaged = tuned(place, "zeroshot/mp-coop"), tuned(place, "finetune/promptsrc/hand")  # one is made from the prompt of "cuda"
    missing.unlink()
    damaged.write_text("{")
    assert program.main([*SMALL, "--out", str(place)]) == 0
    out = capsys.readouterr()
    assert "cell 2/2  fine-tuned PromptSRC H, aircraft, seed 1  took" in out.err and "meta-training" not in out.err
    assert "cuda fp16" in out.out and "cpu fp32" in out.out and "left out" not in out.err
    numbers = [text.split("per cent")[0] for text in (out.out, finished[1])]
    assert numbers[0] == numbers[1]
    for path, content in before.items():
        assert path in (missing, damaged) or path.read_bytes() == content or path.name.startswith(damaged.stem)
    monkeypatch.setattr(session.Session, "test_set", None)
    assert program.main([*SMALL, "--out", str(place)]) == 0 and not computed(capsys)


@pytest.mark.parametrize("where, key, reason", [
    ("zeroshot/hand", ["weights"], "weights 0 (now"), ("finetune/coop/mp", ["settings", "lr"], "lr 0 (now 0.002)"),
    ("finetune/coop/mp", ["tested_on", "aircraft"], "tested_on.aircraft 0 (now"), ("finetune/cocoop/mp", ["trained_on", "aircraft"], "trained_on.aircraft 0 (now"),
    ("finetune/coop/mp", ["prompt"], "another meta-prompt"), ("prompt", ["settings", "inner_steps"], "settings.inner_steps 0 (now 4)"),
    ("prompt", ["weights"], "weights 0 (now"), ("prompt", ["trained_on", "flowers"], "trained_on.flowers 0 (now")])
def test_run_refuses_before_any_work_what_was_made_otherwise(place, capsys, where, key, reason):
    path = results.meta_prompt(place / "mini", "coop", 1) if where == "prompt" else tuned(place, where)
    change(path, ["identity", *key], 0)
    tuned(place, "finetune/promptsrc/mp").unlink()  # something to do
    results.meta_prompt(place / "mini", "cocoop", 1).unlink()
    assert program.main([*SMALL, "--out", str(place)]) == 2
    said = capsys.readouterr().err
    assert re.search(f"run.py: {re.escape(str(path))}: made .*{re.escape(reason)}.*; give --force", said), said
    assert not tuned(place, "finetune/promptsrc/mp").exists() and "meta-training" not in said


def test_run_names_the_first_and_how_many_more(place, capsys):
    for key in ("finetune/coop/hand", "finetune/coop/mp", "finetune/cocoop/hand"):
        change(tuned(place, key), ["identity", "settings", "lr"], 0)
    assert program.main([*SMALL, "--out", str(place)]) == 2
    said = capsys.readouterr().err
    path = tuned(place, "finetune/coop/hand")
    assert f"{path}: made otherwise: lr 0 (now 0.002), and 2 more like it; give --force to compute everything" in said


def test_all_images_of_a_dataset_may_have_changed(place, capsys):
    """What is finished agrees, but isn't what missing cells would be made from."""
    for key in KEYS:
        change(tuned(place, key), ["identity", "tested_on", "aircraft"], "0")
    for _ in ("nothing is missing", "one is"):
        assert program.main([*SMALL, "--out", str(place)]) == 2
        said = capsys.readouterr().err
        assert "tested_on.aircraft 0 (now " in said and "give --force to compute everything anew, or another --out\n" in said
        tuned(place).unlink(missing_ok=True)


def test_run_names_what_is_of_other_images_than_those_on_disk_not_what_is_of_fewer(place, capsys):
    for key in KEYS[1:]:
        change(tuned(place, key), ["identity", "tested_on", "aircraft"], "0")
    assert program.main([*SMALL, "--out", str(place)]) == 2
    assert f"run.py: {tuned(place, KEYS[1])}: made otherwise: tested_on.aircraft 0 (now " in capsys.readouterr().err


def test_force_computes_everything_with_the_same_bits(finished, place, capsys):
    prompt = results.meta_prompt(place / "mini", "coop", 1)
    before, first = {path: path.stat().st_mtime_ns for path in place.rglob("*-seed1.json")}, prompt.read_bytes()
    change(tuned(place), ["identity", "settings", "lr"], 0)
    change(prompt, ["identity", "device"], "cuda")
    assert program.main([*SMALL, "--force", "--out", str(place)]) == 0
    out = capsys.readouterr()
    assert f"cell {len(KEYS)}/{len(KEYS)}" in out.err and out.out == finished[1] and prompt.read_bytes() == first
    assert len(before) == len(KEYS) - 1 and all(path.stat().st_mtime_ns > time for path, time in before.items())


def test_every_cell_is_handed_on_with_force_and_its_epochs_are_shown(monkeypatch, capsys):
    forced = []

    def tune_one(session, test, settings, init, force, report_epoch):
        report_epoch(50, "loss 1.5", 1)
        forced.append((settings, init, force))

    monkeypatch.setattr(table, "evaluate", lambda session, test, prompt, force: forced.append((prompt, force)))
    monkeypatch.setattr(table, "learnt_prompt", lambda session, given, settings: (given, settings))
    monkeypatch.setattr(table, "finetune_settings", lambda session, method, seed, given: (method, seed))
    monkeypatch.setattr(table, "find_init", lambda session, given, settings: given)
    monkeypatch.setattr(table, "tune_one", tune_one)
    chosen = [COLUMNS[key] for key in KEYS if key.startswith("zeroshot/")]
    chosen += [COLUMNS["finetune/coop/hand"], COLUMNS["finetune/coop/mp"]]
    cells = [(column.key, "pets", 3 if column.method else None) for column in chosen]
    monkeypatch.setattr(table, "find_work", lambda *_: ([], cells))
    fake = Namespace(test_set=str, meta_settings=lambda method, seed: (method, seed))
    table.compute_missing(fake, options.parse(["table", "--run", "--force"], ""))
    assert forced == [(HANDCRAFTED, True), *((("meta", (m, 3)), True) for m in columns.SHOWN),
                      (("coop", 3), "handcrafted", True), (("coop", 3), "meta", True)]
    assert computed(capsys)[-1] == "fine-tuned CoOp MP, pets, seed 3"


def test_one_process_of_several_prints(filled, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert printed(filled[0], capsys=capsys) == ("", "")


@pytest.mark.parametrize("what", ["another training's log", "no prompt", "damaged prompt", "damaged settings",
                                  "a tensor in the prompt"])
def test_the_page_shows_only_what_belongs_to_the_prompts_that_are_there(filled, tmp_path, capsys, what):
    """Curves and settings of meta-training: those of one method's don't, of the others they do."""
    out = shutil.copytree(filled[0], tmp_path / "runs")
    prompt = results.meta_prompt(out / "mini", "coop", 1)
    settings = prompt.with_name("settings.json")
    if what == "another training's log":
        change(settings, ["identity", "settings", "inner_lr"], 0.5)
    elif what == "no prompt":
        prompt.unlink()
    elif what == "a tensor in the prompt":
        change(prompt, ["identity", "settings"], torch.ones(2))
    else:
        (prompt if what == "damaged prompt" else settings).write_text("x")
    text = printed(out, "--format", "html", capsys=capsys).out
    assert text.count("<polyline") == 3 * (len(columns.SHOWN) - 1)
    told = text.count("meta-training: method")
    assert told == len(columns.SHOWN) - ("prompt" in what) and "inner_lr 0.5" not in text
