"""From an image's bytes to the numbers that CLIP was trained on."""
import torch
from torch import Tensor

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [..., height, width, 3] to float32 [..., 3, height, width], with torchvision's operations in its order."""
    x = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (values.to(x.device, non_blocking=True) for values in (MEAN, STD))
    return x.div_(255).sub_(mean).div_(std)
