"""run.py bench: the plain way it compares with is plain, every method has its rows, and its table is whole."""
import os

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import run as program
from data.miniature import suite as mini
from mp import maml
from mp.bench import measure, plain
from mp.bench.blocks import BLOCKS, Block, make_blocks
from mp.clip import attention, tokenizer
from mp.clip.model import CLIP, SECOND_ORDER
from mp.clip.weights import sizes
from mp.commands import bench
from mp.learners import METHODS, Method
from mp.learners.prompts import class_prompts, encode_classes
from mp.runtime.device import choose
from mp.runtime.errors import RunError
from tests.conftest import ROOT
from tests.clip.test_clip import NAMES, plain_text_features


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
    clip = measure.build_clip(block, plainly, mini.WEIGHTS, choose("cpu"))
    return measure.prepare(block, clip, plainly)()


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


def test_what_is_measured_is_a_step_where_there_are_no_inner_steps():
    """The meta-gradient of no inner steps, of one, and of two: each another, and tasks are the same one again."""
    block = Block("step", "coop", 7, 4)
    step, one, two, again = (results(b)[0] for b in (block, block._replace(steps=1), block._replace(steps=2),
                                                     block._replace(steps=2, tasks=2)))
    assert len({float(g.norm()) for g in (step, one, two)}) == 3 and torch.equal(two, again)


@pytest.mark.parametrize("plainly, images", [(False, [8]), (True, [1] * 8)])
def test_the_published_way_sends_images_step_by_step_through_fused_attention(plainly, images, monkeypatch):
    run = measure.prepare(block := Block("fine-tuning", "cocoop", 3, 8),
                          measure.build_clip(block, plainly, mini.WEIGHTS, choose("cpu")), plainly)
    calls, counts = [], []
    attention, encode = torch.nn.functional.scaled_dot_product_attention, CLIP.encode_image
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention",
                        lambda *args, **more: calls.append(torch.is_grad_enabled()) or attention(*args, **more))
    monkeypatch.setattr(CLIP, "encode_image", lambda clip, some: counts.append(len(some)) or encode(clip, some))
    run()
    assert counts == images
    assert sum(calls) == 24 if plainly else not any(calls)  # three layers of the text tower in each of eight steps


def test_every_method_has_its_rows():
    for method, about in METHODS.items():
        own = [block for block in BLOCKS if block.method == method]
        assert [b.images for b in own if b.what == "fine-tuning" and b.plain] == [max(8, about.finetune["batch"])]
        assert any(b.what == "meta-gradient" and b.plain for b in own)
        assert [b.steps for b in own if b.memory_only and b.tasks == 1] == [1, 16]
        assert all(b.title.startswith(f"{about.title} ") for b in own)
    assert {b.what for b in BLOCKS} == {"text gradient", "fine-tuning", "step", "meta-gradient", "evaluation"}


@pytest.mark.parametrize("learner", ["coop.CoOp", "cocoop.CoCoOp", "promptsrc.PromptSRC"])
def test_a_new_method_has_its_rows_by_its_line_among_the_methods(learner, monkeypatch):
    before = make_blocks()
    monkeypatch.setitem(METHODS, "another", Method("Another", learner, dict(inner_lr=0.01, batch=8), dict(batch=2)))
    added = [block for block in make_blocks() if block not in before]
    assert [block.title for block in added] == [
        "Another fine-tuning, 100 classes, 8 images", "Another meta-gradient, 20 classes, 2 images, 4 steps",
        "Another meta-gradient, 20 classes, 2 images, 4 steps, graphs anew",
        "Another meta-gradient, 20 classes, 2 images, 1 step, graphs anew",
        "Another meta-gradient, 20 classes, 2 images, 16 steps, graphs anew"]
    for block in added[:3]:
        for plainly in (False, True) if block.plain else (False,):
            small = block._replace(classes=3, steps=min(block.steps, 1))
            assert all(g.abs().max() > 0 for g in results(small, plainly))


def test_an_unknown_method_is_no_other():
    with pytest.raises(KeyError, match="lunch"):
        results(Block("step", "lunch", 7, 4))


def test_titles_are_unique_and_say_the_sizes():
    titles = [block.title for block in BLOCKS]
    assert len(set(titles)) == len(titles)
    assert {"text gradient, 100 classes", "CoCoOp fine-tuning, 100 classes, 8 images", "CoOp step, 1,000 classes, 32 images",
            "CoOp meta-gradient, 20 classes, 2 images, 1 step, graphs anew", "CoOp meta-gradient, 50 classes, 32 images, 4 steps",
            "CoCoOp meta-gradient, 20 classes, 2 images, 4 steps, 6 tasks, graphs anew"} < set(titles)


