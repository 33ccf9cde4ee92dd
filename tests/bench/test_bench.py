"""python -m tests.bench: the plain way it compares with is plain, its numbers agree with ours, and its table is whole.

Also: what autograd keeps for a gradient is what CLIP says, by which --memory divides the work."""
import multiprocessing
import os

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data.miniature import suite as mini
from mp import maml
from mp.clip import attention, tokenizer
from mp.clip.model import CLIP, SECOND_ORDER
from mp.clip.weights import sizes
from mp.learners.prompts import class_prompts, encode_classes
from mp.runtime.device import choose
from mp.runtime.errors import RunError, UserError
from tests.bench import __main__ as bench
from tests.bench import measure, plain
from tests.bench.blocks import BLOCKS, Block
from tests.clip.test_clip import NAMES, plain_text_features
from tests.conftest import ROOT


def test_the_plain_way_is_all_77_positions_of_every_prompt(clip):
    tokens = tokenizer.tokenize([f"a photo of a {name}." for name in NAMES])
    expected = plain_text_features(clip, clip.token_embedding(tokens), tokens.argmax(-1))
    with torch.device("meta"):
        other = plain.PlainCLIP(**sizes(clip.state_dict(), ROOT))
    other.load_state_dict(clip.state_dict(), assign=True)
    classes = class_prompts(other, NAMES)
    prefix = torch.cat([classes.sos, other.token_embedding(tokens[0, 1:5])]).expand(2, -1, -1)
    with FlopCounterMode(display=False) as counted:
        found = encode_classes(other, classes, prefix)
    for row in found:
        torch.testing.assert_close(row, torch.nn.functional.normalize(expected, dim=-1), rtol=0, atol=1e-5)
    # Two prefixes, three layers 128 wide.
    assert counted.get_total_flops() > 2 * len(NAMES) * 77 * 24 * 128**2 * 3


def results(block, plainly=False):
    return measure.prepare(block, measure.load_clip(block, plainly, mini.WEIGHTS, choose("cpu")), plainly)()


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.plain], ids=lambda b: b.title.replace(",", ""))
def test_ours_and_the_plain_way_give_the_same(block, monkeypatch):
    """Ours alone lets texts share their prefix."""
    shared, with_prefix = [], attention.with_prefix
    monkeypatch.setattr(attention, "with_prefix", lambda *args: shared.append(1) or with_prefix(*args))
    block = block._replace(classes=7, images=min(block.images, 4), plain_images=block.plain_images and 2,
                           steps=min(block.steps, 2))
    ours = results(block)
    assert shared
    shared.clear()
    plainly = results(block, plainly=True)
    assert not shared
    for a, b in zip(ours, plainly, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a[: len(b)], b, rtol=0, atol=1e-4 * float(b.abs().max()))


def test_blocks_are_what_their_titles_say():
    """No inner step, one and two: each another gradient. Tasks are the same one again, and so are graphs anew."""
    block = Block("step", "coop", 7, 4)
    changes = ({}, {"steps": 1}, {"steps": 2}, {"steps": 2, "tasks": 2}, {"steps": 2, "anew": True})
    step, single, two, again, anew = (results(block._replace(**change))[0] for change in changes)
    assert len({float(g.norm()) for g in (step, single, two)}) == 3 and torch.equal(two, again)
    torch.testing.assert_close(two, anew, rtol=0, atol=1e-5 * float(anew.abs().max()))
    titles = [block.title for block in BLOCKS]
    assert len(set(titles)) == len(titles)
    assert {"text gradient, 100 classes", "CoOp step, 1,000 classes, 32 images",
            "CoOp meta-gradient, 20 classes, 2 images, 1 step, graphs anew",
            "CoCoOp meta-gradient, 20 classes, 2 images, 4 steps, 6 tasks, graphs anew"} < set(titles)


