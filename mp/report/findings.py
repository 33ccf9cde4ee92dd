"""A claim's table, and one sentence of what it says."""
from collections.abc import Callable
from statistics import fmean

from mp.experiment.arms import Arm, BySeed
from mp.report.accuracies import numbers, with_averages
from mp.report.claims import Comparison
from mp.report.intervals import Interval, interval
from mp.report.text import line_up
from mp.settings import PARTS

GROUPS = (("training datasets", "Average (train)"), ("held-out datasets", "Average (test)"))
EXPLAINED = """± is half of the 95% interval of Student's t over the seeds, of differences paired by seed and dataset.
Each row is judged by itself: of 20 where nothing differs one is shown, on average. 24 α: 24 times the usual inner
learning rate; γ: where ‖G‖, the meta-gradient's norm, is clipped."""
Row = tuple[Comparison, dict[tuple[str, str], Interval | None]]  # by an average and a part


def best_wording(accuracies: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the wording with the highest mean over the datasets, all classes; of equals the first; "" of none."""
    def mean(wording: str) -> float:
        return fmean(parts["all"] for parts in accuracies[wording].values())

    return max(accuracies, key=mean, default="")


def compare(rows: list[Comparison], of_arm: Callable[[Arm], BySeed], roles: dict[str, str]) -> list[Row]:
    """Return differences of the means over datasets, paired by seed; words, which have none, stand against each."""
    found = []
    for row in rows:
        ours, theirs = with_averages(of_arm(row.ours), roles), with_averages(of_arm(row.theirs), roles)
        cells = {(name, part): interval(numbers(ours, name, part, theirs)) for _, name in GROUPS for part in PARTS}
        found.append((row, cells))
    return found


def table(rows: list[Row], notes: dict[str, str]) -> str:
    """Return lines of text; `notes`: beside a row, by its title."""
    lines = [["points", "seeds", *(PARTS * len(GROUPS)), ""]]
    for row, cells in rows:
        count = max((cell.count for cell in cells.values() if cell), default=0)
        texts = [cell.text() if cell else "-" for cell in cells.values()]
        lines.append([row.title, str(count), *texts, notes.get(row.title, "")])
    groups = [("", 1), *((title, len(PARTS)) for title, _ in GROUPS), ("", 1)]
    return line_up(lines, groups=groups)


def sentence(rows: list[Row], parts: tuple[str, ...] = ("all",)) -> str:
    """Return what the intervals show, and what not, on held-out datasets (training ones, where none is held out)."""
    held_out = [cells[GROUPS[1][1], PARTS[-1]] for _, cells in rows]
    title, name = GROUPS[1] if any(held_out) else GROUPS[0]
    said = []
    for part in parts:
        verdicts: dict[str, list[str]] = {}
        for row, cells in rows:
            if cell := cells[name, part]:
                verdicts.setdefault(verdict(cell), []).append(f"{row.title} ({span(cell)})")
        said += [f"{part} classes, {found}: {'; '.join(those)}" for found, those in verdicts.items()]
    return f"On {title}: {'. '.join(said)}."


def verdict(cell: Interval) -> str:
    if cell.count == 1:
        return "one seed, so nothing is shown"
    if cell.half is None:
        return "the same for every seed, so without an interval"
    if not cell.shown:
        return "not shown"
    return "better" if cell.mean > 0 else "worse"


def span(cell: Interval) -> str:
    if cell.half is None:
        return f"{cell.mean:+.1f}"
    return f"{cell.mean - cell.half:+.1f} to {cell.mean + cell.half:+.1f}"
