"""Write out CLIP's image and text towers (Radford et al. 2021), which take OpenAI's weights.

The plain way: an image is a row of 1 + G tokens, its class token and its patches; a text is a row of 77 tokens, SOS,
words, EOT and padding. All of them go through all layers; then the class token's or EOT's row is the feature. The
features here are the same, but what they don't depend on isn't computed: padding, all but one of the beginnings that
class prompts share, and in the last layer all rows but those that are read. attention.py has the picture, and says why.

Every size but the heads' follows from the tensors, so ViT-B/16, ViT-L/14 and the miniature are one class, and
the parameters carry OpenAI's names. Dimensions in the comments:

    B images, or prefixes (CoCoOp has one for each image), G patches of an image, C class prompts, P tokens of the
    prefix that they share, L of the longest suffix (what follows it), N of all suffixes, T of a sequence, R rows that
    are read, n vectors of a layer's prompt, W width of a tower, E joint embedding
"""
import hashlib
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip import CONTEXT_LENGTH, VOCABULARY
from mp.clip.attention import Attention, rows_read
from mp.clip.derivatives import LayerNorm, SiLU
from mp.clip.packing import Packing, pack

# What a pass keeps until its gradient is taken: more than is measured, at the shapes of OpenAI's models.
KEPT_FLOATS = 13  # per token, layer and unit of width
KEPT_SCORES = 1.5  # per token, layer, head and position
SECOND_ORDER = 2  # times as much where a gradient is taken of that gradient, as in MAML's outer loop
CACHE = 20 * 2**20  # bytes of the widest tensor of an image tower's pass, with which a CPU is fastest (measured)
# Of the colours of the images that CLIP was trained on; whatever torch's defaults are where this is imported.
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float32, device="cpu").view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float32, device="cpu").view(3, 1, 1)


class MLP(nn.Module):
    """Compute c_proj(QuickGELU(c_fc(x))). QuickGELU is x σ(1.702 x) = silu(1.702 x) / 1.702, which keeps one tensor for
    the gradient instead of two; both factors go into the matrix products."""

    def __init__(self, width: int):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.addmm(self.c_fc.bias, x.flatten(0, -2), self.c_fc.weight.T, beta=1.702, alpha=1.702)
        wide = SiLU.apply(wide) if torch.is_grad_enabled() else F.silu(wide, inplace=True)
        return torch.addmm(self.c_proj.bias, wide, self.c_proj.weight.T, alpha=1 / 1.702).view(x.shape)


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.ln_1, self.ln_2 = LayerNorm(width), LayerNorm(width)
        self.attn, self.mlp = Attention(width), MLP(width)

    def forward(self, x: Tensor, causal: bool, packing: Packing | None = None, last_layer: bool = False) -> Tensor:
        """Return x [B, T, W] after this layer; after the last one only the rows that are read, [B, R, W]."""
        y = self.attn(self.ln_1(x), causal, packing, last_layer)
        if last_layer:
            x = rows_read(x, packing)
        x = x + y
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width) for _ in range(layers))


def normalise(pixels: Tensor) -> Tensor:
    """Return float32 [..., 3, height, width] for uint8 [..., height, width, 3], by torchvision's operations in its
    order."""
    x = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (values.to(x.device, non_blocking=True) for values in (MEAN, STD))
    return x.div_(255).sub_(mean).div_(std)


