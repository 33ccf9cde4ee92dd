"""Eleven ways in which a class can be pictured, from a plain photo to a film negative."""
import numpy as np

from data.miniature.canvas import GRID, SIZE, Canvas, F, clouds
from data.miniature.drawings import DRAWINGS

STYLES = ("photo", "sketch", "dark", "noisy", "blurry", "negative", "small", "painting", "gray", "cluttered", "cropped")


def render(domain: str, name: str, style: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """n different images of a class in a style: uint8 [n, 32, 32, 3], determined by `rng` alone."""
    draw, options = DRAWINGS[domain][name]
    canvas = Canvas(rng, n, **options)
    draw(canvas)
    rgb, alpha = canvas.rgb, canvas.alpha
    if style == "small":
        rgb, alpha = zoom(rgb, alpha, rng.uniform(0.4, 0.55, n), rng)
    elif style == "cropped":
        rgb, alpha = zoom(rgb, alpha, rng.uniform(1.5, 1.9, n), rng)
    x = over(rgb, alpha, background(style, n, rng))
    x = develop(x, style, rng)
    x = x + noise(rng, n, 0.03)  # a camera's
    return np.ascontiguousarray((np.clip(x, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1))


def noise(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    """[n, 3, 32, 32]"""
    return rng.normal(0, spread, (n, SIZE, SIZE, 3)).transpose(0, 3, 1, 2).astype(F, order="C")


def over(rgb: np.ndarray, alpha: np.ndarray, behind: np.ndarray) -> np.ndarray:
    return behind * (1 - alpha[:, None]) + rgb * alpha[:, None]


def background(style: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """White paper for a sketch, else a soft gradient between two similar colours; with balls if cluttered."""
    if style == "sketch":
        return np.ones((n, 3, SIZE, SIZE), F)
    one = rng.uniform(0.25, 0.85, (n, 1, 1, 1)).astype(F) + rng.normal(0, 0.1, (n, 3, 1, 1)).astype(F)
    other = one + rng.normal(0, 0.15, (n, 3, 1, 1)).astype(F)
    mix = clouds(rng, n, 3)[:, None]
    behind = one * (1 - mix) + other * mix
    if style == "cluttered":
        balls = Canvas(rng, n, scale=(0.9, 1.15), rotation=0.04, shift=0.08)
        for _ in range(7):
            x, y, radius = rng.uniform(-1, 1, n), rng.uniform(-1, 1, n), rng.uniform(0.1, 0.3, n)
            balls.circle(x, y, radius, rng.random((n, 3)).astype(F))
        behind = over(balls.rgb, balls.alpha, behind)
    return behind


def develop(x: np.ndarray, style: str, rng: np.random.Generator) -> np.ndarray:
    """Apply a style to the finished picture x [n, 3, 32, 32]."""
    n = len(x)
    if style == "sketch":
        return outlines(x, rng)
    if style == "dark":
        return x * rng.uniform(0.12, 0.3, (n, 1, 1, 1)).astype(F)
    if style == "noisy":
        return x + noise(rng, n, 0.3)
    if style == "blurry":
        for _ in range(5):
            x = blur(x)
        return x
    if style == "negative":
        return 1 - x
    if style == "painting":  # flat areas of few colours, and not the natural ones
        return np.round(np.clip(blur(x)[:, [2, 0, 1]], 0, 1) * 3) / 3
    if style == "gray":
        return np.repeat(x.mean(1, keepdims=True), 3, 1)
    return x


def outlines(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    light = x.mean(1) + 0.35 * x[:, 0] - 0.3 * x[:, 2]  # sees edges between equally bright colours too
    edges = np.zeros_like(light)
    edges[:, 1:] += np.abs(np.diff(light, axis=1))
    edges[:, :, 1:] += np.abs(np.diff(light, axis=2))
    ink = np.clip(edges * 2.2, 0, 1) * rng.uniform(0.7, 1, (len(x), 1, 1)).astype(F)
    return np.repeat((1 - ink)[:, None], 3, 1)


def blur(x: np.ndarray) -> np.ndarray:
    """Mean over 3x3 pixels."""
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    p = (p[:, :, :-2] + p[:, :, 1:-1] + p[:, :, 2:]) / 3
    return (p[..., :-2] + p[..., 1:-1] + p[..., 2:]) / 3


def zoom(rgb: np.ndarray, alpha: np.ndarray, factor: np.ndarray,
         rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The drawing `factor` times as large, moved a little; nothing beyond its old edges."""
    n, factor = len(rgb), factor.astype(F)[:, None]
    move = rng.uniform(-1, 1, (2, n, 1)).astype(F) * np.abs(1 - 1 / factor) * 0.5
    rows, columns = (np.round((GRID / factor + m + 1) / 2 * SIZE - 0.5).astype(int) for m in move)
    inside_rows = (rows >= 0) & (rows < SIZE)
    inside_columns = (columns >= 0) & (columns < SIZE)
    image = np.arange(n)[:, None, None]
    row = rows.clip(0, SIZE - 1)[:, :, None]
    column = columns.clip(0, SIZE - 1)[:, None, :]
    colour = np.arange(3)[:, None, None]
    rgb = rgb[image[:, None], colour, row[:, None], column[:, None]]
    return rgb, alpha[image, row, column] * (inside_rows[:, :, None] & inside_columns[:, None, :])
