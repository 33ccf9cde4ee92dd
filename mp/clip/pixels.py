"""From an image's bytes to the numbers that CLIP was trained on."""
from functools import cache

import torch
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [..., height, width, 3] to float32 [..., 3, height, width], with torchvision's operations in its order."""
    x = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = mean_and_std(x.device)
    return x.div_(255).sub_(mean).div_(std)


@cache  # a copy to a GPU would hold up every step
def mean_and_std(device: torch.device) -> tuple[Tensor, ...]:
    """Each [3, 1, 1]."""
    return tuple(torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