@pytest.mark.parametrize("plainly, images", [(False, [8]), (True, [1] * 8)])
def test_the_published_way_sends_images_step_by_step_through_fused_attention(plainly, images, monkeypatch):
    block = Block("fine-tuning", "cocoop", 3, 8)
    run = measure.prepare(block, measure.load_clip(block, plainly, mini.WEIGHTS, choose("cpu")), plainly)
    calls, counts = [], []
    attention, encode = torch.nn.functional.scaled_dot_product_attention, CLIP.encode_image
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention",
                        lambda *args, **more: calls.append(torch.is_grad_enabled()) or attention(*args, **more))
    monkeypatch.setattr(CLIP, "encode_image", lambda clip, some: counts.append(len(some)) or encode(clip, some))
    run()
    assert counts == images
    assert sum(calls) == 24 if plainly else not any(calls)  # three layers of the text tower in each of eight steps


def test_the_table(monkeypatch, capsys):
    """Of two small blocks, each measured in processes of its own."""
    monkeypatch.setattr(bench, "BLOCKS", [Block("text gradient", None, 7, plain=True), Block("step", "coop", 7, 4)])
    bench.main(["--weights", str(mini.WEIGHTS)])
    lines = capsys.readouterr().out.splitlines()
    assert "1 CPU cores, fp32" in lines[0] and "3 and 3 layers, 128 and 128 wide" in lines[0] and not lines[1]
    assert lines[2].split() == "ours: s GiB plain: s GiB faster less memory difference".split()
    assert lines[3].startswith("text gradient, 7 classes ") and lines[3].count("×") == 2
    assert float(lines[3].split()[-1]) < 1e-4
    assert lines[4].startswith("CoOp step, 7 classes") and "×" not in lines[4] and lines[4].endswith(")")


@pytest.mark.parametrize("ours, plainly, cells", [
    ((1.0, 2**30, 2**31, [torch.ones(100, 5)]), (2.0, 2**29, 2**31, [2 * torch.ones(4, 5)]),
     ["1.00", "1.000 (2.0)", "50.0", "0.500", "50.0×", "", "5e-01"]),  # of fewer images the memory doesn't say
    ((1.0, None, None, [torch.ones(100, 5)]), (2.0, None, None, [torch.ones(4, 5) * torch.nan]),
     ["1.00", "", "50.0", "", "50.0×", "", "nan"]),
])
def test_a_row_of_a_plain_evaluation_of_fewer_images(ours, plainly, cells):
    block = Block("evaluation", "cocoop", 100, 100, plain=True, plain_images=4)
    assert bench.row(block, measure.Measured(*ours), measure.Measured(*plainly))[1:] == cells


def test_peaks_from_before_a_run_are_forgotten(monkeypatch):
    device = torch.device("cpu")
    torch.ones(2**27)  # 0.5 GiB, gone at once
    before = measure.forget_earlier_peaks(device)
    torch.ones(2**24)
    assert 0.8 * 2**26 < measure.most_memory(device) - before < 1.5 * 2**26
    monkeypatch.setattr(measure, "STATUS", ROOT / "nowhere")
    assert measure.forget_earlier_peaks(device) is measure.most_memory(device) is None


def killed(job, **_):
    os.kill(os.getpid(), 9)


def out_of_memory(job, **_):
    raise MemoryError


def broken(job, **_):
    raise RuntimeError("shapes don't fit")


LACKS_MEMORY = "text gradient, 100 classes: not enough memory, or the process was killed"


@pytest.mark.parametrize("measuring, error, says", [
    (killed, RunError, LACKS_MEMORY), (out_of_memory, RunError, LACKS_MEMORY),
    (broken, RuntimeError, "shapes don't fit")])
def test_a_measurement_that_fails_ends_the_bench(measuring, error, says, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "measure", measuring)
    monkeypatch.setattr("mp.runtime.pool.get_context", lambda _: multiprocessing.get_context("fork"))  # at once
    with pytest.raises(error, match=says):
        bench.measure_alone(BLOCKS[0], False, mini.WEIGHTS, choose("cpu"), tmp_path)


