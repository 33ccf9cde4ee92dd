"""Test views pixel for pixel, files of every mode, and the distribution of training views."""
import hashlib
import math
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset import Item
from data.errors import DataError
from data.feed import Feed
from data.images import augment, crop_centre, open_image, random_box
from mp.clip.model import normalise
from tests.conftest import GOLDEN, ROOT


def preprocess(image, size):
    return normalise(torch.from_numpy(np.array(crop_centre(image, size))))


def test_golden_preprocessing(recipe, tmp_path):
    golden = np.load(GOLDEN / "preprocess.npz")
    for name, image in recipe.preprocess_images().items():
        image.save(tmp_path / f"{name}.png")
        image = open_image(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(preprocess(image, 32).numpy(), golden[f"{name}/32"], err_msg=name)
        sampled = preprocess(image, 224).numpy().reshape(-1)[::2351]
        np.testing.assert_array_equal(sampled, golden[f"{name}/224/sampled"], err_msg=name)
        digest = hashlib.sha256(np.asarray(crop_centre(image, 224)).tobytes()).hexdigest()
        assert digest == str(golden[f"{name}/224/sha256"]), name


# One image of 41 by 29 pixels in every kind of file, and the RGB pixels that a plain formula makes of it.
H, W = 29, 41
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (H, W), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (H, W), dtype=np.uint8)
PALETTE = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
CMYK = RNG.integers(0, 256, (H, W, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (H, W), dtype=np.uint16)
DEEP_RGB = RNG.integers(0, 65536, (H, W, 3), dtype=np.uint16)


def grey(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, -1)


def paletted(**options):
    image = Image.fromarray(GREY, "L").copy()
    image.putpalette(PALETTE.tobytes())
    return image, options


def png(bits, colour, pixels):
    """A PNG file from numbers, for what Pillow reads but doesn't write."""
    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(f">u{bits // 8}").reshape(H, -1))
    header = struct.pack(">IIBBBBB", W, H, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def tiff(pixels, bits, black=1, sample=1, order="<", samples=1):
    """A TIFF file from numbers; `black`: 1 if 0 is black, 0 if it is white, 2 for RGB; `sample`: 1 unsigned, 2 signed."""
    tags = {256: W, 257: H, 258: bits, 259: 1, 262: black, 273: 0, 277: samples, 278: H, 279: len(pixels), 339: sample}
    start = 8 + 2 + 12 * len(tags) + 4
    after = struct.pack(order + "3H", bits, bits, bits) if samples == 3 else b""
    tags[273] = start + len(after)
    entries = b""
    for tag, value in tags.items():
        if tag == 258 and samples == 3:
            entries += struct.pack(order + "HHII", tag, 3, 3, start)
        else:
            entries += struct.pack(order + "HHII", tag, 4, 1, value)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4) + after + pixels


