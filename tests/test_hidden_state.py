"""Whatever state a script has put torch, Python and Pillow into, each function of `mp` gives the same bits, and leaves it."""
import copy
import inspect
import multiprocessing
import os
import random
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

import mp
from mp import UserError, classify, fine_tune, load_clip, load_prompt, make_learner, meta_train, save_prompt
from mp.learners import METHODS
from tests.test_api import write_narrow

NAMES = ["red lake", "river", "a_forest"]
PIXELS = [np.random.default_rng(i).integers(0, 256, (30 + 9 * i, 41, 3), np.uint8) for i in range(6)]
LABELS = [0, 1, 2, 0, 1, 2]
TRAINED = ("cocoop", "promptsrc")  # one that sees features, with a network that starts at random; and a deep one


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return a file of a small CLIP."""
    return write_narrow(tmp_path_factory.mktemp("weights") / "small.pt", 64)


@pytest.fixture(scope="module")
def clip(weights):
    return load_clip(weights, "cpu")


def numbers_of(*some):
    """Return bits, types and numbers, to compare: of learners, CLIPs, tensors and dicts of an epoch's numbers."""
    numbers = []
    for one in some:
        if isinstance(one, torch.nn.Module):
            numbers += [(name, p.dtype, p.numpy(force=True).tobytes()) for name, p in one.state_dict().items()]
            numbers.append([p.is_inference() for p in one.parameters()])
        elif isinstance(one, torch.Tensor):
            numbers += [one.dtype, one.numpy().tobytes(), one.is_inference(), one.requires_grad]
        else:
            numbers.append({name: value for name, value in one.items() if name != "seconds"})
    return numbers


def calls(clip, weights, folder):
    """Return a call of every function of `mp`, by name."""
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
def setting(clip, weights, tmp_path_factory):
    """Return the calls, and what each gives where nothing is out of the ordinary."""
    functions = calls(clip, weights, tmp_path_factory.mktemp("prompts"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mp.learners.promptsrc.TEMPLATES", ["a photo of a {}.", "a drawing of the {}."])  # instead of 60
        yield functions, {name: call() for name, call in functions.items()}


def test_every_function_is_called_here(setting):
    functions = {name for name in mp.__all__ if inspect.isfunction(getattr(mp, name))}
    assert functions == set(setting[0]) and len(functions) == 7


# Hidden states

@contextmanager
def other_defaults():
    """Switch what torch and Python take where they are told nothing, and draw from everybody's generators."""
    folder, precision = os.getcwd(), torch.get_float32_matmul_precision()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True)
        os.chdir("/")
        torch.manual_seed(99), random.seed(99), np.random.seed(99)
        with torch.no_grad(), errors_of_warnings():
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(False)
        os.chdir(folder)


@contextmanager
def errors_of_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def inference():
    """Switch to half precision, torch's inference mode, and reading whatever image."""
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        torch.set_default_dtype(torch.float16)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


@contextmanager
def autocast():
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(False):
        yield


def state_now():
    """Return all that a call might have left otherwise."""
    device = torch.get_default_device()
    return (torch.get_default_dtype(), device, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
            torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), list(warnings.filters),
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, os.getcwd(), dict(os.environ), random.getstate(),
            str(np.random.get_state()), torch.get_rng_state().numpy(force=True).tolist())


@pytest.mark.parametrize("states", [other_defaults, inference, autocast])
def test_hidden_states_change_no_bit_and_stay(states, setting):
    """Those that are switched together would each show beside the others."""
    functions, expected = setting
    with states():
        before, results = state_now(), {}
        for name, call in functions.items():
            results[name] = call()
            assert state_now() == before, name
    for name in functions:
        assert results[name] == expected[name], name


def test_a_thread_of_its_own_changes_nothing(setting):
    functions, expected = setting
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: {name: call() for name, call in functions.items()}).result() == expected


def test_the_state_comes_back_after_an_error():
    with other_defaults():
        before = state_now()
        with pytest.raises(UserError):
            make_learner("none", None)
        assert state_now() == before


def learnt_and_classified(weights):
    """Return bits that depend on all tensors which modules make when they are imported, such as CLIP's colours."""
    from mp import classify, fine_tune, load_clip, make_learner
    clip = load_clip(weights, "cpu")
    learner = fine_tune(make_learner("coop", clip), clip, PIXELS[:4], LABELS[:4], NAMES, epochs=2, batch=2)
    return classify(learner, clip, PIXELS[:4], NAMES).numpy().tobytes()


def imported_anew(weights):
    """Return what `learnt_and_classified` does, with all of mp and data imported where nothing is as usual."""
    before = {name for name in sys.modules if name.split(".")[0] in ("mp", "data")}
    for name in before:
        del sys.modules[name]
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        bits = learnt_and_classified(weights)
    assert {"mp.clip.model", "mp.api", "data.images"} <= before & sys.modules.keys()
    return bits


def test_a_hidden_state_in_which_all_is_imported(weights):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(imported_anew, weights).result() == learnt_and_classified(weights)


def test_what_was_made_in_inference_mode(clip):
    """A learner's tensors are copied; a CLIP can't be learnt with, and nothing is said by torch itself."""
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


def test_a_cut_image_is_refused_also_where_pillow_would_read_it(clip, tmp_path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:1500])
    with inference(), pytest.raises(UserError, match="cut.png: can't be used"):
        classify("{}", clip, [tmp_path / "cut.png"], NAMES)


def test_a_caller_who_makes_errors_of_warnings_gets_none(clip, tmp_path):
    """Nor sees Pillow's, of what is odd in a file, for which it changes no pixel. `report` may warn."""
    picture = Image.fromarray(PIXELS[0]).convert("P")
    picture.info["transparency"] = bytes(range(256))
    picture.save(tmp_path / "odd.png")
    whole = classify("{}", clip, [tmp_path / "odd.png"], NAMES)
    with errors_of_warnings():
        with pytest.raises(UserWarning):
            Image.open(tmp_path / "odd.png").convert("RGB")
        with warnings.catch_warnings(record=True) as seen:
            assert torch.equal(classify("{}", clip, [tmp_path / "odd.png"], NAMES), whole) and not seen
            fine_tune(make_learner("coop", clip), clip, PIXELS, LABELS, NAMES, lambda _: warnings.warn("mine"), epochs=1)
        assert [str(warning.message) for warning in seen] == ["mine"]
