"""The learners' losses once more, written out from their formulas on OpenAI's tensors, in float64.

Nothing of mp's towers, learners or derivatives is used: every class prompt goes through the text tower by itself, padded
to the longest, by torch's elementary operations. Only tokens and templates are mp's, and tested where they are made.
"""
from functools import cache

import torch
import torch.nn.functional as F

from mp.clip.tokenizer import tokenize
from tests.golden import recipe

TEMPLATES = 60  # of PromptSRC


@cache
def weights():
    return {name: torch.as_tensor(value).double() for name, value in recipe.clip_state("A").items()}


def norm(x, name):
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / (variance + 1e-5).sqrt() * weights()[f"{name}.weight"] + weights()[f"{name}.bias"]


def linear(x, name):
    return x @ weights()[f"{name}.weight"].T + weights()[f"{name}.bias"]


def attention(x, name, causal):
    """Over x [N, T, W], by heads of 64."""
    N, T, W = x.shape
    qkv = x @ weights()[f"{name}.in_proj_weight"].T + weights()[f"{name}.in_proj_bias"]
    q, k, v = qkv.view(N, T, 3, W // 64, 64).permute(2, 0, 3, 1, 4)  # each [N, H, T, 64]
    scores = q @ k.transpose(-1, -2) / 8
    if causal:
        scores = scores + torch.full((T, T), float("-inf"), dtype=x.dtype).triu(1)
    exponentials = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    y = exponentials / exponentials.sum(-1, keepdim=True) @ v
    return linear(y.transpose(1, 2).reshape(N, T, W), f"{name}.out_proj")


def block(x, name, causal):
    x = x + attention(norm(x, f"{name}.ln_1"), f"{name}.attn", causal)
    wide = linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
    return x + linear(wide / (1 + (-1.702 * wide).exp()), f"{name}.mlp.c_proj")


def unit(x):
    return x / (x * x).sum(-1, keepdim=True).sqrt()


def tokens_of(template, names):
    """Ids [C, T] up to the last EOT, as nothing sees what follows; "_" in a class name stands for a space."""
    tokens = tokenize([template.replace("{}", name.replace("_", " ")) for name in names])
    return tokens[:, : tokens.argmax(-1).max() + 1]


def text_features(tokens, words, deep=()):
    """Unnormalised [C, E] of token ids and embeddings, [C, T] and [C, T, W]; prompts of `deep` replace positions
    1..n before the second layer, the third and so on."""
    x = words + weights()["positional_embedding"][: words.shape[1]]
    for i in range(recipe.CONFIGS["A"]["t_layers"]):
        if 0 < i <= len(deep):
            x = torch.cat([x[:, :1], deep[i - 1].expand(len(x), -1, -1), x[:, 1 + len(deep[i - 1]) :]], 1)
        x = block(x, f"transformer.resblocks.{i}", causal=True)
    return norm(x, "ln_final")[torch.arange(len(x)), tokens.argmax(-1)] @ weights()["text_projection"]


def prompted_text(ctx, names, deep=()):
    """Normalised [C, E] of "{ctx} {name}.", ctx in place of as many of the words "a photo of a"."""
    tokens = tokens_of("a photo of a {}.", names)
    words = weights()["token_embedding.weight"][tokens]
    words = torch.cat([words[:, :1], ctx.expand(len(words), -1, -1), words[:, 1 + len(ctx) :]], 1)
    return unit(text_features(tokens, words, deep))


def image_features(images, prompts=()):
    """Normalised [B, E] of images [B, 3, size, size]; prompts [n, W] stand behind the patches, new ones in each layer."""
    w, patch = weights(), recipe.CONFIGS["A"]["patch"]
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2)  # [B, G, 3 · patch²]
    x = patches @ w["visual.conv1.weight"].flatten(1).T
    x = torch.cat([w["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + w["visual.positional_embedding"]
    tokens = x.shape[1]
    for i in range(recipe.CONFIGS["A"]["v_layers"]):
        if i < len(prompts):
            x = torch.cat([x[:, :tokens], prompts[i].expand(len(x), -1, -1)], 1)
        x = norm(x, "visual.ln_pre") if i == 0 else x
        x = block(x, f"visual.transformer.resblocks.{i}", causal=False)
    return unit(norm(x, "visual.ln_post")[:, 0] @ w["visual.proj"])


@cache
def frozen_text_features(names):
    """PromptSRC's anchors [C, E]: of the mean over templates of unnormalised features."""
    from mp.learners.promptsrc import TEMPLATES as templates
    assert len(templates) == TEMPLATES
    embeddings, features = weights()["token_embedding.weight"], []
    with torch.no_grad():
        for template in templates:
            tokens = tokens_of(template, names)
            features.append(text_features(tokens, embeddings[tokens]))
    return unit(sum(features) / TEMPLATES)


def log_softmax(logits):
    largest = logits.amax(-1, keepdim=True).detach()
    return logits - largest - (logits - largest).exp().sum(-1, keepdim=True).log()


def cross_entropy(logits, labels):
    return -log_softmax(logits)[torch.arange(len(labels)), labels].mean()


def scale():
    return weights()["logit_scale"].exp()


def layers(p, kind):
    """The prompts of a kind, "text" or "vision", in the order of their layers."""
    names = sorted((name for name in p if name.startswith(f"{kind}.")), key=lambda name: int(name.split(".")[1]))
    return [p[name] for name in names]


def coop(p, names, images, labels):
    return cross_entropy(scale() * image_features(images) @ prompted_text(p["ctx"], names).T, labels)


def cocoop(p, names, images, labels):
    logits = []
    for feature in image_features(images):
        hidden = torch.clamp(p["meta_net.linear1.weight"] @ feature + p["meta_net.linear1.bias"], min=0)
        shift = p["meta_net.linear2.weight"] @ hidden + p["meta_net.linear2.bias"]
        logits.append(scale() * prompted_text(p["ctx"] + shift, names) @ feature)
    return cross_entropy(torch.stack(logits), labels)


def ivlp(p, names, images, labels):
    text, image = prompted_text(p["ctx"], names, layers(p, "text")), image_features(images, layers(p, "vision"))
    return cross_entropy(scale() * image @ text.T, labels)


def maple(p, names, images, labels):
    text = layers(p, "text")
    vision = [prompt @ p[f"proj.{i}.weight"].T + p[f"proj.{i}.bias"] for i, prompt in enumerate([p["ctx"], *text])]
    image = image_features(images, vision)
    return cross_entropy(scale() * image @ prompted_text(p["ctx"], names, text).T, labels)


def promptsrc(p, names, images, labels):
    """CE + 25 · L1(text) + 20 · L1(image) + KL(frozen ‖ prompted), the last three means over all numbers."""
    text, image = prompted_text(p["ctx"], names, layers(p, "text")), image_features(images, layers(p, "vision"))
    frozen_text, frozen_image = frozen_text_features(tuple(names)), image_features(images).detach()
    logits, frozen_logits = scale() * image @ text.T, scale() * frozen_image @ frozen_text.T
    log_p, log_q = log_softmax(logits), log_softmax(frozen_logits)
    kl = (log_q.exp() * (log_q - log_p)).sum() / log_q.numel()
    return (cross_entropy(logits, labels) + 25 * (text - frozen_text).abs().mean()
            + 20 * (image - frozen_image).abs().mean() + kl)
