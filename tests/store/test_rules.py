"""When a file is used again: every rule, through the command line, on files that are edited, taken away and mended.

That a command given again computes nothing, in every command that keeps something: tests/walks/test_again.py.
"""
import json
import multiprocessing
import os
import re
import shlex
import shutil
import socket

import pytest
import torch

import run as program
from data import folder
from data.dataset import few_shot
from mp.prompts import open_prompt
from tests.store.world import COOP, LEARNT, TASKS, TUNED, numbers, other_weights, plan, redraw, run, states, whole, write
from tests.walks import outputs
from tests.walks.small import counted, no_images

TABLE = f"table {TASKS}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Draw the world, without results."""
    return write(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def done(drawn, tmp_path_factory):
    """Return the world after a table, which has a meta-prompt and fine-tuned ones, and what was printed."""
    place = tmp_path_factory.mktemp("done") / "world"
    shutil.copytree(drawn, place)
    return place, run(place, f"{TABLE} --run").out


@pytest.fixture
def place(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "world")


@pytest.fixture
def place_done(done, tmp_path):
    return shutil.copytree(done[0], tmp_path / "world")


def learnt(place, out="runs"):
    """Return the folder of the only meta-prompt."""
    folder, = (place / out / "mini/meta").glob("coop-*")
    return folder


def spoil(prompt):
    """Replace what was learnt, but nothing of what the file says of it."""
    content = torch.load(prompt, weights_only=True)
    content["params"]["ctx"] *= -3
    torch.save(content, prompt)


# Another input is another name

CHANGES = {  # what changes -> in what the nearest file differs, for meta and for finetune
    "template": ("prompt", ""), "images learnt from": ("trained_on.north", ""),
    "images tested on": ("tested_on.east",) * 2, "images tuned on": ("", "trained_on.east"),
    "weights": ("weights",) * 2, "precision": ("precision",) * 2,
}


def change(place, what, monkeypatch):
    """Change something; return the options that the commands are given from now on."""
    if what == "template":
        monkeypatch.setattr("data.folder.TEMPLATE", "a negative of the {}.")
    elif what.startswith("images"):
        redraw(place, "north" if "learnt" in what else "east", "test" if "tested" in what else "train")
    return {"weights": f"{COOP} {other_weights(place)}", "precision": f"{COOP} --precision fp32"}.get(what, COOP)


@pytest.mark.parametrize("what", CHANGES)
def test_another_input_is_another_name_and_nothing_is_mixed(what, place_done, monkeypatch):
    place, commands = place_done, [f"meta {COOP}", f"finetune {COOP}"]
    before, accuracies = whole(place), numbers(place)
    options = change(place, what, monkeypatch)
    with counted() as gradients:
        said = [run(place, command.replace(COOP, options)) for command in commands]
    after = whole(place)
    assert {path: after[path] for path in before} == before  # not even their times
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "no features of images yet"))
    alone = [run(place, f"{command.replace(COOP, options)} --out alone") for command in commands]
    assert [ended.out for ended in said] == [ended.out for ended in alone]
    assert whole(place).keys() == after.keys()
    fresh = numbers(place, "alone")
    assert {path: numbers(place)[path] for path in fresh} == fresh and fresh != accuracies
    new = {path: value for path, value in fresh.items() if path not in accuracies}
    assert bool(new) and (what == "precision" or list(new.values()) != list(accuracies.values()))
    assert (gradients.calls == 0) == (what in ("template", "images tested on"))  # trains nothing anew
    assert ("tunes" in plan(said[1])) == (what in ("images tuned on", "weights", "precision"))
    assert ("learns" in plan(said[0])) == (gradients.calls > 0 and what != "images tuned on")
    for ended, differs in zip(said, CHANGES[what]):
        assert plan(ended).endswith(f"differs in {differs}") if differs else "differs" not in plan(ended), ended.err


