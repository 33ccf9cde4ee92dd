"""Nothing is mixed in silence: every field of an identity, for every kind of file, and for every command's real files."""
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch

from data.dataset import Dataset, Item
from data.feed import Feed
from data.suite import Suite
from mp.commands import finetune, meta, zeroshot
from mp.learners.settings import method_settings
from mp.commands.session import Session
from mp.learners import METHODS
from mp.prompts import open_prompt, write_prompt
from mp.runtime.errors import UserError
from mp.settings import FinetuneSettings, MetaSettings, as_dict
from mp.store import features, results
from mp.store.identity import DEPENDS_ON, FORMAT, Identity, require_same, stored

SAMPLE = Identity(FORMAT, "weights a", "cpu", "fp32", settings={"method": "coop", "lr": 0.1}, trained_on={"pets": "1a"},
                  tested_on={"pets": "2b"}, prompt="3c")
CHANGED = {"format": FORMAT - 1, "weights": "weights b", "device": "cuda", "precision": "bf16",
           "settings": {"method": "coop", "lr": 0.2}, "trained_on": {"pets": "1b"}, "tested_on": {"pets": "2c"}, "prompt": "3d"}
CANNOT_MATTER = {  # kind of file, field -> why
    ("meta-prompt", "tested_on"): "meta-training never sees a test image",
    ("meta-prompt", "prompt"): "it starts from the handcrafted prompt: its words are the method's, its noise the seed's",
    ("fine-tuned prompt", "tested_on"): "fine-tuning never sees a test image",
    ("zero-shot result", "settings"): "the prompt is known by its tensors alone",
    ("zero-shot result", "trained_on"): "the prompt is known by its tensors alone",
    ("features", "settings"): "they are frozen CLIP's, whatever is learnt",
    ("features", "trained_on"): "they are frozen CLIP's, whatever is learnt",
    ("features", "prompt"): "they are frozen CLIP's, whatever is learnt",
}


def test_every_field_is_changed_here():
    assert set(CHANGED) == {field.name for field in fields(Identity)}
    assert {kind for kind, _ in CANNOT_MATTER} <= set(DEPENDS_ON)


@pytest.mark.parametrize("field", CHANGED)
@pytest.mark.parametrize("kind", DEPENDS_ON)
def test_a_file_is_refused_if_a_field_differs_or_there_is_a_reason_why_not(kind, field, tmp_path):
    other = replace(SAMPLE, **{field: CHANGED[field]})
    if (kind, field) in CANNOT_MATTER:
        assert stored(kind, SAMPLE) == stored(kind, other) and field not in DEPENDS_ON[kind]
        return
    require_same(tmp_path / "f", stored(kind, SAMPLE), kind, SAMPLE)
    with pytest.raises(UserError, match="another version" if field == "format" else field):
        require_same(tmp_path / "f", stored(kind, other), kind, SAMPLE)
    if kind == "features":  # never refused, but found under another name
        assert features.cache_file(SAMPLE, "pets", []) != features.cache_file(other, "pets", [])


@pytest.mark.parametrize("kept", [None, {}, [], "x", {"format": FORMAT}, {"format": str(FORMAT)}])
def test_what_says_nothing_of_its_identity_is_refused(kept, tmp_path):
    with pytest.raises(UserError):
        require_same(tmp_path / "f", kept, "meta-prompt", SAMPLE)


def dataset(name, seed, words=("cat", "dog", "t-rex", "café")):
    rng = np.random.default_rng([seed, len(name)])
    items = [Item(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), label) for label in range(len(words)) for _ in range(6)]
    return Dataset(name, "a photo of a {}.", list(words), items, items[::2])


@pytest.fixture
def open_session(clip, tmp_path):
    """A session on two small datasets; what is given replaces something of it."""
    def build(seed=0, weights="weights", precision="fp32", **data):
        sets = {name: dataset(name, seed) for name in ("one", "two")} | data
        suite = Suite("tiny", ["one", "two"], list(sets), sets.__getitem__, None, None)
        session = Session(suite, clip, tmp_path, weights, precision, Feed(32, workers=0), {})
        return session
    return build


