"""Test views pixel for pixel, files of every mode, and the distribution of training views."""
import hashlib
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset import Item
from data.errors import DataError
from data.feed import Feed
from data.images import augment, crop_centre, open_image, random_box
from mp.clip.pixels import MEAN, STD, normalise
from tests.conftest import GOLDEN


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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb_before_it_is_resized(mode, tmp_path):
    rng = np.random.default_rng(0)
    size = (41, 29)
    bands = {"1": 1, "L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 2}[mode]
    pixels = rng.integers(0, 256, 41 * 29 * bands, dtype=np.uint8).tobytes()
    image = Image.frombytes("L", size, pixels).convert("1") if mode == "1" else Image.frombytes(mode, size, pixels)
    if mode == "P":
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I;16") else "image.png")
    image.save(path)
    with Image.open(path) as reopened:
        expected = preprocess(reopened.convert("RGB"), 16)
    assert torch.equal(preprocess(open_image(path), 16), expected)


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


def test_random_boxes_have_torchvisions_distribution():
    rng, n, side = random.Random(0), 20_000, 1000
    boxes = np.array([random_box(side, side, rng) for _ in range(n)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= side
    # Area uniform in [0.08, 1] and log-ratio uniform, given that the box fits a square: area <= min(r, 1/r).
    gen = np.random.default_rng(1)
    area, log_ratio = gen.uniform(0.08, 1, 400_000), gen.uniform(-math.log(4 / 3), math.log(4 / 3), 400_000)
    fits = area <= np.exp(-np.abs(log_ratio))
    for mine, reference in ((w * h / side**2, area[fits]), (np.log(w / h), log_ratio[fits])):
        quantiles = np.linspace(0.02, 0.98, 25)
        difference = np.quantile(mine, quantiles) - np.quantile(reference, quantiles)
        assert np.abs(difference).max() < 0.02
    where = boxes[:, 0] / np.maximum(1, side - w)  # uniform over the places that fit
    loose = side - w > 100
    assert np.abs(np.quantile(where[loose], quantiles) - quantiles).max() < 0.02


@pytest.mark.parametrize("width, height, box", [(1000, 10, (493, 0, 506, 10)), (10, 1000, (0, 493, 10, 506))])
def test_boxes_of_narrow_images_are_central(width, height, box):
    rng = random.Random(0)
    assert box in {random_box(width, height, rng) for _ in range(200)}


def test_augment_is_crop_resize_flip_normalise():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    flips = 0
    for seed in range(400):
        view = normalise(torch.from_numpy(np.array(augment(image, 16, random.Random(seed)))))
        box = random_box(70, 50, random.Random(seed))
        plain = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BICUBIC), np.float64) / 255
        plain = torch.from_numpy((plain - np.array(MEAN)) / np.array(STD)).permute(2, 0, 1)
        straight, flipped = ((view - p).abs().max() < 1e-5 for p in (plain, plain.flip(2)))
        assert straight or flipped
        flips += bool(flipped)
    assert 160 < flips < 240
