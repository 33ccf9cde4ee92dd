"""The miniature world: its drawings are what they were; they are kept, and never trusted."""
from pathlib import Path

import numpy as np
import pytest

from data.miniature import suite
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
