"""A claim's table: means of paired differences, with 95% intervals of Student's t over seeds; and what they show."""
import math
from collections.abc import Callable
from statistics import fmean, stdev
from typing import NamedTuple

from mp.experiment.arms import Arm, BySeed
from mp.report.accuracies import numbers, with_averages
from mp.report.claims import Comparison
from mp.report.text import line_up, spread
from mp.settings import PARTS

GROUPS = (("training datasets", "Average (train)"), ("held-out datasets", "Average (test)"))
EXPLAINED = """± is half of the 95% interval of Student's t over the seeds, of differences paired by seed and dataset.
Each row is judged by itself: of 20 where nothing differs one is shown, on average. 24 α: 24 times the usual inner
learning rate; γ: where ‖G‖, the meta-gradient's norm, is clipped."""
COVERED = 0.95
EQUAL = 1e-9  # points, which rounding makes of equal differences


class Interval(NamedTuple):
    """A mean over `count` seeds, and half the width of its interval. None: one seed has none, nor have equal values:
    accuracies go in steps of one image, so a few agree by chance, and say nothing of how far others would lie."""
    mean: float
    half: float | None
    count: int

    def text(self) -> str:
        half = "" if self.half is None else f"±{self.half:.1f}"
        return spread([self.mean], sign=True) + half

    def ends(self) -> str:
        if self.half is None:
            return f"{self.mean:+.1f}"
        return f"{self.mean - self.half:+.1f} to {self.mean + self.half:+.1f}"

    def verdict(self) -> str:
        """Return what the interval shows: a difference, where it leaves zero out."""
        if self.count == 1:
            return "one seed, so nothing is shown"
        if self.half is None:
            return "the same for every seed, so without an interval"
        if abs(self.mean) <= self.half:
            return "not shown"
        return "better" if self.mean > 0 else "worse"


Row = tuple[str, dict[tuple[str, str], Interval | None]]  # a comparison's title, and intervals by average and part


def best_wording(accuracies: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the wording with the highest mean over the datasets, all classes; of equals the first."""
    means = {}
    for wording, datasets in accuracies.items():
        means[wording] = fmean(parts["all"] for parts in datasets.values())
    return max(means, key=means.get)


def compare(comparisons: list[Comparison], by_seed: Callable[[Arm], BySeed], roles: dict[str, str]) -> list[Row]:
    """Return differences of the means over datasets, paired by seed; words, which have none, stand against each.
    `by_seed`: gives an arm's accuracies."""
    rows = []
    for title, *arms in comparisons:
        ours, theirs = (with_averages(by_seed(arm), roles) for arm in arms)
        cells = {}
        for _, average in GROUPS:
            for part in PARTS:
                cells[average, part] = interval(numbers(ours, average, part, theirs))
        rows.append((title, cells))
    return rows


def table(rows: list[Row], notes: dict[str, str]) -> str:
    """Return lines of text; `notes`: beside a row, by its title."""
    lines = [["points", "seeds", *(PARTS * len(GROUPS)), ""]]
    for title, cells in rows:
        count = max((cell.count for cell in cells.values() if cell), default=0)
        texts = [cell.text() if cell else "-" for cell in cells.values()]
        lines.append([title, str(count), *texts, notes.get(title, "")])
    groups = [("", 1), *((title, len(PARTS)) for title, _ in GROUPS), ("", 1)]
    return line_up(lines, groups=groups)


def sentence(rows: list[Row], parts: tuple[str, ...] = ("all",)) -> str:
    """Return what the intervals show, and what not, on held-out datasets (training ones, where none is held out)."""
    training, held_out = GROUPS
    has_held_out = any(cells[held_out[1], "all"] for _, cells in rows)
    group, average = held_out if has_held_out else training
    clauses = []
    for part in parts:
        titles: dict[str, list[str]] = {}  # by the verdict on them
        for title, cells in rows:
            if cell := cells[average, part]:
                titles.setdefault(cell.verdict(), []).append(f"{title} ({cell.ends()})")
        clauses += [f"{part} classes, {verdict}: {'; '.join(named)}" for verdict, named in titles.items()]
    return f"On {group}: {'. '.join(clauses)}."


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
