"""The miniature world: every class in every style, determined by the seed."""
import itertools

import numpy as np
import pytest

from data.miniature import styles
from data.miniature.canvas import Canvas
from data.miniature.drawings import DRAWINGS
from data.miniature.styles import STYLES, render

CLASSES = [(domain, name) for domain, drawings in DRAWINGS.items() for name in drawings]


def images(domain, name, style, n=24, seed=0):
    return render(domain, name, style, n, np.random.default_rng(seed)).astype(float)


def test_eleven_datasets_of_132_classes():
    assert {d: len(c) for d, c in DRAWINGS.items()} == dict(general=20, objects=12, food=12, pets=12, flowers=12, cars=12,
                                                           aircraft=8, scenes=12, textures=12, satellite=8, actions=12)


@pytest.mark.parametrize("style", STYLES)
def test_every_class_is_determined_by_the_seed(style):
    for domain, name in CLASSES:
        a, b, c = (render(domain, name, style, 2, np.random.default_rng(seed)) for seed in (0, 0, 1))
        assert a.shape == (2, 32, 32, 3) and a.dtype == np.uint8
        assert np.array_equal(a, b) and not np.array_equal(a, c) and not np.array_equal(a[0], a[1])
    assert render(*CLASSES[0], style, 0, np.random.default_rng(0)).shape == (0, 32, 32, 3)


def test_styles_do_what_they_say():
    for domain, name in CLASSES[::7]:
        photo, gray, dark, negative, noisy, blurry = (
            images(domain, name, s) for s in ("photo", "gray", "dark", "negative", "noisy", "blurry"))
        assert dark.mean() < 0.5 * photo.mean()
        assert np.abs(gray[..., 0] - gray[..., 2]).mean() < 14  # the camera's noise alone
        assert abs(photo.mean() + negative.mean() - 255) < 6
        rough = [np.abs(np.diff(x, axis=1)).mean() for x in (blurry, photo, noisy)]
        assert rough[0] < rough[1] < rough[2]


def test_classes_of_a_dataset_look_different():
    """A nearest-mean classifier on photos; by chance it would be right in 5 to 12% of cases."""
    for domain, drawings in DRAWINGS.items():
        if domain == "textures":
            continue  # their colours and places are random: means are the same, patterns are not
        means = np.stack([images(domain, name, "photo", 200, 1).mean(0) for name in drawings])
        right = []
        for label, name in enumerate(drawings):
            distance = ((images(domain, name, "photo", 40, 2)[:, None] - means) ** 2).sum((2, 3, 4))
            right += list(distance.argmin(1) == label)
        assert np.mean(right) > 0.3, (domain, np.mean(right))


def mean_of_neighbours(picture, row, column):
    """Over 3x3 pixels of a plane; beyond an edge, the edge again."""
    size = len(picture)
    return np.mean([picture[min(max(row + i, 0), size - 1), min(max(column + j, 0), size - 1)]
                    for i in (-1, 0, 1) for j in (-1, 0, 1)])


@pytest.mark.parametrize("style", ["photo", "negative", "gray", "blurry", "painting", "dark", "noisy", "sketch"])
def test_styles_pixel_by_pixel(style):
    """`develop` against a formula for one pixel, in float64, with the same draws."""
    x = np.random.default_rng(3).random((2, 3, 32, 32)).astype(np.float32)
    found, rng = styles.develop(x.copy(), style, np.random.default_rng(4)), np.random.default_rng(4)
    factor = noise = None
    if style == "dark":
        factor = rng.uniform(0.12, 0.3, (2, 1, 1, 1)).ravel()
    elif style == "sketch":
        factor = rng.uniform(0.7, 1, (2, 1, 1)).ravel()
    elif style == "noisy":
        noise = rng.normal(0, 0.3, (2, 32, 32, 3))  # the draws' order is the files': colours last
    planes = x.astype(np.float64)
    for _ in range({"blurry": 5, "painting": 1}.get(style, 0)):
        planes = np.array([[[[mean_of_neighbours(p, r, c) for c in range(32)] for r in range(32)] for p in one]
                           for one in planes])
    expected = np.empty_like(planes)
    light = planes.mean(1) + 0.35 * planes[:, 0] - 0.3 * planes[:, 2]
    for n, row, column in itertools.product(range(2), range(32), range(32)):
        red, green, blue = pixel = planes[n, :, row, column]
        edge = sum(abs(light[n, row, column] - light[n, row - i, column - j])
                   for i, j in ((1, 0), (0, 1)) if row >= i and column >= j)
        expected[n, :, row, column] = {
            "photo": lambda: pixel, "negative": lambda: 1 - pixel, "gray": lambda: [pixel.mean()] * 3, "blurry": lambda: pixel,
            "painting": lambda: np.round(np.clip([blue, red, green], 0, 1) * 3) / 3, "dark": lambda: pixel * factor[n],
            "noisy": lambda: pixel + noise[n, row, column],
            "sketch": lambda: [1 - min(edge * 2.2, 1) * factor[n]] * 3}[style]()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_painting_and_putting_in_front_pixel_by_pixel():
    """A canvas against the formulas for one pixel: a shape covers what it is in front of, with a soft edge."""
    canvas = Canvas(np.random.default_rng(5), 2)
    distance = np.random.default_rng(6).normal(0, 0.1, (2, 32, 32)).astype(np.float32)
    colours = np.random.default_rng(7).random((2, 2, 3)).astype(np.float32)
    canvas.fill(colours[0])
    ground = canvas.rgb[:, :, 0, 0].copy()
    canvas.alpha[:] = 0
    canvas.paint(distance, colours[1])
    behind = np.random.default_rng(8).random((2, 3, 32, 32)).astype(np.float32)
    found = styles.over(canvas.rgb, canvas.alpha, behind)
    for n, row, column in itertools.product(range(2), range(32), range(32)):
        cover = min(max(0.5 - float(distance[n, row, column]) / float(canvas.pixel[n, 0, 0]), 0), 1)
        for colour in range(3):
            painted = ground[n, colour] + (float(colours[1, n, colour]) - ground[n, colour]) * cover
            assert abs(canvas.rgb[n, colour, row, column] - painted) < 1e-5
            assert abs(found[n, colour, row, column] - behind[n, colour, row, column] * (1 - cover) - painted * cover) < 1e-5
