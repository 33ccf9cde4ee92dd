"""Whatever state a script has put torch, Python and Pillow into, each function of `mp` gives the same bits, and leaves it."""
import copy
import inspect
import os
import random
import subprocess
import sys
import warnings
from contextlib import contextmanager
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

import mp
from mp import UserError, classify, fine_tune, load_clip, load_prompt, make_learner, meta_train, save_prompt
from mp.clip import model
from mp.learners import METHODS
from tests.conftest import ROOT

NAMES = ["red lake", "river", "a_forest"]
PIXELS = [np.random.default_rng(i).integers(0, 256, (30 + 9 * i, 41, 3), np.uint8) for i in range(6)]
LABELS = [0, 1, 2, 0, 1, 2]
TRAINED = ("cocoop", "promptsrc")  # one that sees features, with a network that starts at random; and a deep one


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of a small CLIP."""
    state = model.CLIP(image_size=24, patch=8, image_width=64, image_layers=2, text_width=64, text_layers=2, embed=64).state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        value.copy_(0.1 * torch.randn(value.shape, generator=generator) + (".ln_" in name and name.endswith("weight")))
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.save(state, path)
    return path


def numbers_of(*some):
    """Bits, types and numbers, to compare: of learners, CLIPs, tensors and dicts of an epoch's numbers."""
    found = []
    for one in some:
        if isinstance(one, torch.nn.Module):
            found += [(name, p.dtype, p.numpy(force=True).tobytes()) for name, p in one.state_dict().items()]
            found.append([p.is_inference() for p in one.parameters()])
        elif isinstance(one, torch.Tensor):
            found += [one.dtype, one.numpy().tobytes(), one.is_inference(), one.requires_grad]
        else:
            found.append({name: value for name, value in one.items() if name != "seconds"})
    return found


def calls(clip, weights, folder):
    """Every function of `mp`, by name: what it gives."""
    task, short = (PIXELS, LABELS, NAMES), {"epochs": 2, "batch": 2}
    prompt = folder / "p.pt"

    def trained(train):
        seen = []
        learners = [train(make_learner(method, clip), seen.append) for method in TRAINED]
        return numbers_of(*learners, *seen)

    def saved():
        save_prompt(make_learner("maple", clip), prompt)
        return prompt.read_bytes()

    return {
        "load_clip": lambda: numbers_of(load_clip(weights, "cpu")),
        "make_learner": lambda: numbers_of(*(make_learner(method, clip, seed=3, length=5) for method in METHODS)),
        "save_prompt": saved,
        "load_prompt": lambda: numbers_of(load_prompt(prompt, clip)),
        "classify": lambda: numbers_of(classify("a {}", clip, PIXELS, NAMES), classify(make_learner("promptsrc", clip), clip, PIXELS, NAMES)),
        "meta_train": lambda: trained(lambda learner, report: meta_train(learner, clip, {"t": task}, report, inner_steps=2, support=1, **short)),
        "fine_tune": lambda: trained(lambda learner, report: fine_tune(learner, clip, PIXELS, LABELS, NAMES, report, **short)),
    }


@pytest.fixture(scope="module")
def setting(weights, tmp_path_factory):
    """The calls, and what each gives where nothing is out of the ordinary."""
    functions = calls(load_clip(weights, "cpu"), weights, tmp_path_factory.mktemp("prompts"))
    return functions, {name: call() for name, call in functions.items()}


def test_every_function_is_called_here(setting):
    functions = {name for name in mp.__all__ if inspect.isfunction(getattr(mp, name))}
    assert functions == set(setting[0]) and len(functions) == 7


# Hidden states

@contextmanager
def switched(read, write, value):
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


def default_type(dtype):
    return switched(torch.get_default_dtype, torch.set_default_dtype, dtype)


def attribute(owner, name, value):
    return switched(lambda: getattr(owner, name), lambda new: setattr(owner, name, new), value)


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def errors_of_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def other_draws():
    """Of everybody's generators."""
    torch.manual_seed(99), random.seed(99), np.random.seed(99)
    yield


