"""The miniature world: every class in every style, determined by the seed."""
import numpy as np
import pytest

from data.drawings import DRAWINGS
from data.styles import STYLES, render

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
