"""Names are what files depend on: digests, words, and one result a file, each by itself."""
import json
import math
import multiprocessing
import os
import platform
import shlex
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace

import pytest
import torch

from data.suite import open_suite
from mp.experiment import arms
from mp.experiment.arms import Arm, changed
from mp.learners import METHODS
from mp.learners.settings import hashed, method_settings, plays_a_part
from mp.runtime import files
from mp.runtime.errors import RunError, UserError
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings, at_least, setting
from mp.store import cells, features, states
from mp.store.cells import FORMAT, Identity
from mp.store.provenance import provenance

LEARNT = Identity("weights", "auto", "handcrafted", {"method": "coop", "lr": 0.1}, {"pets": "1a", "cars": "2b"})
SAMPLE = replace(LEARNT, prompt="3c", tested_on={"food": "4d"}, meta=asdict(LEARNT))
OTHERS = {  # field -> other values
    "weights": ["weights b"], "precision": ["fp32", "fp16"], "prompt": ["3d", "handcrafted", "a {}.", "a  {}."],
    "settings": [None, {}, {"method": "coop", "lr": 0.2}, {"method": "coop"}, {"method": "coop", "lr": "0.1"}],
    "trained_on": [None, {"pets": "1a"}, {"pets": "2b", "cars": "1a"}, {"pets": "1a", "Cars": "2b"}],
    "tested_on": [None, {"food": "4e"}, {"Food": "4d"}], "format": [FORMAT + 1],
    "meta": [None, asdict(replace(LEARNT, weights="b")), asdict(replace(LEARNT, trained_on={"pets": "1a"}))]}


# Digests

def test_every_field_changes_the_digest():
    assert set(OTHERS) == {one.name for one in fields(Identity)}
    identities = [SAMPLE] + [replace(SAMPLE, **{name: value}) for name, values in OTHERS.items() for value in values]
    assert len({identity.digits for identity in identities}) == len(identities)
    for identity in identities:  # as files hold it, in whatever order
        backwards = dict(reversed(json.loads(json.dumps(asdict(identity))).items()))
        assert cells.digits_of(backwards) == identity.digits and len(identity.digits) == 12


LEARNT_IN_NO_STEP = changed(inner_steps=0, epochs=3)
FOLDERS = [  # arms, and the folders of their results
    (arms.HANDCRAFTED, "handcrafted"), (Arm(words="an image of a {}."), "words-an_image_of_a_{}."),
    (Arm("coop"), "start-coop"), (Arm("coop", file="p.pt"), "coop-01234567"), (Arm("coop", learnt=()), "meta-coop"),
    (Arm("coop", learnt=LEARNT_IN_NO_STEP), "meta-coop-epochs3-inner_steps0"),
    (Arm("coop", tuned=()), "coop-handcrafted-base"),
    (Arm("coop", tuned=changed(lr=0.1)), "coop-handcrafted-base-lr0.1"),
    (Arm("coop", file="p.pt", tuned=changed(classes="new")), "coop-0123456789ab-new"),
    (Arm("coop", learnt=LEARNT_IN_NO_STEP, tuned=changed(classes="all", shots=2)),
     "coop-meta-epochs3-inner_steps0-all-shots2"),
]


def test_names_say_what_is_unusual():
    suite = open_suite(None)
    for arm, words in FOLDERS:
        assert arms.folder_words(suite, arm, "0123456789abcdef") == words
    assert arms.meta_words(suite, Arm("coop", learnt=LEARNT_IN_NO_STEP), 2) == "coop-seed2-epochs3-inner_steps0"


NO_PART = {  # settings that play none
    "coop": {"depth", "gpa_mean", "gpa_std"}, "cocoop": {"depth", "gpa_mean", "gpa_std"}, "promptsrc": set(),
    "maple": {"gpa_mean", "gpa_std"}}


def other(value):
    if isinstance(value, str):
        return "new"
    if isinstance(value, float):
        return value / 2
    return not value if isinstance(value, bool) else value + 1


@pytest.mark.parametrize("kind", [PromptSettings, MetaSettings, FinetuneSettings])
@pytest.mark.parametrize("method", METHODS)
def test_every_setting_that_plays_a_part_changes_the_digest(method, kind):
    def digits(settings):
        return replace(SAMPLE, settings=hashed(settings)).digits

    no_part = {one.name for one in fields(kind) if not plays_a_part(one, method)}  # with those that somebody adds
    listed = set().union(*NO_PART.values()) & {one.name for one in fields(kind)}
    assert no_part & listed == NO_PART.get(method, no_part) & listed
    settings = method_settings(kind, method, {})
    for one in fields(kind):
        if one.name != "method":
            changed = replace(settings, **{one.name: other(getattr(settings, one.name))})
            assert (digits(changed) == digits(settings)) == (one.name in no_part), one.name
        if one.type is float:
            whole = 0 if one.name == "momentum" else 5  # which is no share
            as_it_is, as_float = (replace(settings, **{one.name: value}) for value in (whole, float(whole)))
            assert digits(as_it_is) == digits(as_float), one.name
    assert len({digits(method_settings(kind, name, {})) for name in METHODS}) == len(METHODS)


