"""CLIP against OpenAI's code (golden numbers), and the short text encoding against the plain one."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mp.clip import model, tokenizer
from mp.clip.packing import pack


def close(a, b, atol=1e-5):
    np.testing.assert_allclose(np.asarray(a.detach()), np.asarray(b), rtol=0, atol=atol)


@pytest.mark.parametrize("grad", [False, True], ids=["fused", "plain"])
def test_golden_features(clip, golden, recipe, grad):
    images = torch.from_numpy(recipe.images("A", "batch", 6))
    tokens = torch.from_numpy(golden["clip/tokens"]).long()
    with torch.set_grad_enabled(grad):
        image, text = clip.encode_image(images), clip.encode_text(tokens)
        close(image, golden["clip/image_features"])
        close(text, golden["clip/text_features"])
        image, text = (x / x.norm(dim=-1, keepdim=True) for x in (image, text))
        close(clip.logit_scale.exp() * image @ text.T, golden["clip/logits_per_image"], atol=1e-4)


NAMES = ["x", "sea or lake", "a very long class name that goes on and on, to the edge of reason " * 2, "t-rex", "é"]


def plain_norm(norm, x):
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, 1e-5)


def plain_text_features(clip, x, eot):
    """All 77 positions of embeddings x [C, 77, W] through torch's own operations, none of them CLIP's. [C, E]"""
    x = x + clip.positional_embedding
    mask = torch.full((77, 77), float("-inf"), dtype=x.dtype).triu(1)
    for b in clip.transformer.resblocks:
        y = plain_norm(b.ln_1, x).transpose(0, 1)
        y, _ = F.multi_head_attention_forward(
            y, y, y, x.shape[-1], x.shape[-1] // 64, b.attn.in_proj_weight, b.attn.in_proj_bias, None, None, False, 0.0,
            b.attn.out_proj.weight, b.attn.out_proj.bias, need_weights=True, attn_mask=mask)
        x = x + y.transpose(0, 1)
        y = F.linear(plain_norm(b.ln_2, x), b.mlp.c_fc.weight, b.mlp.c_fc.bias)
        x = x + F.linear(y * (1.702 * y).sigmoid(), b.mlp.c_proj.weight, b.mlp.c_proj.bias)
    return plain_norm(clip.ln_final, x[torch.arange(len(x)), eot]) @ clip.text_projection


OURS = {"NormBackward", "NormGradientBackward", "SiLUBackward", "SiLUGradientBackward", "PadBackward", "UnpadBackward"}


def operations(*values):
    """The names of all operations in the graphs of these values."""
    seen, left = set(), [value.grad_fn for value in values]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [before for before, _ in node.next_functions]
    return {node.name() for node in seen}


def test_shared_prefix_equals_77_positions_to_the_second_derivative(clip):
    tokens = tokenizer.tokenize([f"a photo of a {n}." for n in NAMES])
    eot, embedded = tokens.argmax(-1), clip.token_embedding(tokens)
    ctx = embedded[0, 1:5]
    target = torch.randn(len(NAMES), clip.text_projection.shape[1], generator=torch.Generator().manual_seed(0))
    direction = torch.randn(ctx.shape, generator=torch.Generator().manual_seed(1))

    def short(p):
        prefix = torch.cat([embedded[:1, :1], p[None]], 1)
        own = torch.cat([row[5 : end + 1] for row, end in zip(embedded, eot)])
        return clip.encode_prompts(prefix, own, pack(eot - 4))[0]

    def plain(p):
        x = torch.cat([embedded[:, :1], p.expand(len(NAMES), -1, -1), embedded[:, 5:]], 1)
        return plain_text_features(clip, x, eot)

    results = []
    for encode in (short, plain):
        p = ctx.clone().requires_grad_()
        features = encode(p)
        loss = F.cosine_similarity(features, target).exp().sum()
        grad, = torch.autograd.grad(loss, p, create_graph=True)
        assert operations(loss, grad) & OURS == (OURS if encode is short else set())
        hvp, = torch.autograd.grad(grad, p, direction)
        results.append((features, grad, hvp))
    for a, b in zip(*results):
        assert b.abs().max() > 1e-3  # a zero would agree with anything
        close(a, b.detach(), atol=1e-5)


def test_encode_text_of_one_row_and_of_mixed_rows(clip):
    for texts in (["a photo of a cat."], ["a cat.", "the dog.", ""], ["cat", "cat"]):
        tokens = tokenizer.tokenize(texts)
        with torch.no_grad():
            close(clip.encode_text(tokens), plain_text_features(clip, clip.token_embedding(tokens), tokens.argmax(-1)))


def test_nothing_of_clip_is_learnt(clip):
    assert not any(p.requires_grad for p in clip.parameters()) and not clip.training


def test_images_without_a_gradient_go_through_a_cpus_cache_some_at_a_time(clip, recipe, monkeypatch):
    """With the same features; with a gradient, all at once."""
    images = torch.from_numpy(recipe.images("A", "batch", 5))
    prompt = torch.zeros(2, 128).requires_grad_()
    sizes = []
    handle = clip.visual.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    expected = clip.encode_image(images, [prompt]).detach()
    monkeypatch.setattr(model, "CACHE", 2 * 17 * 4 * 128 * 4)  # two images of 17 tokens
    clip.encode_image(images, [prompt])
    with torch.no_grad():
        found = clip.encode_image(images, [prompt])
        assert clip.encode_image(images[:0]).shape == (0, 48)
    handle.remove()
    assert sizes == [5, 5, 2, 2, 1, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