def test_what_does_not_matter_is_not_in_a_name(place_done, done):
    """Where images and results lie, in what order seeds are given, how many processes, and how much memory."""
    before = whole(place_done)
    (place_done / "moved").mkdir()
    (place_done / "east").rename(place_done / "moved/east")
    (place_done / "a link").symlink_to("moved/east")
    options = "--device cpu --workers 1 --memory 0.5"
    for datasets in ("moved/east", f"'{place_done}/moved/east'", "'a link'"):
        command = f"table --run --tasks {place_done}/south ./north --datasets {datasets} {options}"
        with counted() as gradients, no_images():
            assert run(place_done, command).out == done[1]
        assert gradients.calls == 0 and whole(place_done) == before
    (place_done / "runs").rename(place_done / "other runs")
    ended = run(place_done, f"table --run --out 'other runs' {TASKS.replace('east', 'moved/east')}")
    assert plan(ended) == "uses 5 that are there"


def test_other_datasets_beside_make_no_other_names(place_done):
    before = whole(place_done)
    ended = run(place_done, "table --run --tasks north south --datasets north east --seeds 1")
    assert before.items() <= whole(place_done).items() and plan(ended) == "evaluates 2; tunes 2; uses 5 that are there"


def test_what_a_pool_learns_anew_is_what_is_shown(place_done, monkeypatch):
    """And not the accuracies of the prompt that was there before."""
    place = place_done
    monkeypatch.setattr("mp.runtime.pool.get_context", lambda _: multiprocessing.get_context("fork"))  # small, as here
    command = f"claims --only c {COOP} --jobs"
    right = run(place, f"{command} 1").out
    spoil(learnt(place) / "prompt.pt")
    assert run(place, f"{command} 1").out != right
    assert run(place, f"{command} 2 --force").out == right == run(place, f"{command} 2").out


def test_a_depth_counts_as_asked_for(place):
    """Before towers that are shallower bring it down."""
    for depth in (9, 12):
        run(place, f"finetune --method promptsrc --datasets east --depth {depth} --epochs 1")
    nine, twelve = outputs.results(place / "runs", tuned=True)
    assert {nine.settings["depth"], twelve.settings["depth"]} == {9, 12} and nine.accuracies == twelve.accuracies
    assert list(nine.prompt["params"]) == list(twelve.prompt["params"]) and len(nine.prompt["params"]) < 18


def test_a_prompt_file_counts_by_its_tensors(place_done):
    """Edited in place it is another one; moved, or written again, it is the same."""
    place = place_done
    shutil.copy(learnt(place) / "prompt.pt", place / "p.pt")
    commands = [f"zeroshot {COOP} --prompt p.pt", f"finetune {COOP} --init p.pt"]
    first = [run(place, command) for command in commands]
    content, before = torch.load(place / "p.pt", weights_only=True), whole(place)
    torch.save(content | {"provenance": {"commit": "another"}}, place / "q.pt")
    for command, said in zip(commands, first):
        assert run(place, command.replace("p.pt", "q.pt")).out.replace("q.pt", "p.pt") == said.out
    assert whole(place) == before
    content["params"]["ctx"] = content["params"]["ctx"].flip(0)
    torch.save(content, place / "p.pt")
    for command, said in zip(commands, first):
        assert run(place, command).out == run(place, f"{command} --out alone").out
        assert said.out != run(place, command).out or "finetune" in command
    assert len(whole(place)) == len(before) + 3 and before.items() <= whole(place).items()


def test_a_meta_prompt_names_the_images_of_its_own_seed(place):
    run(place, f"meta {COOP} --seeds 2")
    stated = open_prompt(learnt(place) / "prompt.pt").identity["trained_on"]
    for name in ("north", "south"):
        dataset = folder.load(place / name)
        drawn = {seed: dataset.fingerprint(few_shot(dataset.train, LEARNT["shots"], seed)) for seed in (1, 2)}
        assert stated[name] == drawn[2] != drawn[1]


def test_a_fine_tuned_prompt_names_the_images_of_its_own_seed(place):
    run(place, f"finetune {COOP} --seeds 1 2 --classes all")
    dataset = folder.load(place / "east")
    for seed in (1, 2):
        drawn = dataset.fingerprint(few_shot(dataset.train, TUNED["shots"], seed))
        for result in outputs.results(place / "runs", tuned=True, seed=seed):
            assert result.identity["trained_on"] == {"east": drawn}
    first, second = outputs.results(place / "runs", tuned=True)
    assert first.identity["trained_on"] != second.identity["trained_on"]


