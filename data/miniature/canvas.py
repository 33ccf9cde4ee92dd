"""A canvas for n images at once, painted with signed distances.

Coordinates: u to the right, v downwards; a subject fills about [-1, 1]². Every image has its own
scale, rotation, shift and mirroring, drawn from `rng`, and every use of a colour its own shade. A
shape is an array of distances [n, 32, 32], negative inside; painting softens its edge over a pixel.
"""
import numpy as np

SIZE = 32
F = np.float32
GRID = (np.arange(SIZE, dtype=F) + 0.5) / SIZE * 2 - 1

COLOURS = dict(
    red=(0.85, 0.15, 0.12), green=(0.15, 0.6, 0.2), blue=(0.15, 0.3, 0.85), yellow=(0.95, 0.85, 0.2),
    white=(0.95, 0.95, 0.95), black=(0.08, 0.08, 0.08), brown=(0.5, 0.32, 0.15), orange=(0.95, 0.55, 0.1),
    purple=(0.55, 0.2, 0.7), pink=(0.95, 0.6, 0.7), gray=(0.55, 0.55, 0.55), sky=(0.55, 0.75, 0.95),
    sand=(0.88, 0.78, 0.5), cream=(0.95, 0.88, 0.7), dark=(0.25, 0.25, 0.3), night=(0.05, 0.05, 0.2),
    pine=(0.08, 0.38, 0.12), slate=(0.4, 0.45, 0.6))
Colour = str | tuple[float, float, float] | np.ndarray  # a name, an rgb, or one rgb an image [n, 3]


class Canvas:
    """rgb [n, 3, 32, 32] in [0, 1] and alpha [n, 32, 32]: how much of each pixel the subject covers."""

    def __init__(self, rng: np.random.Generator, n: int, scale=(0.7, 0.95), rotation=0.15, shift=0.12, mirror=True):
        self.rng, self.n = rng, n
        size = rng.uniform(*scale, (n, 1, 1)).astype(F)
        angle = rng.normal(0, rotation, (n, 1, 1)).astype(F)
        dx, dy = rng.normal(0, shift, (2, n, 1, 1)).astype(F)
        x, y = (GRID[None, None, :] - dx) / size, (GRID[None, :, None] - dy) / size
        self.u = np.cos(angle) * x + np.sin(angle) * y
        self.v = -np.sin(angle) * x + np.cos(angle) * y
        if mirror:
            self.u = self.u * np.where(rng.random((n, 1, 1)) < 0.5, 1, -1).astype(F)
        self.pixel = 2 / SIZE / size  # a pixel's width in u and v
        self.rgb = np.zeros((n, 3, SIZE, SIZE), F)
        self.alpha = np.zeros((n, SIZE, SIZE), F)

    def shade(self, colour: Colour, spread: float = 0.08) -> np.ndarray:
        """A slightly different colour for every image, [n, 3]. Paint several shapes with it to match them."""
        rgb = COLOURS[colour] if isinstance(colour, str) else colour
        return np.clip(np.asarray(rgb, F) + self.rng.normal(0, spread, (self.n, 3)).astype(F), 0, 1)

    def paint(self, distance: np.ndarray, colour: Colour) -> "Canvas":
        cover = np.clip(0.5 - distance / self.pixel, 0, 1)
        rgb = colour if isinstance(colour, np.ndarray) else self.shade(colour)
        self.rgb += (rgb[:, :, None, None] - self.rgb) * cover[:, None]
        np.maximum(self.alpha, cover, out=self.alpha)
        return self

    def fill(self, colour: Colour) -> "Canvas":
        self.rgb[:] = self.shade(colour)[:, :, None, None]
        self.alpha[:] = 1
        return self

    # distances
    def disc(self, x, y, radius) -> np.ndarray:
        x, y, radius = (np.asarray(value, F).reshape(-1, 1, 1) for value in (x, y, radius))
        return np.hypot(self.u - x, self.v - y) - radius

    def oval(self, x, y, rx, ry) -> np.ndarray:
        return (np.hypot((self.u - x) / rx, (self.v - y) / ry) - 1) * min(rx, ry)

    def box(self, left, top, right, bottom) -> np.ndarray:
        return np.maximum(np.maximum(left - self.u, self.u - right), np.maximum(top - self.v, self.v - bottom))

    # shapes
    def circle(self, x, y, radius, colour: Colour) -> "Canvas":
        return self.paint(self.disc(x, y, radius), colour)

    def ring(self, x, y, radius, width, colour: Colour) -> "Canvas":
        return self.paint(np.abs(self.disc(x, y, radius)) - width, colour)

    def ellipse(self, x, y, rx, ry, colour: Colour) -> "Canvas":
        return self.paint(self.oval(x, y, rx, ry), colour)

    def rect(self, left, top, right, bottom, colour: Colour) -> "Canvas":
        return self.paint(self.box(left, top, right, bottom), colour)

    def dome(self, x, y, radius, floor, colour: Colour) -> "Canvas":
        """The part of a circle above v = floor."""
        return self.paint(np.maximum(self.disc(x, y, radius), self.v - floor), colour)

    def bowl(self, x, y, radius, rim, colour: Colour) -> "Canvas":
        """The part of a circle below v = rim."""
        return self.paint(np.maximum(self.disc(x, y, radius), rim - self.v), colour)

    def line(self, x0, y0, x1, y1, width, colour: Colour) -> "Canvas":
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((self.u - x0) * dx + (self.v - y0) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
        return self.paint(np.hypot(self.u - x0 - along * dx, self.v - y0 - along * dy) - width, colour)

    def triangle(self, a, b, c, colour: Colour) -> "Canvas":
        if (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) < 0:
            b, c = c, b  # one orientation, so that the three half-planes face inwards
        edges = []
        for p, q in ((a, b), (b, c), (c, a)):
            across = (self.u - p[0]) * (q[1] - p[1]) - (self.v - p[1]) * (q[0] - p[0])
            edges.append(across / np.hypot(q[0] - p[0], q[1] - p[1]))
        return self.paint(np.maximum.reduce(edges), colour)

    def star(self, x, y, radius, points, depth, colour: Colour, turn=0.0) -> "Canvas":
        """A rounded star; small `depth` makes a cog or a polygon, large a flower."""
        angle = np.arctan2(self.v - y, self.u - x) + turn
        edge = radius * (1 - depth + depth * np.cos(points * angle))
        return self.paint(np.hypot(self.u - x, self.v - y) - edge, colour)


def clouds(rng: np.random.Generator, n: int, cells: int) -> np.ndarray:
    """n smooth random fields [n, 32, 32] in [0, 1], bilinear between cells x cells values."""
    values = rng.random((n, cells, cells)).astype(F)
    where = np.linspace(0, cells - 1.001, SIZE).astype(F)
    i, f = where.astype(int), where - where.astype(int)
    rows = values[:, i] * (1 - f)[None, :, None] + values[:, i + 1] * f[None, :, None]
    return rows[:, :, i] * (1 - f) + rows[:, :, i + 1] * f