def lab_to_rgb(lab):
    """CIE's L*a*b* of white D50, L in 0..255 and a, b signed bytes, to sRGB in 0..255."""
    L, a, b = lab[..., 0] / 2.55, lab[..., 1].astype(np.int8), lab[..., 2].astype(np.int8)
    fy = (L + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1.0, 0.8249)
    to_linear = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    linear = (xyz @ to_linear.T).clip(0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


UNTIL_WHITE = 255 - CMYK.astype(float)
FROM_CMYK = UNTIL_WHITE[..., :3] * UNTIL_WHITE[..., 3:] / 255
SMOOTH = np.stack([np.full((H, W), 140), np.full((H, W), 20), np.full((H, W), 245)], -1).astype(np.uint8)  # L, a, b
KINDS = {  # file: bytes, or an image and how it is saved; the pixels; the largest difference
    "one bit.png": ((Image.fromarray(GREY > 99), {}), grey(255 * (GREY > 99)), 0),
    "grey.png": ((Image.fromarray(GREY), {}), grey(GREY), 0),
    "grey, transparent.png": ((Image.merge("LA", [Image.fromarray(x) for x in (GREY, ALPHA)]), {}), grey(GREY), 0),
    "palette.png": (paletted(), PALETTE[GREY], 0),
    "palette, one transparent.png": (paletted(transparency=7), PALETTE[GREY], 0),
    "palette, transparent.png": (paletted(transparency=bytes(range(256))), PALETTE[GREY], 0),
    "palette.gif": (paletted(transparency=7), PALETTE[GREY], 0),
    "palette.tif": (paletted(), PALETTE[GREY], 0),
    "colour.png": ((Image.fromarray(RGB), {}), RGB, 0),
    "transparent.png": ((Image.fromarray(np.dstack([RGB, ALPHA])), {}), RGB, 0),
    "transparent.webp": ((Image.fromarray(np.dstack([RGB, ALPHA])), dict(lossless=True, exact=True)), RGB, 0),
    "cmyk.tif": ((Image.fromarray(CMYK, "CMYK"), {}), FROM_CMYK, 1),
    "cmyk, inverted by Adobe.jpg": ((Image.new("CMYK", (W, H), (0, 255, 51, 102)), dict(quality=100)),
                                    np.full((H, W, 3), (153, 0, 122.4)), 2),
    "lab.tif": ((Image.frombytes("LAB", (W, H), SMOOTH.tobytes()), {}), lab_to_rgb(SMOOTH), 3),
    "grey of 16 bits.png": (png(16, 0, DEEP), grey(DEEP // 256), 0),
    "grey of 16 bits, little-endian.tif": (tiff(DEEP.astype("<u2").tobytes(), 16), grey(DEEP // 256), 0),
    "grey of 16 bits, big-endian.tif": (tiff(DEEP.astype(">u2").tobytes(), 16, order=">"), grey(DEEP // 256), 0),
    "grey of 16 bits, packed.tif": ((Image.fromarray(DEEP), dict(compression="tiff_lzw")), grey(DEEP // 256), 0),
    "grey of 16 bits.pgm": (b"P5 41 29 65535\n" + DEEP.astype(">u2").tobytes(), grey(DEEP // 256), 0),
    "grey up to 1000.pgm": (b"P5 41 29 1000\n" + (DEEP % 1001).astype(">u2").tobytes(),
                            grey(DEEP % 1001 / 1000 * 65535 // 256), 1),
    "grey of 16 bits, transparent.png": (png(16, 4, np.dstack([DEEP, DEEP[::-1]])), grey(DEEP // 256), 0),
    "colour of 16 bits.png": (png(16, 2, DEEP_RGB), DEEP_RGB // 256, 0),
    "colour of 16 bits.tif": (tiff(DEEP_RGB.astype("<u2").tobytes(), 16, black=2, samples=3), DEEP_RGB // 256, 0),
}


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        image, options = content
        image.save(path, **options)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_becomes_the_rgb_of_a_plain_formula(name, tmp_path):
    content, expected, tolerance = KINDS[name]
    write(tmp_path / name, content)
    found = open_image(str(tmp_path / name))
    assert found.mode == "RGB" and found.size == (W, H)
    assert np.abs(np.asarray(found, float) - expected).max() <= tolerance
    if "grey of 16" in name:  # less than one from a 257th
        assert np.abs(np.asarray(found)[..., 0] - DEEP / 257).max() < 1


def test_ycbcr_is_decoded(tmp_path):
    ycc = (150, 90, 170)
    Image.new("YCbCr", (W, H), ycc).save(tmp_path / "a.tif")
    Image.new("YCbCr", (W, H), ycc).save(tmp_path / "a.jpg", quality=100)
    y, cb, cr = 150, 90 - 128, 170 - 128
    expected = np.array([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    for name in ("a.tif", "a.jpg"):
        assert np.abs(np.asarray(open_image(str(tmp_path / name)), float) - expected).max() <= 3, name


NUMBERS = (DEEP / 65535).astype(np.float32)
REFUSED = {
    "integers of 32 bits.tif": (Image.fromarray(DEEP.astype(np.int32)), {}),
    "floats.tif": (Image.fromarray(NUMBERS), {}),
    "floats.pfm": (Image.fromarray(NUMBERS), {}),
    "signed.tif": tiff(DEEP.astype("<i2").tobytes(), 16, sample=2),
    "twelve bits.tif": tiff(bytes(H * 62), 12),
    "a negative of 16 bits.tif": tiff(DEEP.tobytes(), 16, black=0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_kinds_that_would_become_white_or_black_are_refused(name, tmp_path):
    write(tmp_path / name, REFUSED[name])
    with pytest.raises(DataError, match=f"{name}: not a readable image .pixels of another kind.*; convert it to 8-bit"):
        open_image(str(tmp_path / name))
    trouble, = Feed(0, workers=1).troubles([Item(str(tmp_path / name), 0)])  # what `data --check` prints
    assert name in trouble


@pytest.mark.parametrize("largest", [0, 255, 1023, 4095])
def test_grey_of_16_bits_that_would_become_black_is_refused(largest, tmp_path):
    """Scans often keep 8 to 12 bits in 16."""
    pixels = np.full((H, W), largest // 2, np.uint16)
    pixels[3, 5] = largest
    files = {"a.png": png(16, 0, pixels), "a.tif": tiff(pixels.astype("<u2").tobytes(), 16),
             "a.pgm": b"P5 41 29 65535\n" + pixels.astype(">u2").tobytes()}
    for name, content in files.items():
        write(tmp_path / name, content)
        with pytest.raises(DataError, match=f"{name}: not a .*largest is {largest}.; scale it to 8 bits; "):
            open_image(str(tmp_path / name))
    pixels[3, 5] = 4096
    write(tmp_path / "a.png", png(16, 0, pixels))
    assert np.asarray(open_image(str(tmp_path / "a.png"))).max() == 16


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif", "a.avif", "a.jpg"])
def test_of_several_frames_the_first_is_taken(name, tmp_path):
    first, second = (Image.new("RGB", (W, H), colour) for colour in ((250, 10, 10), (10, 10, 250)))
    kind = {"a.jpg": dict(format="MPO")}.get(name, {})  # what some cameras write
    first.save(tmp_path / name, save_all=True, append_images=[second], **kind)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 2
    assert np.abs(np.asarray(open_image(str(tmp_path / name)), float) - (250, 10, 10)).max() <= 6


def test_too_many_pixels_and_too_narrow_say_what_to_do(tmp_path):
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 13_500, 13_500, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "large.bmp").write_bytes(header)
    with pytest.raises(DataError, match="large.bmp: .*182250000 pixels.*; make it smaller") as raised:
        open_image(str(tmp_path / "large.bmp"))
    assert "fetch it again" not in str(raised.value)
    Image.new("RGB", (1, 1001)).save(tmp_path / "narrow.png")
    with pytest.raises(DataError, match="narrow.png: .*1 by 1001 pixels.; crop it"):
        open_image(str(tmp_path / "narrow.png"))


def test_pillows_remarks_are_not_shown(tmp_path):
    """They name no image. In a process of its own, because pytest has its own way with warnings."""
    image = Image.fromarray(RGB)
    image.save(tmp_path / "exif.jpg", exif=b"Exif\0\0II*\0" + struct.pack("<IH", 8, 9) + b"\xff" * 20)
    write(tmp_path / "transparent.png", paletted(transparency=bytes(range(256))))
    beyond_its_end = struct.pack("<HHII", 339, 2, 10**6, 10**7)  # in place of the last tag
    (tmp_path / "tag.tif").write_bytes(tiff(GREY.tobytes(), 8).replace(struct.pack("<HHII", 339, 4, 1, 1), beyond_its_end))
    (tmp_path / "many samples.tif").write_bytes(tiff(GREY.tobytes(), 8, samples=99))
    code = """if True:
        import sys
        from data.errors import DataError
        from data.images import Image, open_image
        Image.MAX_IMAGE_PIXELS = 1000
        for path in sys.argv[1:]:
            try:
                open_image(path)
            except DataError as e:
                print(e)
    """
    paths = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.count("\n") == 1 and "many samples.tif" in done.stdout


def test_one_pixel_wide_and_exif(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees"
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", exif=exif)
    assert torch.equal(*(preprocess(open_image(tmp_path / f), 32) for f in ("a.png", "b.png")))
    assert preprocess(Image.new("RGB", (1, 50)), 32).shape == (3, 32, 32)
    assert preprocess(Image.new("RGB", (50, 1)), 32).shape == (3, 32, 32)


def test_unreadable_images_are_named(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    for name in ("cut.jpg", "text.jpg", "empty.jpg", "folder.jpg", "absent.jpg"):
        with pytest.raises(DataError, match=f"{name}.*again"):
            open_image(tmp_path / name)


def test_views_keep_the_order(tmp_path):
    colours = ["red", "lime", "blue", "white", "black"]
    for c in colours:
        Image.new("RGB", (9, 9), c).save(tmp_path / f"{c}.png")
    files, = Feed(4).plain([Item(str(tmp_path / f"{c}.png"), 0) for c in colours])
    arrays, = Feed(4).plain([Item(np.asarray(Image.new("RGB", (9, 9), c)), 0) for c in colours])
    assert torch.equal(files, arrays) and len(files.unique(dim=0)) == 5


def published_box(width, height, rng):
    """torchvision's RandomResizedCrop with the benchmarks' numbers, from left and top, width and height."""
    for _ in range(10):
        area = rng.uniform(0.08, 1.0) * width * height
        ratio = math.exp(rng.uniform(math.log(0.75), math.log(4 / 3)))
        w, h = int(round((area * ratio) ** 0.5)), int(round((area / ratio) ** 0.5))
        if w in range(1, width + 1) and h in range(1, height + 1):
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return (left, top, left + w, top + h), "drawn"
    if width / height < 0.75:
        w, h = width, int(round(width / 0.75))
    elif width / height > 4 / 3:
        w, h = int(round(height * 4 / 3)), height
    else:
        w, h = width, height
    left, top = (width - w) // 2, (height - h) // 2
    return (left, top, left + w, top + h), "fallback"


def test_boxes_are_torchvisions():
    """In images so small that many boxes have the whole width or height, and so narrow that many never fit."""
    whole_width = whole_height = never = 0
    for width, height in ((8, 8), (9, 7), (7, 9), (40, 30), (30, 40), (5, 4), (3, 2), (1, 1), (31, 4), (4, 31)):
        for seed in range(200):
            expected, how = published_box(width, height, random.Random(seed))
            assert random_box(width, height, random.Random(seed)) == expected
            left, top, right, bottom = expected
            never += how == "fallback"
            whole_width += how == "drawn" and right - left == width and bottom - top < height
            whole_height += how == "drawn" and right - left < width and bottom - top == height
    assert min(whole_width, whole_height, never) > 50


def test_augment_is_crop_resize_and_a_flip_half_of_the_time():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    flips = 0
    for seed in range(40):
        rng = random.Random(seed)
        box, _ = published_box(70, 50, rng)
        expected = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BICUBIC))
        if rng.random() < 0.5:
            expected = expected[:, ::-1]
            flips += 1
        assert np.array_equal(augment(image, 16, random.Random(seed)), expected)
    assert 10 < flips < 30