def test_settings_of_fine_tuning_act_whatever_it_starts_from(place_done):
    prompt = (learnt(place_done) / "prompt.pt").relative_to(place_done)
    usual = {result.identity["prompt"]: result.accuracies for result in outputs.results(place_done / "runs", tuned=True)}
    for number, init in enumerate(("handcrafted", "meta", prompt), 1):
        run(place_done, f"finetune {COOP} --init {init} --lr 9.5")
        changed = outputs.results(place_done / "runs", tuned=True, lr=9.5)
        assert len(changed) == number
        assert all(result.accuracies != usual[result.identity["prompt"]] for result in changed)


# A state is newer than a result

@pytest.mark.parametrize("command", [f"meta {COOP}", f"finetune {COOP}"])
def test_an_interrupted_force_goes_on_to_the_new_number(command, place_done):
    place, right = place_done, run(place_done, command).out
    kind = "zeroshot/meta-coop*" if command.startswith("meta") else "finetune/coop-handcrafted*"
    accuracies, (old,) = numbers(place), (place / "runs/mini").glob(f"{kind}/east-seed1*.json")
    content = json.loads(old.read_text())
    old.write_text(json.dumps(content | {"accuracies": dict.fromkeys(content["accuracies"], 1.0)}))
    if command.startswith("meta"):  # the older prompt is another one
        spoil(learnt(place) / "prompt.pt")
    with counted() as gradients:
        run(place, f"{command} --out alone")
    with counted(gradients.calls), pytest.raises(KeyboardInterrupt):
        run(place, f"{command} --force")
    assert states(place) and json.loads(old.read_text())["accuracies"]["all"] == 1.0
    with counted() as rest:
        ended = run(place, command)
    assert 0 < rest.calls < gradients.calls and not states(place)
    if command.startswith("finetune"):
        assert ended.out == right and numbers(place) == accuracies
    else:  # evaluated under the new prompt's name, which is the first one's
        shown = outputs.meta_prompt(place / "runs").params["ctx"]
        assert torch.equal(shown, outputs.meta_prompt(place / "alone").params["ctx"])


@pytest.mark.parametrize("command", [f"meta {COOP}", f"finetune {COOP}"])
def test_force_starts_anew_also_where_a_state_is_left(command, place):
    with counted() as gradients:
        right = run(place, f"{command} --out alone").out
    with counted(gradients.calls), pytest.raises(KeyboardInterrupt):
        run(place, command)
    (state,) = states(place)
    content = torch.load(state, weights_only=True)
    for tensor in content["state"]["params"].values():
        tensor *= -3
    torch.save(content, state)
    assert run(place, f"{command} --force").out == right and not states(place)
    assert numbers(place) == numbers(place, "alone")
    (params,), (expected,) = (outputs.prompts(place / out).values() for out in ("runs", "alone"))
    assert torch.equal(params["ctx"], expected["ctx"])


def dies(*_, **__):
    raise KeyboardInterrupt


def test_a_kill_between_the_prompt_and_the_result(place, monkeypatch):
    """What is computed again is the evaluation alone; a state stays until the result is written."""
    command = f"finetune {COOP}"
    run(place, f"zeroshot {TASKS}")  # the handcrafted result has no state to be left
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mp.store.cells.files.write_json", dies)
        run(place, command)
    (path, params), = outputs.prompts(place / "runs").items()
    assert states(place) and not list((place / "runs").rglob("east-seed1*.json"))
    with counted() as gradients:
        ended = run(place, command)
    assert gradients.calls == 0 and not states(place) and plan(ended).startswith("tunes 1; uses 1")
    assert run(place, f"{command} --out alone").out == ended.out
    assert torch.equal(outputs.prompts(place / "runs")[path]["ctx"], params["ctx"])


# Who uses a prompt, who learns one

USERS = [f"finetune {COOP} --init meta", f"zeroshot {COOP} --prompt meta",
         f"predict east --method coop --tasks north south --names-of east --prompt meta"]


