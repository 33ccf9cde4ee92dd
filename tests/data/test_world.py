"""The miniature world: what is drawn, and how styles change it; drawings are kept, and never trusted."""
import itertools
from pathlib import Path

import numpy as np
import pytest

from data.miniature import styles, suite
from data.miniature.canvas import Canvas
from data.miniature.drawings import DRAWINGS
from data.miniature.styles import STYLES, render

# Of two test images a class; and of the first class in every style.
CHECKSUMS = {
    "objects": (6085717339, 5292721679),
    "satellite": (2612921132, 2801200224),
    "aircraft": (3225887536, 5079486123),
    "flowers": (5181894987, 3628733956),
    "pets": (4192124914, 4195134761),
    "actions": (5275888881, 4732823684),
    "textures": (4671315526, 4352801768),
    "food": (5092916356, 4266223523),
    "general": (8416082521, 4837212388),
    "cars": (3709631842, 4874500034),
    "scenes": (4763964747, 5106791691),
}


def checksum(drawings):
    """Return a number that depends on every pixel and its place."""
    return int(drawings.reshape(-1) @ (np.arange(drawings.size) % 1009))


@pytest.mark.parametrize("name", CHECKSUMS)
def test_drawings_are_what_they_were(name):
    """Up to a few roundings, in which processors differ: of the stream of tests, and of one class in all styles."""
    assert checksum(suite.draw(name, 2, "test")) == pytest.approx(CHECKSUMS[name][0], rel=1e-6)
    rng = np.random.default_rng(0)
    drawings = np.stack([render(name, next(iter(DRAWINGS[name])), style, 2, rng) for style in STYLES])
    assert checksum(drawings) == pytest.approx(CHECKSUMS[name][1], rel=1e-6)


def test_streams_differ():
    drawings = [suite.draw("satellite", 1, stream).tobytes() for stream in suite.STREAMS]
    assert len(set(drawings)) == 4


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_drawings_are_kept(cache, monkeypatch):
    """By dataset, stream and the code that draws."""
    drawn = suite.draw("satellite", 2, "train")
    assert np.array_equal(suite.recall("satellite", 2, "train"), drawn) and len(list(cache.iterdir())) == 1
    for name, stream in (("satellite", "test"), ("pets", "train")):
        assert np.array_equal(suite.recall(name, 2, stream), suite.draw(name, 2, stream))
    monkeypatch.setattr(suite, "draw", lambda *_: np.zeros(5))
    assert np.array_equal(suite.recall("satellite", 2, "train"), drawn)
    monkeypatch.setattr(suite, "sources", lambda: "of other code")
    assert not suite.recall("satellite", 2, "train").any() and len(list(cache.iterdir())) == 4


def test_drawings_that_are_damaged_or_cannot_be_kept_are_drawn(cache, monkeypatch):
    drawn = suite.recall("satellite", 2, "train")
    file, = cache.iterdir()
    content = file.read_bytes()
    for damaged in (b"", content[:5000], content[:-100], content[:9000] + bytes([content[9000] ^ 1]) + content[9001:]):
        file.write_bytes(damaged)
        assert np.array_equal(suite.recall("satellite", 2, "train"), drawn)
        assert file.read_bytes() == content
    for place in ("/proc/none/cache", "/dev/null/cache"):
        monkeypatch.setattr(suite, "CACHE", Path(place))
        assert np.array_equal(suite.recall("satellite", 2, "train"), drawn)


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