def small(kind, **more):
    row = METHODS["coop"].meta | {"support": 2} if kind is MetaSettings else METHODS["coop"].finetune
    return kind("coop", **(row | {"epochs": 1, "shots": 4, "batch": 4} | more))


def run_meta(session, **more):
    return meta.learn(session, small(MetaSettings, **more))


def run_zeroshot(session, words="a {}."):
    return zeroshot.evaluate(session, session.test_set("one"), zeroshot.Prompt("x", words))


def run_finetune(session, given="handcrafted", **more):
    settings = small(FinetuneSettings, **more)
    init = finetune.find_init(session, given, settings)
    return finetune.tune_one(session, session.test_set("one"), settings, init, False, lambda *_: None)


def other_images(name="one"):
    return {name: dataset(name, 9)}


def other_class_name(name="one"):
    return {name: dataset(name, 0, ("cat", "dog", "t-rex", "tea"))}


def other_label(name="one"):
    whole = dataset(name, 0)
    swapped = [item._replace(label=1 - item.label) if item.label < 2 else item for item in whole.train]
    return {name: replace(whole, train=swapped, test=swapped[::2])}


WORLDS = {"weights": dict(weights="others"), "precision": dict(precision="bf16"), "images": other_images(),
          "class name": other_class_name(), "label": other_label()}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("run", [run_meta, run_zeroshot, run_finetune])
def test_the_commands_refuse_what_another_world_made(run, world, open_session):
    first = run(open_session())
    assert run(open_session()) == first  # the same again is no reason to complain
    with pytest.raises(UserError, match="made otherwise: "):
        run(open_session(**WORLDS[world]))


def test_the_commands_refuse_what_another_device_made(open_session, monkeypatch):
    for run in (run_meta, run_zeroshot, run_finetune):
        run(open_session())
        session = open_session()
        gathered = session.identity
        monkeypatch.setattr(session, "identity", lambda *args, **more: replace(gathered(*args, **more), device="cuda"))
        with pytest.raises(UserError, match=r"device cpu \(now cuda\)"):
            run(session)


@pytest.mark.parametrize("changed", [dict(lr=0.5), dict(momentum=0.5), dict(weight_decay=0.5), dict(epochs=2), dict(batch=2),
                                     dict(shots=3), dict(depth=2), dict(length=2), dict(gpa_mean=3.0), dict(gpa_std=3.0)])
def test_every_setting_of_fine_tuning_counts(changed, open_session):
    run_finetune(open_session())
    with pytest.raises(UserError, match=f"settings.{next(iter(changed))} "):
        run_finetune(open_session(), **changed)


def test_settings_of_meta_training_have_folders_of_their_own(open_session):
    session, found = open_session(), {run_meta(open_session())}
    for one in fields(MetaSettings):
        if one.name == "method":
            continue
        value = getattr(small(MetaSettings), one.name)
        changed = not value if isinstance(value, bool) else 3 if isinstance(value, int) else value * 2
        found.add(session.meta_folder(small(MetaSettings, **{one.name: changed})) / "prompt.pt")
    assert len(found) == len(fields(MetaSettings))


def test_fine_tuning_from_another_prompt_is_refused(open_session, monkeypatch):
    session = open_session()
    monkeypatch.setattr(Session, "meta_settings", lambda session, method, seed: small(MetaSettings, seed=seed))
    usual, other = run_meta(session), run_meta(session, seed=2)
    assert usual == results.meta_prompt(session.out, "coop", 1)
    run_finetune(session, "meta")
    others = open_prompt(other).about
    write_prompt(usual, "coop", others["params"], open_prompt(usual).identity, {})
    with pytest.raises(UserError, match="made otherwise: prompt "):
        run_finetune(session, "meta")
    other.rename(usual)
    with pytest.raises(UserError, match="made otherwise: settings.seed 2"):  # not what its place says
        run_finetune(session, "meta")