@pytest.mark.parametrize("command", [*USERS, f"{USERS[1]} --out auto", f"{USERS[1]} --length 2 --precision fp32 --out 'my runs'"])
def test_who_only_uses_a_prompt_names_the_command_that_makes_it_and_needs_no_training_images(command, place):
    ended = run(place, command, code=2)
    learning, = re.findall(r"make it with: python run.py (.*)", ended.err)
    assert learning.startswith("meta --method coop") and ended.out == "" and not list(place.rglob("*.pt"))
    run(place, learning)
    prompts = list(place.rglob("prompt.pt"))
    used = run(place, command).out
    assert list(place.rglob("prompt.pt")) == prompts and len(prompts) == 1
    for path in place.glob("*runs/**/east*.json"):
        path.unlink()
    for name in ("north", "south"):
        shutil.rmtree(place / name)
        (place / name).mkdir()
    assert run(place, command).out == used


@pytest.mark.parametrize("name", ["my cats", "x" * 101])
def test_a_meta_prompt_is_found_whatever_its_tasks_are_called(name, place):
    (place / "north").rename(place / name)
    options = f"--method coop --tasks '{name}' south --datasets east"
    run(place, f"meta {options}")
    accuracies = numbers(place)
    run(place, f"zeroshot {options} --prompt meta")
    assert numbers(place) == accuracies


def test_a_meta_prompt_that_another_command_learns_anew_meanwhile(place, monkeypatch):
    monkeypatch.setattr("mp.experiment.jobs.meet", lambda: spoil(learnt(place) / "prompt.pt"))
    assert "its prompt was learnt anew meanwhile by another command" in run(place, f"meta {COOP}", code=1).err


def test_a_meta_prompt_of_other_settings_is_named_where_the_usual_one_is_missing(place):
    run(place, f"meta {COOP} --epochs 1")
    prompt, = place.glob("runs/mini/meta/coop-seed1-epochs1-*/prompt.pt")
    for command in USERS[:2]:
        said = run(place, command, code=2).err
        assert f"there is {prompt.relative_to(place)}, whose path can be given instead; make it with: python run.py meta" in said
    assert "there is" not in run(place, f"{USERS[1]} --seeds 11", code=2).err


def test_words_that_end_as_digests_do_are_words(place):
    """A folder's name, here of a dataset and of a task, isn't taken for a file's name with digits."""
    name = "south-aaaaaaaaaaaa"
    (place / "south").rename(place / name)
    given = f"--tasks {name} --datasets {name}"
    run(place, f"meta --method coop {given}")
    rows = run(place, f"table {given} --format csv").out.splitlines()
    assert rows[1].startswith(f"{name},Base,") and all(rows[1].split(",")[2:4])
    run(place, f"zeroshot --method coop {given} --prompt meta")


def test_several_that_fit_are_refused_with_their_paths(place_done):
    place = place_done
    short = "runs/mini/meta/coop-seed1-north+south/prompt.pt"
    by_path = [f"zeroshot {COOP} --prompt {short}", f"finetune {COOP} --init {short}", f"show {short}"]
    titled = [run(place, command).out for command in by_path]
    assert all(titled)
    redraw(place, "south", "train")
    run(place, f"meta {COOP}")
    paths = sorted((place / "runs/mini/meta").iterdir())
    assert len(paths) == 2
    for command in USERS + by_path:
        ended = run(place, command, code=2)
        assert ended.out == "" and all(path.name in ended.err for path in paths), ended.err
    for path in paths:  # named whole, each is used
        run(place, f"zeroshot {COOP} --prompt {path}/prompt.pt")


def test_a_file_called_as_the_meta_prompt_s_column_has_a_column_of_its_own(place_done):
    shutil.copy(learnt(place_done) / "prompt.pt", place_done / "meta coop")
    shown = run(place_done, f"zeroshot {COOP} --prompt meta 'meta coop'").out.splitlines()[0]
    assert shown.split() == ["handcrafted", "meta", "gain", "meta", "coop", "gain"]


# Results alone

