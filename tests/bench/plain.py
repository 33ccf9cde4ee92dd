"""The plain ways, which `python -m tests.bench` measures and the tests hold the short way to."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mp.clip.attention import Attention, merge_heads
from mp.clip.model import CLIP
from mp.clip.packing import Packing
from mp.maml import Loss, Params, gradient, leaves


class PlainCLIP(CLIP):
    """CLIP that encodes each class prompt by itself, at all 77 positions."""

    def encode_prompts(self, prefix: Tensor, suffix: Tensor, packing: Packing, deep=()) -> Tensor:
        """As CLIP's: features [B, C, E] for prefixes [B, P, W] and the classes' own tokens [N, W]."""
        B, P, W = prefix.shape
        C, L = packing.row_at_place.shape
        own = F.pad(suffix[packing.row_at_place], (0, 0, 0, len(self.positional_embedding) - P - L))
        x = torch.cat([prefix[:, None].expand(B, C, P, W), own.expand(B, -1, -1, -1)], 2)
        x = x.flatten(0, 1) + self.positional_embedding                                    # [B·C, 77, W]
        with self.precision():
            for i, block in enumerate(self.transformer.resblocks):
                if 0 < i <= len(deep):
                    n = len(deep[i - 1])
                    x = torch.cat([x[:, :1], deep[i - 1].expand(B * C, n, W), x[:, 1 + n :]], 1)
                x = block(x, causal=True)
            x = x[torch.arange(B * C, device=x.device), P + packing.position[packing.last].repeat(B)]
            return (self.ln_final(x) @ self.text_projection).to(self.logit_scale.dtype).view(B, C, -1)


class FusedAttention(Attention):
    """By torch's fused kernels, which have no second derivative. The plain way has no `packing`."""

    def forward(self, x: Tensor, causal: bool, packing: None = None, last_layer: bool = False) -> Tensor:
        q, k, v = self.split_heads(F.linear(x, self.in_proj_weight, self.in_proj_bias))    # each [..., H, T, d]
        y = self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, is_causal=causal)))
        return y[:, :1] if last_layer else y


class PublishedCLIP(PlainCLIP):
    """As the methods' own code trains with it: also with fused attention. (The image tower's last MLP sees the class
    token alone, which theirs doesn't save.)"""

    def __init__(self, **sizes: int):
        super().__init__(**sizes)
        for tower in (self.transformer, self.visual.transformer):
            for block in tower.resblocks:
                block.attn = FusedAttention(len(block.ln_1.weight))


def meta_gradient(loss: Loss, params: Params, support: list, query: tuple[Tensor, ...], inner_lr: float) -> Params:
    """The gradient of the query loss, with one graph through all inner steps, each on one of `support`."""
    p = start = leaves(params)
    for batch in support:
        grads = gradient(loss(p, batch), p, create_graph=True)
        p = {k: v - inner_lr * grads[k] for k, v in p.items()}
    return gradient(loss(p, query), start)
