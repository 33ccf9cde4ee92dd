"""Means of paired differences, with 95% intervals of Student's t over the seeds."""
import math
from statistics import fmean, stdev
from typing import NamedTuple

COVERED = 0.95
EQUAL = 1e-9  # points, which rounding makes of equal differences


class Interval(NamedTuple):
    """A mean of `count` seeds, and half the width of its interval. None: one seed has none, nor have equal values:
    accuracies go in steps of one image, so a few agree by chance, and say nothing of how far others would lie."""
    mean: float
    half: float | None
    count: int

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.half is not None and abs(self.mean) > self.half

    def text(self) -> str:
        half = "" if self.half is None else f"±{self.half:.1f}"
        return f"{round(self.mean, 1) + 0.0:+.1f}{half}"


def interval(differences: list[float]) -> Interval | None:
    """Return the interval of one difference per seed; None without any."""
    count = len(differences)
    if not count:
        return None
    half = None
    if max(differences) - min(differences) > EQUAL:
        half = t_quantile(count - 1) * stdev(differences) / math.sqrt(count)
    return Interval(fmean(differences), half, count)


def t_quantile(degrees: int) -> float:
    """Return the t that a variable with so many degrees of freedom stays below, in size, with probability 0.95."""
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        if probability_within(middle, degrees) < COVERED:
            low = middle
        else:
            high = middle
    return low


def probability_within(t: float, degrees: int) -> float:
    """Return P(|T| < t), by the finite sums for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(1 + odd, degrees, 2):  # 2, 4, … or 1, 3, …
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + math.sin(angle) * total)