def test_rows_that_were_measured_are_not_lost(monkeypatch, capsys):
    """Neither to an error nor to Ctrl-C."""
    for interruption in (RunError("no memory"), KeyboardInterrupt()):
        measured = [measure.Measured(1.0, 2**30, 2**31, [torch.ones(3)])] * 2

        def measure_alone(*_):
            if not measured:
                raise interruption
            return measured.pop()

        monkeypatch.setattr(bench, "measure_alone", measure_alone)
        with pytest.raises(type(interruption)):
            bench.main(["--weights", str(mini.WEIGHTS), "--blocks", "text gradient", "1,000"])
        rows = capsys.readouterr().out.splitlines()[3:]
        assert " ".join(rows).split() == "text gradient, 100 classes 1.00 1.000 (2.0) 1.0 1.000 1.0× 1.0× 0e+00".split()


def test_blocks_are_asked_for_by_the_beginnings_of_words():
    for word, begins in (("coop", {"CoOp"}), ("CoCo", {"CoCoOp"}), ("oop", set())):
        assert {block.title.split()[0] for block in BLOCKS if bench.is_asked_for(block, word)} == begins


@pytest.mark.parametrize("args, says", [
    (["--blocks", "text", "lunch"], "no such block; there are text gradient, 100 classes"),
    (["--weights", "no.pt"], "no.pt: no such weights file"), (["--device", "tpu"], "--device tpu")])
def test_unknown_blocks_weights_and_devices(args, says):
    with pytest.raises(UserError, match=says):
        bench.main(args)


def kept_bytes(clip, encode, start, second_order):
    """Return the bytes that autograd keeps for the gradient of a pass by `start`, or for that of its gradient."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = encode()
        if second_order:
            gradient, = torch.autograd.grad(features.pow(2).sum(), start, create_graph=True)
    frozen = {parameter.untyped_storage()._cdata for parameter in clip.parameters()}
    return sum(storage.nbytes() for key, storage in kept.items() if key not in frozen)


@pytest.mark.parametrize("second_order", [False, True])
def test_a_pass_keeps_about_what_clip_says(second_order, clip):
    """In so narrow a tower, what isn't of the layers counts, too."""
    classes = class_prompts(clip, NAMES)
    start = clip.token_embedding(torch.tensor([320, 1125, 539, 320])).requires_grad_()
    prefix, chunk = torch.cat([classes.sos, start])[None], classes.chunks[0]
    of_texts = kept_bytes(clip, lambda: clip.encode_prompts(prefix, *chunk), start, second_order)
    images, vectors = torch.randn(3, 3, 32, 32), torch.randn(4, 128, requires_grad=True)
    of_images = kept_bytes(clip, lambda: clip.encode_image(images, [vectors]), vectors, second_order)
    times = SECOND_ORDER if second_order else 1
    assert 0.4 < of_texts / ((len(chunk.suffix) + 5) * clip.kept_bytes(clip.transformer) * times) < 1.2
    assert 0.4 < of_images / (3 * (17 + 4) * clip.kept_bytes(clip.visual.transformer) * times) < 1.2


@pytest.mark.parametrize("sizes", [(224, 16, 768, 12), (336, 14, 1024, 24)], ids=["B16", "L14@336"])
@pytest.mark.parametrize("second_order", [False, True])
def test_an_image_of_openais_models_keeps_less_than_clip_says(sizes, second_order):
    """On the meta device, where tensors have sizes alone. Less than a tenth of it isn't from the tower's layers."""
    with torch.device("meta"):
        clip = CLIP(*sizes, 512, 1, 512).requires_grad_(False)
        images, start = torch.empty(1, 3, sizes[0], sizes[0]), torch.empty(4, sizes[2]).requires_grad_()
    tokens = (sizes[0] // sizes[1]) ** 2 + 1 + 4
    said = tokens * clip.kept_bytes(clip.visual.transformer) * (SECOND_ORDER if second_order else 1)
    assert 0.6 < kept_bytes(clip, lambda: clip.encode_image(images, [start]), start, second_order) / said < 1