def test_results_alone_give_the_table_also_those_of_a_gpu(done, tmp_path):
    source, table = done
    for name in ("north", "south", "east"):
        (tmp_path / name).mkdir()
    for path in (source / "runs").rglob("*.json"):
        if path.name != "settings.json":
            content = json.loads(path.read_text())
            content["provenance"] |= {"device": "cuda", "precision": "fp16", "torch": "9"}
            copy = tmp_path / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(json.dumps(content))
    with no_images():
        ended = run(tmp_path, TABLE)
    assert ended.out == re.sub(r"torch [^,]+, cpu fp32", "torch 9, cuda fp16", table)  # it tells, and that is all
    assert "belong to none" not in ended.err and "missing" not in ended.err
    assert "4 of 4 results are missing" in run(tmp_path, f"{TABLE} --precision fp32").err


def test_a_table_says_what_belongs_to_no_number_shown(place_done):
    assert "belong" not in run(place_done, TABLE).err
    before = whole(place_done)
    run(place_done, f"meta {COOP} --inner-lr 0.5")
    run(place_done, f"finetune {COOP} --lr 0.5")
    others = [content for path, (_, content) in whole(place_done).items() if path not in before]
    size = sum(map(len, others)) / 1e6
    said = f"{len(others)} files of {size:.1f} MB below runs/mini belong to none of these numbers"
    assert said in run(place_done, TABLE).err
    (place_done / "runs/mini/zeroshot/x").write_bytes(bytes(3_000_000))
    assert f"{len(others) + 1} files of {size + 3:.1f} MB" in run(place_done, TABLE).err


def test_a_table_says_where_a_newer_state_lies_beside_what_it_shows(place_done):
    """In one line, however many numbers come of it; and the log of an unfinished training is no curve."""
    said, prompt = "the numbers are of the older prompt", learnt(place_done) / "prompt.pt"
    tuned, other = sorted((place_done / "runs/mini/finetune").rglob("*.prompt.pt"))
    shown = run(place_done, f"{TABLE} --format html")
    assert said not in shown.err and shown.out.count("<polyline") == 3
    for older in (prompt, tuned):
        state = older.with_name(older.name.removesuffix("prompt.pt") + "state-cpu-fp32.pt")
        state.touch()
        lines = [line for line in run(place_done, TABLE).err.splitlines() if said in line]
        assert len(lines) == 1 and lines[0].startswith(f"{older.relative_to(place_done)}: ")
        state.unlink()
    for older in (tuned, other):
        older.with_name(older.name.removesuffix("prompt.pt") + "state-cpu-fp32.pt").touch()
    assert run(place_done, TABLE).err.count(" and 1 more: ") == 1
    log = prompt.with_name("log.jsonl")
    log.write_text(log.read_text().splitlines()[0] + "\n")
    assert "<polyline" not in run(place_done, f"{TABLE} --format html").out


def test_a_folder_of_an_earlier_version_is_named_once_and_left(place):
    for name in ("meta/coop-seed1/prompt.pt", "zeroshot/handcrafted/east.json", "finetune/coop-x/east-seed1.json"):
        (place / "runs/mini" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "runs/mini" / name).write_text('{"accuracies": {"all": 1.0}}')
    before = whole(place)
    for command in (f"zeroshot {TASKS}", TABLE):
        assert run(place, command).err.count("a copy, or of an earlier version") == 1
    assert before.items() <= whole(place).items() and 1.0 not in [one["all"] for one in numbers(place).values()]


# Damage

def test_damaged_content_is_set_aside_and_made_anew(place_done, done):
    before = whole(place_done)
    damaged = [path for path in before if path.suffix == ".json" or path.name.endswith("prompt.pt")]
    damaged = [path for path in damaged if path.name != "settings.json"]
    for path in damaged:
        path.write_bytes(before[path][1][:-9])
    refused = run(place_done, f"finetune {COOP} --init meta", code=2)  # only who trains a meta-prompt makes it anew
    assert str(learnt(place_done).name) in refused.err and len(whole(place_done)) == len(before)
    ended = run(place_done, f"{TABLE} --run")
    assert ended.out == done[1] and ended.err.count("damaged; set aside as") == len(damaged) == 7
    after = whole(place_done)
    assert after.keys() - before.keys() == {path.with_name(f"{path.name}.damaged") for path in damaged}
    assert numbers(place_done) == numbers(done[0])