class ImageTower(nn.Module):
    def __init__(self, image_size: int, patch: int, width: int, layers: int, embed: int):
        super().__init__()
        self.image_size = image_size
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((image_size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = LayerNorm(width), LayerNorm(width)
        self.transformer = Transformer(width, layers)
        self.proj = nn.Parameter(torch.empty(width, embed))

    def forward(self, images: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
        B = len(images)
        x = self.conv1(images).flatten(2).transpose(1, 2)                         # [B, G, W]
        x = torch.cat([self.class_embedding.expand(B, 1, -1), x], 1) + self.positional_embedding
        if prompts:
            x = torch.cat([x, prompts[0].expand(B, -1, -1)], 1)                   # [B, 1+G+n, W]
        x = self.ln_pre(x)
        last_block = self.transformer.resblocks[-1]
        for i, block in enumerate(self.transformer.resblocks):
            if 0 < i < len(prompts):
                n = len(prompts[i])
                x = torch.cat([x[:, :-n], prompts[i].expand(B, -1, -1)], 1)       # [B, 1+G+n, W]
            x = block(x, causal=False, last_layer=block is last_block)
        return self.ln_post(x[:, 0]) @ self.proj                                  # [B, E] of [B, 1, W]


class CLIP(nn.Module):
    """Encode images and texts by the two towers. Features are not normalised, as OpenAI's are not."""

    def __init__(self, image_size: int, patch: int, image_width: int, image_layers: int, text_width: int,
                 text_layers: int, embed: int):
        super().__init__()
        self.visual = ImageTower(image_size, patch, image_width, image_layers, embed)
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(VOCABULARY, text_width), freeze=False)
        self.positional_embedding = nn.Parameter(torch.empty(CONTEXT_LENGTH, text_width))
        self.transformer = Transformer(text_width, text_layers)
        self.ln_final = LayerNorm(text_width)
        self.text_projection = nn.Parameter(torch.empty(text_width, embed))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.half_type: torch.dtype | None = None  # of passes without gradients; `load` sets it
        self.tf32 = False                          # of CUDA's float32 products: mp/api/ sets it, and acts on it
        self.memory = sys.maxsize                  # bytes that one pass may keep for its gradient; `load` sets it
        self.sha256 = ""                           # of the file that the weights are from; `load` sets it

    def mark(self) -> str:
        """Return 12 hex digits by which this CLIP is known, whatever file and precision its weights are kept in."""
        digest = hashlib.sha256()
        for p in self.parameters():
            digest.update(p.detach().flatten()[:4096].half().cpu().numpy().tobytes())  # a part of each tells
        return digest.hexdigest()[:12]

    def precision(self) -> AbstractContextManager:
        """Return the context that the towers run in. Where a gradient is needed it changes nothing."""
        if torch.is_grad_enabled() or self.half_type is None:
            return nullcontext()
        return torch.autocast(self.logit_scale.device.type, self.half_type)

    def kept_bytes(self, tower: Transformer) -> int:
        """Return about how many bytes one token of a pass through one of the towers keeps for its gradient."""
        side = self.visual if tower is self.visual.transformer else self
        positions, width = side.positional_embedding.shape
        scores = KEPT_SCORES * tower.resblocks[0].attn.heads * positions
        return 4 * int(KEPT_FLOATS * width + scores) * len(tower.resblocks)

    def encode_image(self, images: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
        """Return the features [B, E] of images, uint8 [B, size, size, 3] or what `normalise` makes of them.

        `prompts` (deep ones): one [n, W] per layer, for the first len(prompts) layers. The first is appended after the
        positions are added and before ln_pre; each later one takes the place of the last n positions, without ln_pre.
        """
        features = []
        with self.precision():
            for part in images.split(self.images_at_once(images)):
                pixels = normalise(part) if part.dtype == torch.uint8 else part
                features.append(self.visual(pixels, prompts).to(self.logit_scale.dtype))
        return torch.cat(features)

    def images_at_once(self, images: Tensor) -> int:
        """Return how many go through together: all; on a CPU, without a gradient, as many as its cache holds (8 of
        ViT-B/16's, up to a tenth faster than 64)."""
        if torch.is_grad_enabled() or images.device.type != "cpu":
            return max(1, len(images))
        tokens, width = self.visual.positional_embedding.shape
        widest = tokens * 4 * width  # floats of 4 bytes, in the MLP
        return max(1, CACHE // (4 * widest))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return the features [C, E] of token ids [C, 77], taken at EOT, the largest id of a row."""
        eot = tokens.argmax(-1)
        same = (tokens == tokens[0]).all(0)                          # [77] where all rows have the same token
        shared = int(same.long().cumprod(0).sum())                   # how many positions before the first that differs
        P = min(shared, int(eot.min()))                              # EOT is never part of the shared prefix
        packing = pack(eot + 1 - P)
        own_tokens = tokens[:, P : int(eot.max()) + 1].flatten()     # [C * L]
        prefix = self.token_embedding(tokens[:1, :P])                # [1, P, W]
        suffix = self.token_embedding(own_tokens[packing.place_of_row])    # [N, W]
        return self.encode_prompts(prefix, suffix, packing)[0]

    def encode_prompts(self, prefix: Tensor, suffix: Tensor, packing: Packing, deep: Sequence[Tensor] = ()) -> Tensor:
        """Return the features [B, C, E] of C class prompts that share a prefix, for B different prefixes.

        prefix [B, P, W]: embeddings of SOS and context. suffix [N, W]: of each class's other tokens, EOT the last, as
        `packing` has them. deep: one [n, W] for each layer from the second on, in the place of positions 1..n.

        The plain way has B · C rows of 77 tokens, each with its prefix in it. Here each of B rows has it once, then the
        suffixes of all classes.
        """
        with self.precision():
            B, P, _ = prefix.shape
            prefix = prefix + self.positional_embedding[:P]
            suffix = (suffix + self.positional_embedding[P:][packing.position]).expand(B, -1, -1)
            x = torch.cat([prefix, suffix], 1)                                    # [B, P + N, W]
            last_block = self.transformer.resblocks[-1]
            for i, block in enumerate(self.transformer.resblocks):
                if 0 < i <= len(deep):
                    n = len(deep[i - 1])
                    sos, _, rest = x.split([1, n, x.shape[1] - 1 - n], 1)
                    x = torch.cat([sos, deep[i - 1].expand(B, -1, -1), rest], 1)
                x = block(x, causal=True, packing=packing, last_layer=block is last_block)
            return (self.ln_final(x) @ self.text_projection).to(self.logit_scale.dtype)  # of [B, C, W]
