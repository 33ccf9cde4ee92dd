"""What --precision decides: half precision only where no gradient is needed, and close to float32 there."""
import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from data.miniature import suite as mini
from data.feed import Feed
from mp.clip import weights
from mp.learners.cocoop import CoCoOp
from mp.learners.coop import CoOp
from mp.runtime.device import MEMORY, choose
from mp.runtime.errors import UserError
from mp.evaluate import TestSet as Evaluation
from mp.learners.prompts import normalize, template_features
from mp.learners.promptsrc import PromptSRC

HALF = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def towers():
    return {half: weights.load(mini.WEIGHTS, half=half) for half in (None, *HALF)}


@pytest.fixture
def chosen(monkeypatch):
    """A machine with two GPUs, as torch.cuda's own functions see them; the indices that are set."""
    chosen = []
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda d: chosen.append(d.index))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=2**34))
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    with undone_determinism():
        yield chosen


@contextmanager
def undone_determinism():
    filling = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.utils.deterministic.fill_uninitialized_memory = filling
    torch.set_deterministic_debug_mode("default")


@pytest.mark.parametrize("device, index", [("auto", 1), ("cuda", 1), ("cuda:0", 0)])
def test_every_process_of_a_machine_has_a_gpu_of_its_own(chosen, monkeypatch, device, index):
    """set_device wants an index."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose(device).device == torch.device("cuda", index) and chosen == [index]


def test_with_torchrun_no_process_takes_anothers_gpu(monkeypatch):
    for name, value in dict(RANK="1", LOCAL_RANK="1", WORLD_SIZE="2").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="--device cuda:0: with torchrun every process has a GPU of its own; give --device cuda"):
        choose("cuda:0")


def test_on_a_gpu_every_sum_has_one_order(chosen, monkeypatch):
    assert not torch.are_deterministic_algorithms_enabled()
    choose("cpu")
    assert not torch.are_deterministic_algorithms_enabled() and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    choose("cuda")
    assert torch.get_deterministic_debug_mode() == 2 and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.utils.deterministic.fill_uninitialized_memory and not torch.backends.cudnn.benchmark
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    choose("cuda")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":8:1")
    with pytest.raises(UserError, match="CUBLAS_WORKSPACE_CONFIG :8:1: .*unset it"):
        choose("cuda")


def test_the_cpu_is_float32_unless_asked():
    assert choose("cpu") == (torch.device("cpu"), "fp32", None, MEMORY) and choose("cpu", memory=1 / 2).memory == 2**29
    assert choose("cpu", "tf32").half is None
    assert choose("cpu", "bf16").half == torch.bfloat16 and choose("cpu", "fp16").half == torch.float16
    before = torch.get_float32_matmul_precision()
    choose("cpu", "bf16")
    assert torch.get_float32_matmul_precision() == before
    for bad in ("tpu", "meta", "cuda:77", "cuda:999", "cuda:x"):  # torch takes 999 for -25
        with pytest.raises(UserError, match=f"--device {bad}"):
            choose(bad)


@pytest.mark.parametrize("half, tolerance", [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_frozen_features_are_close(towers, half, tolerance):
    """Of unit length and never identical: the products really are rounded (2^-8 and 2^-11 relative)."""
    images = next(Feed(32).plain(mini.load("pets").test))
    names = mini.load("pets").classes
    for encode in (lambda c: c.encode_image(images), lambda c: template_features(c, "a photo of a {}.", names)):
        with torch.no_grad():
            exact, rounded = (normalize(encode(towers[h])) for h in (None, half))
        assert rounded.dtype == torch.float32
        assert 0 < (exact - rounded).norm(dim=-1).max() < tolerance


@pytest.mark.parametrize("half", HALF)
def test_what_has_a_gradient_stays_float32(towers, half):
    images = next(Feed(32).plain(mini.load("pets").test))[:4]
    for make in (CoOp, lambda c: CoCoOp(c, torch.Generator().manual_seed(0)),
                 lambda c: PromptSRC(c, 3, generator=torch.Generator().manual_seed(0))):
        gradients = []
        for h in (None, half):
            learner = make(towers[h])
            exact = towers[None]  # the frozen features come from here, so that only the gradient's pass can differ
            classes = learner.prepare(exact, mini.load("pets").classes)
            loss = learner(towers[h], classes, *learner.inputs(exact, images), torch.tensor([0, 1, 2, 3]))
            gradients.append(torch.autograd.grad(loss, list(learner.parameters())))
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_bf16_accuracies_are_near_float32s(towers):
    """A few of 600 test images lie on the border between two classes: within 1.5 points."""
    for half in (None, torch.bfloat16):
        test = Evaluation(mini.load("pets"), towers[half], lambda: Feed(32).plain(mini.load("pets").test))
        found = [test.handcrafted("a photo of a {}."), test.learnt(CoOp(towers[half])),
                 test.learnt(PromptSRC(towers[half], 3, generator=torch.Generator().manual_seed(0)))]
        if half is None:
            exact, features = found, test.features
        else:
            assert not torch.equal(test.features, features)  # they really are rounded
    for a, b in zip(exact, found):
        assert all(abs(a[part] - b[part]) <= 1.5 for part in ("base", "new", "all"))
