"""Scenes, surface textures and views from a satellite: pictures without a background."""
import numpy as np

from data.miniature.canvas import SIZE, F, clouds


def scene(sky, ground, horizon=0.1, details=lambda c: None):
    def draw(c):
        details(c.fill(sky).paint(horizon - c.v, ground))

    return draw


def forest(c):
    for x in (-0.85, -0.3, 0.25, 0.8):
        c.rect(x - 0.05, 0, x + 0.05, 0.5, "brown").triangle((x - 0.3, 0.25), (x + 0.3, 0.25), (x, -0.8), "pine")


def city(c):
    for i, (x, top) in enumerate(((-1, -0.2), (-0.6, -0.7), (-0.15, -0.1), (0.25, -0.85), (0.65, -0.3))):
        c.rect(x, top, x + 0.35, 0.6, (0.35 + 0.1 * (i % 2), 0.35, 0.42))


def furrows(c):
    for x in (-1.5, -0.7, 0, 0.7, 1.5):
        c.line(0, 0.1, x, 1.2, 0.03, "brown")


def stars_and_moon(c):
    for x, y in ((-0.7, -0.7), (-0.2, -0.4), (0.3, -0.8), (0.75, -0.3), (-0.6, -0.1)):
        c.circle(x, y, 0.05, "white")
    c.circle(0.5, -0.5, 0.17, "cream")


SCENES = {name: (scene(*parts), dict(scale=(0.9, 1.15), rotation=0.04, shift=0.08)) for name, parts in {
    "beach": ("sky", "sand", 0.1, lambda c: c.rect(-3, -0.15, 3, 0.3, "blue").circle(0.6, -0.6, 0.18, "yellow")),
    "forest": ("sky", "green", 0.1, forest),
    "mountain": ("sky", "green", 0.3, lambda c: c.triangle((-1.1, 0.3), (0.4, 0.3), (-0.35, -0.8), "gray")
                 .triangle((-0.1, 0.3), (1.2, 0.3), (0.55, -0.5), "gray")
                 .triangle((-0.55, -0.5), (-0.15, -0.5), (-0.35, -0.8), "white")),
    "desert": ("sky", "sand", 0.1, lambda c: c.ellipse(-0.6, 0.5, 0.9, 0.35, "orange")
               .rect(0.4, -0.3, 0.5, 0.4, "green").rect(0.25, -0.1, 0.65, -0.02, "green")),
    "city": ("sky", "gray", 0.6, city),
    "field": ("sky", "yellow", 0.1, furrows),
    "river": ("sky", "green", 0.1, lambda c: c.triangle((0, 0.05), (-0.7, 1.3), (0.7, 1.3), "blue")),
    "highway": ("sky", "green", 0.1, lambda c: c.triangle((0, 0.05), (-0.8, 1.3), (0.8, 1.3), "dark")
                .line(0, 0.3, 0, 1.2, 0.04, "white")),
    "lake": ("sky", "blue", 0.1, lambda c: c.triangle((-1.2, 0.1), (-0.1, 0.1), (-0.6, -0.35), "green")
             .triangle((0, 0.1), (1.2, 0.1), (0.6, -0.35), "green")),
    "sunset": ("orange", "purple", 0.1, lambda c: c.dome(0, 0.1, 0.45, 0.1, "yellow")),
    "bedroom": ("cream", "brown", 0.4, lambda c: c.rect(-0.8, 0.2, 0.5, 0.6, "blue")
                .rect(-0.8, 0.05, -0.4, 0.25, "white").rect(0.3, -0.8, 0.8, -0.25, "sky")),
    "night sky": ("night", "black", 0.5, stars_and_moon),
}.items()}


def texture(pattern):
    """Two contrasting random colours mixed by pattern(u, v, canvas), clipped to [0, 1]."""

    def draw(c):
        one = c.rng.uniform(0.1, 0.9, (c.n, 3)).astype(F)
        other = np.clip(one + np.where(one > 0.5, -1, 1) * c.rng.uniform(0.4, 0.6, (c.n, 3)).astype(F), 0, 1)
        zoom = c.rng.uniform(0.85, 1.15, (c.n, 1, 1)).astype(F)
        mix = np.clip(pattern(c.u * zoom, c.v * zoom, c), 0, 1)[:, None]
        c.rgb[:] = one[..., None, None] * (1 - mix) + other[..., None, None] * mix
        c.alpha[:] = 1

    return draw