def test_the_table_of_some_blocks(capsys):
    assert program.main(["bench", "--weights", str(mini.WEIGHTS), "--blocks", "text gradient", "1,000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "CPU cores, fp32" in lines[0] and "3 and 3 layers, 128 and 128 wide" in lines[0] and not lines[1]
    assert lines[2].split("  ")[-1] == "difference"
    titles = [block.title for block in BLOCKS]
    rows = [line for line in lines if line.split("  ")[0] in titles]
    assert len(rows) == 2 and rows[0].count("×") == 2 and float(rows[0].split()[-1]) < 1e-4
    assert rows[1].startswith("CoOp step, 1,000 classes") and "×" not in rows[1] and rows[1].endswith(")")


def test_of_a_plain_evaluation_of_fewer_images_the_time_is_scaled_and_the_memory_left_out():
    block = Block("evaluation", "cocoop", 100, 100, plain_images=4)
    ours = measure.Measured(1.0, 2**30, 2**31, [torch.ones(100, 5)])
    plainly = measure.Measured(2.0, 2**29, 2**31, [2 * torch.ones(4, 5)])
    assert bench.row(block, ours, plainly)[1:] == ["1.00", "1.000 (2.0)", "50.0", "0.500", "50.0×", "", "5e-01"]


def test_a_measuring_process_that_is_killed_ends_the_bench():
    with pytest.raises(RunError, match="the measuring process was killed"):
        bench.alone(os._exit, 9)


def test_peaks_from_before_a_run_are_forgotten():
    device = torch.device("cpu")
    torch.ones(2**27)  # 0.5 GiB, gone at once
    before = measure.forget_earlier_peaks(device)
    torch.ones(2**24)
    assert 0.8 * 2**26 < measure.most_memory(device) - before < 1.5 * 2**26


def test_a_measuring_process_has_the_switches_of_its_precision(monkeypatch):
    asked = []
    monkeypatch.setattr(measure, "choose", lambda *args: asked.append(args))
    measure.measure(Block("step", "coop", 3, 2, plain=False), False, mini.WEIGHTS, choose("cpu", "bf16"))
    assert asked == [("cpu", "bf16")]


def test_a_difference_that_is_not_a_number_is_shown():
    block = Block("step", "coop", 3, 2)
    ours, plainly = (measure.Measured(1.0, 2**30, 2**31, [torch.ones(2), torch.tensor([value, 1.0])]) for value in (1.0, float("nan")))
    assert bench.row(block, ours, plainly)[-1] == "nan"


def broken(_):
    raise RuntimeError("shapes don't fit")


def test_another_error_of_a_measuring_process_is_no_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes don't fit"):
        bench.alone(broken, 1)


def test_rows_that_were_measured_are_not_lost(monkeypatch, capsys):
    measured = [measure.Measured(1.0, 2**30, 2**31, [torch.ones(3)])] * 2
    def alone(*_, **__):
        if not measured:
            raise RunError("bench: no memory")
        return measured.pop()

    monkeypatch.setattr(bench, "alone", alone)
    assert program.main(["bench", "--blocks", "text gradient", "1,000"]) == 1
    out, err = capsys.readouterr()
    assert "run.py: bench: no memory" in err
    assert out.splitlines()[2].split() == "ours: s GiB plain: s GiB faster less memory difference".split()
    assert out.splitlines()[3].split() == "text gradient, 100 classes 1.00 1.000 (2.0) 1.0 1.000 1.0× 1.0× 0e+00".split()


def out_of_memory(text):
    raise MemoryError(text) if text else MemoryError


@pytest.mark.parametrize("text, says", [("", "not enough memory"), ("can't\nallocate", "can't")])
def test_a_measuring_process_that_lacks_memory_ends_the_bench(text, says):
    with pytest.raises(RunError, match=f"bench: {says}; try a smaller --memory"):
        bench.alone(out_of_memory, text)


def test_a_measuring_process_has_environment_variables_of_its_own():
    assert bench.alone(os.getenv, "MALLOC_MMAP_THRESHOLD_", **bench.GIVE_BACK) == "65536"
    assert "MALLOC_MMAP_THRESHOLD_" not in os.environ


def test_the_help_says_that_nothing_is_kept(capsys):
    with pytest.raises(SystemExit):
        program.main(["bench", "--help"])
    assert "interrupted, it starts anew" in " ".join(capsys.readouterr().out.split())


def test_blocks_are_asked_for_by_the_beginnings_of_words():
    titles = {word: [block.title for block in BLOCKS if bench.is_asked_for(block, [word])] for word in ("coop", "CoCo", "oop", "50 c")}
    assert titles["coop"] and all(title.startswith("CoOp ") for title in titles["coop"])
    assert titles["CoCo"] and all(title.startswith("CoCoOp ") for title in titles["CoCo"])
    assert not titles["oop"] and titles["50 c"] == [block.title for block in BLOCKS if block.classes == 50]


def test_unknown_blocks_and_weights(capsys, tmp_path):
    for args, says in ((["--blocks", "lunch"], "no such block; there are text gradient, 100 classes"),
                       (["--weights", str(tmp_path / "no.pt")], "no.pt: no such weights file"),
                       (["--device", "tpu"], "--device tpu")):
        assert program.main(["bench", *args]) == 2
        err = capsys.readouterr().err
        assert says in err and err.count("run.py: ") == 1


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("tower", ["text", "image"])
def test_a_pass_keeps_about_what_clip_says(clip, tower, second_order):
    """Bytes that autograd keeps for the gradient of a pass, or for that of its gradient, against CLIP.kept_bytes. In so
    narrow a tower, what isn't of the layers counts, too."""
    generator = torch.Generator().manual_seed(0)
    if tower == "text":
        classes = class_prompts(clip, NAMES)
        start = clip.token_embedding(torch.tensor([320, 1125, 539, 320])).requires_grad_()
        run = lambda: clip.encode_prompts(torch.cat([classes.sos, start])[None], *classes.chunks[0])
        said = (len(classes.chunks[0].suffix) + 5) * clip.kept_bytes(clip.transformer)
    else:
        images = torch.randn(3, 3, 32, 32, generator=generator)
        start = torch.randn(4, 128, generator=generator).requires_grad_()
        run = lambda: clip.encode_image(images, [start])
        said = 3 * (17 + 4) * clip.kept_bytes(clip.visual.transformer)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage()) and t, lambda t: t):
        features = run()
        if second_order:
            gradient, = torch.autograd.grad(features.pow(2).sum(), start, create_graph=True)
            said *= SECOND_ORDER
    frozen = {p.untyped_storage().data_ptr() for p in clip.parameters()}
    total = sum(storage.nbytes() for key, storage in kept.items() if key not in frozen)
    assert 0.4 < total / said < 1.2


