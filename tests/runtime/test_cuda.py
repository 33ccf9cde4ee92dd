"""What a GPU computes is what the CPU does, which the other tests hold to the original implementations."""
import json

import numpy as np
import pytest
import torch

import run
from data.miniature import suite as mini
from mp import classify, fine_tune, load_clip, load_prompt, make_learner, meta_train, save_prompt
from mp.learners import METHODS
from mp.runtime.device import choose, let_round
from tests.runtime.test_precision import undone_determinism
from tests.runtime.test_same_bits import CASES, everything

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU; or give --device cuda")
# Of the largest entry: sums in another order (fp32), inputs of products with 10 bits (tf32), which fp16 also has where
# there is no gradient. Four epochs of fine-tuning make more of it.
TOLERANCES = {"fp32": 1e-4, "tf32": 5e-2, "fp16": 5e-2, "bf16": 2e-1}


@pytest.fixture(autouse=True)
def as_before():
    with undone_determinism():
        yield
        let_round(torch.device("cuda"), False)


@pytest.fixture
def on_gpu(clip, monkeypatch):
    """CLIP as a precision leaves it on the GPU."""
    def move(precision):
        compute = choose("cuda", precision)
        monkeypatch.setattr(clip, "half_type", compute.half)
        clip.to(compute.device)
        return compute.device

    yield move
    clip.to("cpu")


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("case", CASES)
def test_gradients_prompts_and_logits(case, precision, clip, recipe, on_gpu):
    expected = everything(case, clip, recipe, torch.device("cpu"))
    found = [t.cpu() for t in everything(case, clip, recipe, on_gpu(precision))]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() < TOLERANCES[precision] * max(1e-3, float(theirs.abs().max()))


def on(device, out, *command):
    """What one of the commands leaves: its files below `out`."""
    assert run.main([*command, "--device", device, "--precision", "fp32", "--out", str(out / device)]) == 0
    return out / device / "mini"


@pytest.mark.parametrize("method", METHODS)
def test_the_commands(method, tmp_path):
    """Two epochs of everything. A prompt learnt on a GPU is welcome on a CPU."""
    logs, tuned = [], []
    for device in ("cpu", "cuda"):
        folder, = (on(device, tmp_path, "meta", "--method", method, "--epochs", "2") / "meta").iterdir()
        logs.append([json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()])
    for device in ("cpu", "cuda"):
        found = on(device, tmp_path, "finetune", "--init", str(folder / "prompt.pt"), "--epochs", "2", "--datasets", "pets")
        result, = (found / "finetune").rglob("pets*.json")
        tuned.append(json.loads(result.read_text()))
    for cpu, gpu in zip(*logs, strict=True):
        for number in ("query_loss", "grad_norm"):
            assert gpu[number] == pytest.approx(cpu[number], rel=1e-3)
    np.testing.assert_allclose(tuned[1]["losses"], tuned[0]["losses"], rtol=1e-3)
    for part, percent in tuned[0]["accuracies"].items():
        assert tuned[1]["accuracies"][part] == pytest.approx(percent, abs=1.01)  # an image on a border between classes


def test_scripts_of_ones_own(tmp_path):
    """In the precision that is the GPU's default."""
    pets = mini.load("pets")
    images, labels = [item.source for item in pets.train], [item.label for item in pets.train]
    found = []
    for device in ("cpu", "cuda"):
        clip = load_clip("mini", device)
        learner = meta_train(make_learner("coop", clip), clip, {"pets": (images, labels, pets.classes)}, epochs=1)
        learner = fine_tune(learner, clip, images, labels, pets.classes, epochs=2)
        save_prompt(learner, tmp_path / f"{device}.pt")
        found.append(classify(learner, clip, images, pets.classes))
    assert found[1].device.type == "cpu"
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0.05)
    again = classify(load_prompt(tmp_path / "cuda.pt", load_clip("mini", "cpu")), load_clip("mini", "cpu"), images, pets.classes)
    torch.testing.assert_close(again, found[1], rtol=0, atol=0.05)


def test_too_little_memory_is_told(tmp_path, capsys):
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        torch.cuda.empty_cache()
        code = run.main(["meta", "--method", "coop", "--epochs", "1", "--device", "cuda", "--out", str(tmp_path)])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert code == 1 and "run.py: not enough memory (CUDA out of memory" in capsys.readouterr().err