def wave(x):
    return 0.5 + 3 * np.sin(x)


def cell(x):
    """Position in [-1/2, 1/2] inside a repeated unit."""
    return x % 1 - 0.5


PATTERNS = [  # name, rotation, and how much of the second colour there is at u, v of the canvas c: [n, 32, 32]
    ("striped", 0.5, lambda u, v, c: wave(u * 11)),
    ("dotted", 0.5, lambda u, v, c: 3 * (0.3 - np.hypot(cell(u * 2.2), cell(v * 2.2))) + 0.5),
    ("checkered", 0.15, lambda u, v, c: 0.5 + 4 * np.sin(u * 7) * np.sin(v * 7)),
    ("zigzagged", 0.15, lambda u, v, c: wave(v * 10 + 3 * np.abs((u * 2) % 2 - 1))),
    ("gridded", 0.15, lambda u, v, c: np.maximum(3 * (np.cos(u * 9) - 0.6), 3 * (np.cos(v * 9) - 0.6))),
    ("swirly", 0.5, lambda u, v, c: wave(np.hypot(u, v) * 9 + 2 * np.arctan2(v, u))),
    ("ringed", 0.5, lambda u, v, c: wave(np.hypot(u, v) * 13)),
    ("marbled", 0.5, lambda u, v, c: wave(12 * clouds(c.rng, c.n, 4) + u * 3)),
    ("speckled", 0.5, lambda u, v, c: (c.rng.random((c.n, SIZE, SIZE)) < 0.18).astype(F)),
    ("bubbly", 0.5, lambda u, v, c: 1 - 10 * np.abs(np.hypot(cell(u * 1.8), cell(v * 1.8)) - 0.33)),
    ("wavy", 0.2, lambda u, v, c: wave(v * 10 + 2 * np.sin(u * 5))),
    ("blotchy", 0.5, lambda u, v, c: 4 * (clouds(c.rng, c.n, 6) - 0.5) + 0.5),
]
TEXTURES = {name: (texture(pattern), dict(scale=(0.85, 1.15), rotation=rotation, shift=0.5))
            for name, rotation, pattern in PATTERNS}


def from_above(ground, details=lambda c: None, relief=0.12):
    def draw(c):
        c.fill(ground)
        c.rgb += ((clouds(c.rng, c.n, 9) - 0.5) * 2 * relief)[:, None]
        details(c)

    return draw


def houses(c):
    for x in (-0.9, -0.3, 0.3, 0.9):
        for y in (-0.9, -0.3, 0.3, 0.9):
            c.rect(x - 0.13, y - 0.13, x + 0.13, y + 0.13, "red")


SATELLITE = {name: (from_above(*parts), dict(scale=(0.9, 1.2), rotation=1.2, shift=0.2)) for name, parts in {
    "forest": ((0.08, 0.33, 0.12), lambda c: None, 0.2),
    "river": ((0.35, 0.5, 0.25), lambda c: c.paint(np.abs(c.v + 0.3 * np.sin(c.u * 3)) - 0.2, "blue")),
    "highway": ((0.4, 0.5, 0.3), lambda c: c.rect(-5, -0.16, 5, 0.16, "gray").rect(-5, -0.03, 5, 0.03, "white")),
    "lake": ((0.3, 0.5, 0.25), lambda c: c.star(0, 0, 0.7, 3, 0.12, (0.1, 0.2, 0.5))),
    "field": ((0.7, 0.62, 0.3), lambda c: c.rect(-0.1, -5, 5, 0.1, (0.5, 0.6, 0.25))
              .rect(-5, 0.15, -0.15, 5, (0.55, 0.42, 0.2))),
    "residential area": ((0.45, 0.55, 0.4), houses),
    "industrial area": ((0.5, 0.5, 0.5), lambda c: c.rect(-0.9, -0.8, -0.1, 0.1, "white")
                        .rect(0.15, -0.5, 0.9, 0.8, (0.75, 0.75, 0.8)).rect(-0.8, 0.4, -0.2, 0.8, "dark")),
    "pasture": ((0.45, 0.7, 0.3), lambda c: None, 0.04),
}.items()}