@pytest.mark.parametrize("sizes", [(224, 16, 768, 12), (224, 14, 1024, 24), (336, 14, 1024, 24)], ids=["B16", "L14", "L14@336"])
@pytest.mark.parametrize("second_order", [False, True])
def test_an_image_of_openais_models_keeps_less_than_clip_says(sizes, second_order):
    """On the meta device, where tensors have sizes alone. Less than a tenth of it isn't from the tower's layers."""
    with torch.device("meta"):
        clip = CLIP(*sizes, 512, 1, 512).requires_grad_(False)
        images, start = torch.empty(1, 3, sizes[0], sizes[0]), torch.empty(4, sizes[2]).requires_grad_()
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.setdefault(t.untyped_storage()._cdata, t.untyped_storage()) and t, lambda t: t):
        features = clip.encode_image(images, [start])
        if second_order:
            gradient, = torch.autograd.grad(features.pow(2).sum(), start, create_graph=True)
    frozen = {p.untyped_storage()._cdata for p in clip.parameters()}
    total = sum(storage.nbytes() for key, storage in kept.items() if key not in frozen)
    tokens = (sizes[0] // sizes[1]) ** 2 + 1 + 4
    assert 0.6 < total / (tokens * clip.kept_bytes(clip.visual.transformer) * (SECOND_ORDER if second_order else 1)) < 1


def test_graphs_are_kept_as_meta_training_keeps_them(monkeypatch):
    """With the memory's rule, unless a row is about what is computed anew; the gradients are the same."""
    asked = []
    gradient = maml.meta_gradient
    monkeypatch.setattr(maml, "meta_gradient", lambda *args, kept, **more: asked.append(kept) or gradient(*args, kept=kept, **more))
    block = Block("meta-gradient", "coop", 5, 2, 3, plain=False)
    found = [results(one, False) for one in (block, block._replace(anew=True))]
    assert asked == [3, 0]
    for kept, anew in zip(*found):
        torch.testing.assert_close(kept, anew, rtol=0, atol=1e-5 * float(anew.abs().max()))