def test_a_setting_that_is_added_later_changes_older_names_only_where_it_is_used():
    @dataclass(frozen=True)
    class Later(MetaSettings):
        warmup: int = setting("epochs", at_least(0), 3, born=0)

    before = hashed(MetaSettings("coop", inner_lr=0.1, batch=8))
    assert hashed(Later("coop", inner_lr=0.1, batch=8, warmup=0)) == before
    assert hashed(Later("coop", inner_lr=0.1, batch=8)) == before | {"warmup": 3}  # a later default


def test_what_json_does_not_know():
    settings = hashed(method_settings(MetaSettings, "coop", {"clip_norm": math.inf}))
    assert settings["clip_norm"] == "inf" and json.loads(json.dumps(settings)) == settings


SETTINGS = {"method": "promptsrc", "seed": 2, "depth": 12, "length": 4, "epochs": 200, "inner_steps": 4,
            "inner_lr": 0.1, "meta_lr": 0.001, "clip_norm": "inf", "shots": 16, "support": 5, "batch": 32,
            "query_batch": -1, "first_order": True, "regulator": False, "sum_tasks": False}
META = Identity("ab" * 32, "auto", "handcrafted", SETTINGS, {"pets": "0123456789abcdef", "cars": "fedcba9876543210"})
TUNED = Identity("ab" * 32, "fp32", "cd" * 32, {"method": "coop", "lr": 0.002}, {"é pets": "00ff"}, {"é pets": "11ee"},
                 asdict(META))
WORDS = Identity("ab" * 32, "auto", "a photo of a {}.", tested_on={"pets": "00ff"})
GOLDEN = {"5113db25f876": WORDS, "6602d51e4511": META, "9a3df2ee183a": TUNED}  # they change only with FORMAT


def test_digests_are_stable():
    assert hashed(MetaSettings(**SETTINGS | {"clip_norm": math.inf})) == SETTINGS
    assert FORMAT == 5 and [identity.digits for identity in GOLDEN.values()] == list(GOLDEN)


# Cached features

def test_features_are_named_by_all_that_they_depend_on(tmp_path, monkeypatch):
    """A change within an image that its fingerprint doesn't see changes the file's time; the code counts, too."""
    image = tmp_path / "a.jpg"
    image.write_bytes(b"pixels")
    names = [features.cache_file(["weights"], "pets", [image])]
    os.utime(image, ns=(0, os.stat(image).st_mtime_ns + 1))
    names += [features.cache_file(*other, [image]) for other in ((["weights"], "pets"), (["others"], "pets"), (["weights"], "cars"))]
    monkeypatch.setattr(features, "CODE", (str(image),))
    names.append(features.cache_file(["weights"], "pets", [image]))
    assert len(set(names)) == 5


# Words

def test_words_are_shortened_but_never_taken_for_each_other():
    asked = ["a b", "ab", "a/b", "é" * 99, "é" * 99 + "e", "x" * 300]
    names = [cells.name_of(words, replace(SAMPLE, prompt=words), ".prompt.pt") for words in asked]
    assert len(set(names)) == len(names) and names[0].startswith("ab-") and names[3].startswith("é" * 50 + "-")
    assert all(len(name.encode()) < 130 and not set(name) & set(" /\\") for name in names)


def test_a_path_without_its_digits_means_the_one_that_begins_so(tmp_path):
    for name in ("coop-seed1-0123456789ab", "coop-seed1-depth2-0123456789ab", "coop-seed11-0123456789ab", "coop"):
        (tmp_path / name).mkdir()
    file = tmp_path / "coop-seed1-0123456789ab/pets-seed1-ffffffffffff.prompt.pt"
    file.touch()
    file.with_name("pets-seed1-ffffffffffff.json").touch()
    for path in (file, tmp_path / "coop-seed1" / file.name, tmp_path / "coop-seed1/pets-seed1.prompt.pt"):
        assert cells.complete(path) == file
    for path in ("coop-seed2/prompt.pt", "coop-seed1/prompt.pt", "coop/x", "coop-seed1/pets-seed1.pt"):
        assert cells.complete(tmp_path / path) == tmp_path / path
    file.with_name("pets-seed1-eeeeeeeeeeee.prompt.pt").touch()
    with pytest.raises(UserError, match="several begin so: pets-seed1-e{12}.prompt.pt, pets-seed1-f{12}.prompt.pt"):
        cells.complete(tmp_path / "coop-seed1/pets-seed1.prompt.pt")


def test_in_what_the_nearest_differs(tmp_path):
    def nearest(identity):
        return cells.nearest(tmp_path / cells.name_of("pets", identity, ".json"), identity)

    assert nearest(SAMPLE) == ""
    for there in (replace(SAMPLE, weights="x", precision="y"), replace(SAMPLE, settings={"method": "coop", "lr": 9}),
                  replace(SAMPLE, weights="x", precision="y", prompt="z", tested_on={"food": "u"}, trained_on=None)):
        cell(tmp_path / cells.name_of("pets", there, ".json"), identity=there)
    assert nearest(SAMPLE) == "settings.lr" and nearest(replace(SAMPLE, weights="x")) == "precision"
    assert nearest(replace(SAMPLE, meta={}, prompt="q", weights="q", settings={})).endswith(" more")