STATES = {
    "float64": lambda: default_type(torch.float64), "float16": lambda: default_type(torch.float16),
    "device": lambda: default_device("meta"), "no_grad": torch.no_grad, "inference": torch.inference_mode,
    "grad off": lambda: switched(torch.is_grad_enabled, torch.set_grad_enabled, False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": lambda: switched(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True),
    "products": lambda: switched(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "warnings": errors_of_warnings, "truncated": lambda: attribute(ImageFile, "LOAD_TRUNCATED_IMAGES", True),
    "pixels": lambda: attribute(Image, "MAX_IMAGE_PIXELS", None), "draws": other_draws,
    "folder": lambda: switched(os.getcwd, os.chdir, "/"),
}


def state_now():
    """All that a call might have left otherwise."""
    device = torch.get_default_device()
    return (torch.get_default_dtype(), device, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
            torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), list(warnings.filters),
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, os.getcwd(), dict(os.environ), random.getstate(),
            str(np.random.get_state()), torch.get_rng_state().numpy(force=True).tolist())


@pytest.mark.parametrize("state", STATES)
def test_a_hidden_state_changes_no_bit_and_stays(state, setting):
    functions, expected = setting
    with STATES[state]():
        before, found = state_now(), {}
        for name, call in functions.items():
            found[name] = call()
            assert state_now() == before, name
    for name in functions:
        assert found[name] == expected[name], name


def test_a_thread_of_its_own_changes_nothing(setting):
    functions, expected, found = *setting, {}
    thread = Thread(target=lambda: found.update({name: call() for name, call in functions.items()}))
    thread.start()
    thread.join()
    assert found == expected


def test_the_state_comes_back_after_an_error(setting):
    with default_type(torch.float64), torch.no_grad():
        before = state_now()
        with pytest.raises(UserError):
            make_learner("none", None)
        assert state_now() == before


def test_a_hidden_state_in_which_all_is_imported(weights):
    """Tensors that modules make, such as CLIP's colours, are what they always are."""
    work = f"""
from mp import classify, fine_tune, load_clip, make_learner
import numpy
clip = load_clip({str(weights)!r}, "cpu")
images = [numpy.random.default_rng(i).integers(0, 256, (40, 41, 3), numpy.uint8) for i in range(4)]
learner = fine_tune(make_learner("coop", clip), clip, images, [0, 1, 0, 1], ["cat", "dog"], epochs=2, batch=2)
found = classify(learner, clip, images, ["cat", "dog"]).numpy().tobytes().hex()"""
    code = f"""import torch
torch.set_default_dtype(torch.float64), torch.set_default_device("meta")
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
    exec({work!r})
print(found)"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    here = {}
    exec(work, here)
    assert found.strip() == here["found"]


def test_what_was_made_in_inference_mode(weights):
    """A learner's tensors are copied; a CLIP can't be learnt with, and nothing is said by torch itself."""
    clip = load_clip(weights, "cpu")
    learner = make_learner("coop", clip)
    with torch.inference_mode():
        copied, frozen = copy.deepcopy(learner), copy.deepcopy(clip)
    assert all(p.is_inference() for p in [*copied.parameters(), *frozen.parameters()])
    tuned = [fine_tune(one, clip, PIXELS, LABELS, NAMES, epochs=2) for one in (learner, copied)]
    assert numbers_of(tuned[0]) == numbers_of(tuned[1])
    for call in (lambda: make_learner("coop", frozen), lambda: classify("{}", frozen, PIXELS, NAMES),
                 lambda: fine_tune(learner, frozen, PIXELS, LABELS, NAMES), lambda: meta_train(learner, frozen, {"t": (PIXELS, LABELS, NAMES)})):
        with pytest.raises(UserError, match="^clip: copied or moved in torch's inference mode, .*; give what `load_clip` returns$"):
            call()


def test_a_cut_image_is_refused_also_where_pillow_would_read_it(weights, tmp_path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:1500])
    clip = load_clip(weights, "cpu")
    with attribute(ImageFile, "LOAD_TRUNCATED_IMAGES", True), pytest.raises(UserError, match="cut.png: can't be used"):
        classify("{}", clip, [tmp_path / "cut.png"], NAMES)


def test_a_caller_who_makes_errors_of_warnings_gets_none(weights, tmp_path):
    """Pillow warns of what is odd in a file, and changes no pixel for it."""
    picture = Image.fromarray(PIXELS[0]).convert("P")
    picture.info["transparency"] = bytes(range(256))
    picture.save(tmp_path / "odd.png")
    clip = load_clip(weights, "cpu")
    whole = classify("{}", clip, [tmp_path / "odd.png"], NAMES)
    with errors_of_warnings():
        with pytest.raises(UserWarning):
            Image.open(tmp_path / "odd.png").convert("RGB")
        assert torch.equal(classify("{}", clip, [tmp_path / "odd.png"], NAMES), whole)
