"""Images as CLIP and the published benchmarks see them: opened as RGB, resized with Pillow, normalised."""
import math
import random

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from data.errors import DataError, unreadable_image

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "AVIF")  # others run programs, as EPS runs Ghostscript
AREA = 0.08, 1.0  # of a random crop, as a share of the image
RATIO = 3 / 4, 4 / 3  # of a random crop's width to its height


def open_image(source: str | np.ndarray) -> Image.Image:
    """An RGB image from a file, or from pixels [height, width, 3]. Not rotated by EXIF: the benchmarks aren't.

    The conversion comes first, before any resizing: for palette, RGBA, LA and CMYK files it matters.
    Raises DataError naming a file that is absent or damaged, a truncated one too.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(source)
    try:
        with Image.open(source, formats=FORMATS) as image:
            if not 0 < max(image.size) <= 1000 * min(image.size):  # resizing would need gigabytes
                raise ValueError("{} by {} pixels".format(*image.size))
            return image.convert("RGB")
    except UnidentifiedImageError:
        raise DataError(unreadable_image(source, ValueError(f"not {', '.join(FORMATS)}"))) from None
    except Exception as e:  # there is nothing that damaged bytes don't raise in some decoder
        raise DataError(unreadable_image(source, e)) from None


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [..., height, width, 3] to float32 [..., 3, height, width], with torchvision's operations in its order."""
    x = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (MEAN, STD))
    return x.div_(255).sub_(mean).div_(std)


def crop_centre(image: Image.Image, size: int) -> Image.Image:
    """Test view: resize the shorter side to `size`, then take the middle; the offset is rounded half to even."""
    w, h = (int(size * side / min(image.size)) for side in image.size)
    image = image.resize((w, h), Image.Resampling.BICUBIC)
    left, top = round((w - size) / 2), round((h - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_box(width: int, height: int, rng: random.Random) -> tuple[int, int, int, int]:
    """left, top, right, bottom of a random crop: 8 to 100% of the area, ratio 3/4 to 4/3 with a uniform logarithm.

    After ten boxes that don't fit, the largest centred one whose ratio is allowed.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def augment(image: Image.Image, size: int, rng: random.Random) -> Image.Image:
    """Training view: a random resized crop, flipped half of the time.

    Python's generator, because one per image is cheap and the same whichever thread draws from it.
    """
    image = image.crop(random_box(*image.size, rng)).resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image