# Results

def cell(path, value=50.0, identity=SAMPLE, **more):
    def compute():
        return {"accuracies": {"base": value, "new": 30.0, "all": 20.0}}
    return cells.result(path, identity, {"commit": "c"}, compute, **more)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a" / cells.name_of("pets", SAMPLE, ".json")


def test_computed_once_unless_forced(path):
    first = cell(path)
    assert first.accuracies == {"base": 50.0, "new": 30.0, "all": 20.0, "harmonic_mean": 37.5}
    assert first.identity == asdict(SAMPLE) and first.content["provenance"]["seconds"] >= 0
    assert cell(path, 60.0).content == first.content == json.loads(path.read_text())
    assert cell(path, 60.0, force=True).accuracies["base"] == 60.0


@pytest.mark.parametrize("damage", [
    "", "{", "[]", "null", '{"accuracies": {"base": 1}}', '{"accuracies": 3, "identity": {}}', "[" * 100_000,
    '{"accuracies": {"base": NaN}, "identity": ID, "provenance": {}}',
    '{"accuracies": {"base": 101}, "identity": ID, "provenance": {}}',
    '{"accuracies": {}, "identity": ID, "provenance": {}}',
    '{"accuracies": {"base": 1}, "identity": {}, "provenance": {}}'])
def test_damaged_files_are_named_set_aside_and_made_again(path, capsys, damage):
    whole, damage = cell(path), damage.replace("ID", json.dumps(asdict(SAMPLE)))
    path.write_text(damage)
    assert cell(path).accuracies == whole.accuracies
    assert f"{path.name}: damaged; set aside as {path.name}.damaged" in capsys.readouterr().err
    assert path.with_name(f"{path.name}.damaged").read_text() == damage


def test_what_another_name_says_is_not_this_result(path):
    """A file that was copied onto another's name holds something else."""
    another = replace(SAMPLE, weights="b")
    copy = path.with_name(cells.name_of("pets", another, ".json"))
    cell(path)
    copy.write_bytes(path.read_bytes())
    assert cells.read(copy) is None and cell(copy, 70.0, another).accuracies["base"] == 70.0


def test_one_of_several_processes_computes(path, tmp_path):
    def work():
        def compute():
            with open(tmp_path / "computed", "a") as f:
                f.write("x")
            time.sleep(0.3)
            return {"accuracies": {"all": 1.0}}
        cells.result(path, SAMPLE, {"commit": "c"}, compute)

    processes = [multiprocessing.get_context("fork").Process(target=work) for _ in range(4)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * 4 and (tmp_path / "computed").read_text() == "x"


def test_a_failed_computation_and_a_folder_that_cannot_be_written(path):
    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cells.result(path, SAMPLE, {"commit": "c"}, fails)
    assert not path.exists() and cell(path)
    with pytest.raises(UserError, match="can't be written"):
        cell(path / "below.json")
    path.unlink()
    with pytest.raises(RunError, match="not finite"):
        cell(path, float("nan"))
    assert not path.exists()


def test_a_result_beside_a_state_is_an_older_one_until_the_new_one_is_written(path, monkeypatch):
    """Whoever waited for a process that finished takes its result, though there was a state when he came."""
    state, computed = path.with_name("state.pt"), []

    def compute():
        computed.append(len(computed))
        assert not computed[0] or state.exists()
        return {"accuracies": {"all": float(len(computed))}}

    def value():
        return cells.result(path, SAMPLE, {"commit": "c"}, compute, state=state).accuracies["all"]

    assert value() == 1 == value()
    state.write_text("an epoch")
    assert value() == 2 == value() and not state.exists() and not list(path.parent.glob("*.damaged"))
    state.write_text("an epoch")
    monkeypatch.setattr(cells.files, "locked", lambda lock: nullcontext(state.unlink()))  # the other one finished
    assert value() == 2 and len(computed) == 2


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


def test_the_command_that_made_a_file_can_be_given_again(monkeypatch):
    words = ["zeroshot", "--prompt", "an 'image' of a {}.", "--out", "my runs"]
    monkeypatch.setattr("sys.argv", ["some folder/run.py", *words])
    assert shlex.split(provenance("cpu")["command"]) == ["python", "run.py", *words]


def test_a_state_in_another_order_is_read_by_name():
    like = {"ctx": torch.zeros(2), "vision.2": torch.zeros(2), "vision.10": torch.zeros(2)}
    values = {name: torch.full((2,), float(i)) for i, name in enumerate(like)}
    placed = states.placed_like(dict(sorted(values.items())), like)
    assert list(placed) == list(like) and all(torch.equal(placed[name], values[name]) for name in like)
