"""Learnable tensors and training batches behind golden_M*.npz (MaPLe and IVLP).

Self-written, numpy only. Sits beside `recipe.py` (the project's golden recipe), which defines the random
CLIP weights, images, labels, class names and `draw`; nothing here depends on the original code.

Names are this project's own: `ctx`; `text.i` (i >= 1) and `vision.i` for deep prompts; MaPLe's coupling
layers `proj.0.weight/bias` (ctx -> image tower input) and `proj.i.weight/bias` (text.i -> image layer i).
`ctx` itself is never drawn: it is the token-embedding rows of the first n_ctx words of "a photo of a"
(see `ctx`), except in the tags that end in `+ctx`, which add 0.1 * a drawn tensor to it (see `ctx_noise`).
"""
import math

from tests.golden import recipe

TEMPLATE = "a photo of a"
TEMPLATE_TOKENS = [320, 1125, 539, 320]        # CLIP BPE ids of the four words
STEPS = 3                                      # SGD steps, one batch each
SGD = dict(lr=0.0035, momentum=0.9, weight_decay=5e-4, dampening=0.0, nesterov=False)
BIG_DECAY = 0.1                                # the `wd/` runs: the same three steps with this decay


def cases(config):
    """{tag: settings}. `full` is the depth of the small towers (3 in A)."""
    full = recipe.CONFIGS[config]["t_layers"]
    return {
        f"maple{full}": dict(kind="maple", depth=full, n_ctx=2, train=True),
        "maple2": dict(kind="maple", depth=2, n_ctx=2, train=True),
        "maple1": dict(kind="maple", depth=1, n_ctx=2, train=False),
        f"maple{full}n4": dict(kind="maple", depth=full, n_ctx=4, train=False),
        "maple2+ctx": dict(kind="maple", depth=2, n_ctx=2, train=False, noise=True),
        f"ivlp{full}": dict(kind="ivlp", depth_vision=full, depth_text=full, n_vision=2, n_text=2, train=True),
        "ivlp2": dict(kind="ivlp", depth_vision=2, depth_text=2, n_vision=2, n_text=2, train=True),
        f"ivlp{full}n4": dict(kind="ivlp", depth_vision=full, depth_text=full, n_vision=4, n_text=4, train=False),
        "ivlp_v3x1_t2x2": dict(kind="ivlp", depth_vision=1, depth_text=2, n_vision=3, n_text=2, train=False),
        "ivlp_v0_t2x2": dict(kind="ivlp", depth_vision=0, depth_text=2, n_vision=0, n_text=2, train=False),
        "ivlp2+ctx": dict(kind="ivlp", depth_vision=2, depth_text=2, n_vision=2, n_text=2, train=False, noise=True),
    }


def ctx(token_embedding, n):
    """The initial context [n, t_width] from the table `token_embedding.weight`."""
    return token_embedding[TEMPLATE_TOKENS[:n]].copy()


def ctx_noise(config, n):
    c = recipe.CONFIGS[config]
    return recipe.draw(c["seed"], "m.ctx_noise", (n, c["t_width"]), 0.1)


def learnables(config, case):
    """{name: float32 array} of every learnable tensor of a case but `ctx`."""
    c, s = recipe.CONFIGS[config], recipe.CONFIGS[config]["seed"]
    v, t, out = c["v_width"], c["t_width"], {}
    if case["kind"] == "maple":
        for i in range(case["depth"]):
            if i:
                out[f"text.{i}"] = recipe.draw(s, f"m.text.{i}", (case["n_ctx"], t), 0.2)
            out[f"proj.{i}.weight"] = recipe.draw(s, f"m.proj.{i}.weight", (v, t), 1 / math.sqrt(t))
            out[f"proj.{i}.bias"] = recipe.draw(s, f"m.proj.{i}.bias", (v,), 0.1)
    else:
        for i in range(1, case["depth_text"]):
            out[f"text.{i}"] = recipe.draw(s, f"deep.text.{i}", (case["n_text"], t), 0.2)
        for i in range(case["depth_vision"]):
            out[f"vision.{i}"] = recipe.draw(s, f"deep.vision.{i}", (case["n_vision"], v), 0.2)
    return out


def batch(config):
    """The batch of the single step: 6 images and labels, as in golden_A."""
    n = len(recipe.CLASSES[config])
    return recipe.images(config, "batch", 6), recipe.labels(config, "batch", 6, n)


def step_batch(config, k):
    """Batch of SGD step k = 0, 1, 2: 4 images and labels."""
    n = len(recipe.CLASSES[config])
    return recipe.images(config, f"m/step{k}", 4), recipe.labels(config, f"m/step{k}", 4, n)
