"""run.py bench: the plain way it compares with is plain, what it counts is right, and its table is whole."""
import csv
import os

import pytest
import torch

import run as program
from data import paper
from data.miniature import suite as mini
from mp.bench import blocks, estimate, plain
from mp.clip import tokenizer
from mp.commands import bench
from mp.clip.model import CLIP
from mp.runtime.device import choose
from mp.runtime.errors import RunError
from mp.learners.prompts import class_prompts, encode_classes
from tests.conftest import ROOT
from tests.test_clip import NAMES, plain_text_features


def test_the_plain_way_is_all_77_positions_of_every_prompt(clip):
    tokens = tokenizer.tokenize([f"a photo of a {name}." for name in NAMES])
    expected = plain_text_features(clip, clip.token_embedding(tokens), tokens.argmax(-1))
    with torch.device("meta"):
        other = plain.PlainCLIP(**sizes_of(clip))
    other.load_state_dict(clip.state_dict(), assign=True)
    classes = class_prompts(other, NAMES)
    prefix = torch.cat([classes.sos, other.token_embedding(tokens[0, 1:5])]).expand(2, -1, -1)
    with blocks.Operations() as counted:
        found = encode_classes(other, classes, prefix)
    for row in found:
        torch.testing.assert_close(row, torch.nn.functional.normalize(expected, dim=-1), rtol=0, atol=1e-5)
    assert counted.number > 2 * len(NAMES) * 77 * 24 * 128**2 * 3  # two prefixes, three layers 128 wide


def sizes_of(clip):
    from mp.clip.weights import sizes
    return sizes(clip.state_dict(), ROOT)


def test_operations_are_counted_with_their_gradients():
    a, b = torch.randn(5, 7, requires_grad=True), torch.randn(7, 11)
    with blocks.Operations() as counted:
        torch.autograd.grad((a @ b).square().sum(), a)
    assert counted.number == 2 * (2 * 5 * 7 * 11)


@pytest.mark.parametrize("block", [b for b in blocks.BLOCKS if b.plain], ids=lambda b: b.title.replace(",", ""))
def test_ours_and_the_plain_way_give_the_same(block):
    block = block._replace(classes=7, images=min(block.images, 4), plain_images=block.plain_images and 2, steps=2)
    compute = choose("cpu")
    ours, plainly = (blocks.prepare(block, blocks.build_clip(p, mini.WEIGHTS, compute), p)() for p in (False, True))
    for a, b in zip(ours, plainly, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a[: len(b)], b, rtol=0, atol=1e-4 * float(b.abs().max()))


def test_the_table_of_some_blocks(capsys):
    assert program.main(["bench", "--weights", str(mini.WEIGHTS), "--blocks", "text gradient", "1,000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "CPU cores, fp32" in lines[0] and "3 and 3 layers, 128 and 128 wide" in lines[0] and "GFLOP/s" in lines[1]
    rows = [line for line in lines if line.startswith(("text gradient", "CoOp", "CoCoOp", "PromptSRC"))]
    assert len(rows) == 2 and rows[0].count("×") == 2 and float(rows[0].split()[-3]) < 1e-4


def test_a_measuring_process_that_is_killed_ends_the_bench():
    with pytest.raises(RunError, match="the measuring process was killed"):
        bench.alone(os._exit, 9)


def test_unknown_blocks_and_weights(capsys, tmp_path):
    for args, says in ((["--blocks", "lunch"], "no such block; there are text gradient, 100 classes"),
                       (["--weights", str(tmp_path / "no.pt")], "no.pt: no such weights file"), (["--device", "tpu"], "--device tpu")):
        assert program.main(["bench", *args]) == 2
        err = capsys.readouterr().err
        assert says in err and err.count("run.py: ") == 1


def test_estimates_have_the_papers_columns_and_count_its_work():
    with torch.device("meta"):
        clip = CLIP(**blocks.VIT_B16)
    work = estimate.columns(clip)
    with open(ROOT / "data/table2.csv", newline="", encoding="utf-8") as f:
        assert set(work) == set(next(csv.reader(f))[2:])
    # MP-CoOp: 200 epochs of 4 steps: 2 forward passes' worth to adapt, 4 for each product, 2 for the query.
    tokens = sum(5 * row.counts[0] + 5 for row in paper.TABLE.values() if row.role == "train")
    assert work["zeroshot/mp-coop"].operations["meta-gradient", "coop"] == 200 * (4 * 2 + 4 * 4 + 2) * tokens * 24 * 512**2 * 12
    # Fine-tuned CoOp on EuroSAT's 5 base classes: 200 epochs of 80 // 32 steps; the others come on top.
    assert work["finetune/coop/hand"].operations["step", "coop"] > 200 * 2 * 32 * 197 * 24 * 768**2 * 12
    measured = {(what, method): blocks.Measured(1.0, 0, 0, 1e12, []) for what in ("step", "meta-gradient", "evaluation")
                for method in ("coop", "cocoop", "promptsrc")}
    rows = {key: (hours, gib) for key, hours, gib in estimate.estimate(clip, measured, {})}
    total = sum(work["finetune/cocoop/mp"].operations.values()) / 1e12 / 3600
    assert float(rows["finetune/cocoop/mp"][0].replace(",", "")) == pytest.approx(total, rel=0.01)


def test_the_kept_memory_is_about_what_clip_says(clip):
    """Bytes that autograd keeps for the gradient of a pass through the text tower, against CLIP.kept_bytes."""
    classes = class_prompts(clip, NAMES)
    prefix = torch.cat([classes.sos, clip.token_embedding(torch.tensor([320, 1125, 539, 320]))])[None].requires_grad_()
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage()) and t, lambda t: t):
        clip.encode_prompts(prefix, *classes.chunks[0])
    frozen = {p.untyped_storage().data_ptr() for p in clip.parameters()}
    total = sum(storage.nbytes() for key, storage in kept.items() if key not in frozen)
    tokens = len(classes.chunks[0].suffix) + 5
    assert 0.5 < total / (tokens * clip.kept_bytes(clip.transformer)) < 1.5