def test_what_is_unreadable_for_another_reason_is_an_error(place_done):
    place = place_done
    for path in (next((place / "runs/mini/zeroshot").rglob("east-seed1-*.json")), learnt(place) / "prompt.pt"):
        path.rename(place / "away")
        path.mkdir()
        ended = run(place, f"meta {COOP}", code=2)
        assert path.name in ended.err and path.is_dir() and ended.out == ""
        path.rmdir()
        (place / "away").rename(path)


# Several processes

def in_children(count, work):
    """Return what `work` gives in each of several processes; if it raises, that."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def answer(number):
        try:
            queue.put((number, work(number)))
        except BaseException as e:
            queue.put((number, repr(e)))

    children = [context.Process(target=answer, args=(number,)) for number in range(count)]
    for child in children:
        child.start()
    answers = dict(queue.get() for _ in children)
    for child in children:
        child.join()
    return [answers[number] for number in range(count)]


@pytest.mark.parametrize("command", [f"meta {COOP}", f"finetune {COOP}"])
def test_two_processes_at_once_compute_once(command, place):
    barrier = multiprocessing.get_context("fork").Barrier(2)

    def work(_):
        barrier.wait()
        with counted() as gradients:
            return run(place, command).out, gradients.calls

    (ours, one), (theirs, other) = in_children(2, work)
    with counted() as alone:
        assert run(place, f"{command} --out alone").out == ours == theirs
    assert sorted((one, other)) == [0, alone.calls]


@pytest.mark.parametrize("differs", [False, True])
def test_with_torchrun_the_first_process_names_the_files(differs, place):
    """Another one with other images stops, with one line, before any work."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other = shutil.copytree(place, place.parent / "other")
    if differs:
        redraw(other, "east", "test")

    def work(rank):
        os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        program.AFTER_THE_FIRST = 0
        command = f"meta {COOP} --out {place}/runs --epochs 1"
        return run((place, other)[rank], command, code=differs and (1, 2)[rank]).err

    _, said = in_children(2, work)
    line = "run.py: the first process has other images, weights or options than this one"
    assert (said.strip().startswith(line) and said.count("\n") == 1) if differs else "run.py" not in said, said
    assert bool(list(place.rglob("prompt.pt"))) != differs and not list(other.rglob("*.json"))


# What is said before any work

def test_processes_are_told_of_only_where_there_is_work(place_done):
    ended = run(place_done, f"{TABLE} --run --jobs 2")
    assert plan(ended) == "uses 5 that are there" and "2 processes" not in ended.err


def test_settings_that_do_nothing_beside_the_others_are_not_told(place):
    told = {}
    for epochs in (1, 2):
        line, *_ = re.findall("fine-tuning (.*)", run(place, f"finetune --method promptsrc {TASKS} --epochs {epochs}").err)
        told[epochs] = re.findall(r"\b(epochs|lr|gpa_mean|gpa_std) ", line)
    assert told == {1: ["epochs"], 2: ["epochs", "lr", "gpa_mean", "gpa_std"]}


def test_the_plan(place):
    assert plan(run(place, f"meta {COOP} --seeds 1 2")) == "learns 2; evaluates 3"
    assert plan(run(place, f"finetune {COOP} --init meta --seeds 1 2")) == "tunes 2; uses 1 that is there"
    assert plan(run(place, f"meta {COOP} --seeds 1 2 3")) == "learns 1; evaluates 1; uses 5 that are there"
    usual = "--seeds 2 1 2 --epochs 2 --clip-norm 5 --inner-lr 0.01 --batch 2"
    assert plan(run(place, f"meta {COOP} {usual}")) == "uses 5 that are there"
    said = "of another commit or of changed files (--force computes anew)"
    assert plan(run(place, f"meta {COOP}", commit="another")) == f"uses 3 that are there, 3 {said}"
    run(place, f"zeroshot {TASKS} --force", commit="another")
    assert plan(run(place, f"meta {COOP}", commit="another")) == f"uses 3 that are there, 2 {said}"
    run(place, f"zeroshot {TASKS} --force", commit="another+changes")
    assert plan(run(place, f"zeroshot {TASKS}", commit="another+changes")) == f"uses 1 that is there, 1 {said}"