def test_two_prompt_files_of_one_name_are_two_prompts(open_session, capsys):
    session, asked = open_session(), {}
    for seed, folder in ((1, "a"), (2, "b")):
        path = session.out / folder / "prompt.pt"
        path.parent.mkdir()
        run_meta(session, seed=seed).rename(path)
        asked[str(path)] = [zeroshot.learnt_prompt(session, open_prompt(path), small(FinetuneSettings))]
    assert len({prompt.label for (prompt,) in asked.values()}) == 2
    zeroshot.compare(session, asked)
    shown = capsys.readouterr().out
    assert all(title in shown for title in asked)
    kept = [results.zeroshot_file(session.out, prompt.label, "one") for (prompt,) in asked.values()]
    assert all(path.is_file() for path in kept)


def test_a_prompt_learnt_elsewhere_is_welcome_as_an_input(open_session):
    """On another device, in another precision, from other data: its tensors are what counts."""
    session = open_session()
    path = run_meta(session)
    path = path.rename(path.parent.parent / "prompt.pt")
    learnt = open_prompt(path).about
    elsewhere = learnt["identity"] | {"device": "cuda", "precision": "fp16", "trained_on": {"one": "x", "two": "y"}}
    elsewhere["settings"] = as_dict(session.meta_settings("coop", 1))
    usual = results.meta_prompt(session.out, "coop", 1)
    write_prompt(usual, "coop", learnt["params"], elsewhere, {})
    settings = method_settings(FinetuneSettings, "coop", {})
    init = finetune.find_init(session, "meta", settings)
    assert init.fingerprint == open_prompt(path).fingerprint
    assert zeroshot.learnt_prompt(session, "meta", settings).fingerprint == init.fingerprint
    whole = elsewhere["trained_on"]
    for change, says in (({"weights": "others"}, "weights others"), ({"trained_on": {"one": "x"}}, r"trained_on.two None \(now a task\)"),
                         ({"trained_on": whole | {"three": "z"}}, r"trained_on.three z \(now None\)"),
                         ({"trained_on": whole | {"one": torch.ones(2)}}, "trained_on.one "), ({"trained_on": 3}, "trained_on 3 ")):
        write_prompt(usual, "coop", learnt["params"], elsewhere | change, {})
        with pytest.raises(UserError, match=f"made otherwise: {says}"):
            finetune.find_init(session, "meta", settings)


def test_the_identity_that_is_gathered_is_whole(open_session):
    session = open_session()
    settings = small(FinetuneSettings)
    items = session.draw_shots("one", settings)
    whole = session.identity(settings, trained_on={"one": items}, tested_on=session.suite.load("one"), prompt="p")
    assert all(value is not None for value in asdict(whole).values())


def test_force_keeps_the_prompt_until_the_new_one_is_made(open_session, monkeypatch):
    session = open_session()
    path = run_meta(session)
    before = path.read_bytes()

    def fails(*_):
        raise UserError("no")

    with monkeypatch.context() as patched:
        patched.setattr(meta, "make_tasks", fails)
        with pytest.raises(UserError, match="^no$"):
            meta.learn(session, small(MetaSettings), force=True)
    assert path.read_bytes() == before
    written = []
    monkeypatch.setattr(meta, "write_prompt", lambda *given: written.append(given[0]))
    assert meta.learn(session, small(MetaSettings)) == path and not written
    assert meta.learn(session, small(MetaSettings), force=True) == path and written == [path]


def test_a_command_that_is_named_has_the_options_it_needs(open_session):
    session = open_session()
    session.options = ["--data", "my data", "--out", "o"]
    with pytest.raises(UserError, match="run.py meta --method coop --seeds 1 --data 'my data' --out o$"):
        session.meta_prompt(small(FinetuneSettings))
