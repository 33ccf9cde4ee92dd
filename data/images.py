"""Images as CLIP and the published benchmarks see them: opened as RGB, resized with Pillow."""
import logging
import math
import random
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from data.errors import DataError, unreadable_image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "AVIF")  # others run programs, as EPS runs Ghostscript
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB")  # of which Pillow makes RGB rightly
AREA = 0.08, 1.0  # of a random crop, as a share of the image
RATIO = 3 / 4, 4 / 3  # of a random crop's width to its height

# Pillow's remarks, on EXIF for one, don't say which image they are about, and what they are about changes no pixel.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def open_image(source: str | np.ndarray) -> Image.Image:
    """Return an RGB image from a file, or from pixels [height, width, 3].

    It isn't rotated by EXIF, as the benchmarks' images aren't. The conversion comes first, before any resizing: for
    palette, RGBA, LA and CMYK files it matters. Transparency is left out, of an animation the first frame is taken, and
    of 16 bits the higher 8.
    Raises DataError naming a file that is absent, damaged, truncated, too large, or of a kind that isn't taken.
    """
    try:
        return read(source)
    except Exception as e:  # there is nothing that damaged bytes don't raise in some decoder
        too_large = isinstance(e, Image.DecompressionBombError)
        advice = "make it smaller" if too_large else getattr(e, "advice", "fetch it again")
        raise DataError(unreadable_image(source, e, advice)) from None


class NotTaken(ValueError):
    """An image is of a kind that isn't taken; `advice`: what to do about it."""

    def __init__(self, why: str, advice: str):
        super().__init__(why)
        self.advice = advice


def read(source: str | np.ndarray | Image.Image) -> Image.Image:
    """Return what `open_image` does, also of an image that Pillow has opened. Raises whatever damaged bytes raise, and
    NotTaken."""
    if isinstance(source, np.ndarray):
        return as_rgb(Image.fromarray(source))
    if isinstance(source, Image.Image):
        return as_rgb(source)
    try:
        image = Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        why = f"not {', '.join(FORMATS)}, or of a rare kind"
        raise NotTaken(why, "fetch it again, or convert it to 8-bit RGB") from None
    with image:
        return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB; of grey in 16 bits the higher 8, as Pillow does with colours: its `convert` would make
    it white. Raises NotTaken for another kind, and for a very narrow image."""
    if not 0 < max(image.size) <= 1000 * min(image.size):  # resizing would need gigabytes
        raise NotTaken("{} by {} pixels".format(*image.size), "crop it")
    if image.mode in MODES:
        return image.convert("RGB")
    if not is_grey_of_16_bits(image):
        raise NotTaken(f"pixels of another kind, {image.mode} in Pillow's words", "convert it to 8-bit RGB")
    values = np.asarray(image)
    # 12 bits or fewer, as of X-rays: the higher 8 of 16 would be black, or nearly. Pillow may also hold 32 in memory.
    if not 4096 <= values.max() < 2**16 or values.min() < 0:
        raise NotTaken(f"16 bits of grey of which the largest is {values.max()}", "scale it to 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def is_grey_of_16_bits(image: Image.Image) -> bool:
    """Tell whether it is grey in 16 bits; a TIFF file's integers may also have 12 bits or a sign, or be a negative."""
    if image.format != "TIFF":
        return image.mode.startswith("I")
    bits, meaning = image.tag_v2.get(BITSPERSAMPLE), image.tag_v2.get(PHOTOMETRIC_INTERPRETATION)
    return image.mode.startswith("I;16") and bits == (16,) and meaning == 1  # zero is black


def crop_centre(image: Image.Image, size: int) -> Image.Image:
    """Return the test view: the shorter side resized to `size`, then the middle; offsets are rounded half to even."""
    w, h = (int(size * side / min(image.size)) for side in image.size)
    image = image.resize((w, h), Image.Resampling.BICUBIC)
    left, top = round((w - size) / 2), round((h - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_box(width: int, height: int, rng: random.Random) -> tuple[int, int, int, int]:
    """Draw a crop's left, top, right and bottom: 8 to 100% of the area, ratio 3/4 to 4/3 with a uniform logarithm.

    After ten boxes that don't fit it is the largest centred one whose ratio is allowed.
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
    """Draw a training view: a random crop, resized, and flipped half of the time.

    `rng` is Python's generator, because one for each image is cheap and the same whichever thread draws from it.
    """
    image = image.crop(random_box(*image.size, rng)).resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image
