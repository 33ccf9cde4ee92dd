"""Axes have round numbers that cover what is drawn; what none can span is left out."""
import json
import math
import re

import numpy as np
import pytest

from mp.experiment import shelf
from mp.report import charts, page
from mp.report.table2 import SHOWN
from tests.report.tables import LOG, make_table


def test_ticks_are_round_numbers_that_cover_the_range():
    draw = np.random.default_rng(0)
    cases = [(0.0, 0.0), (3.0, 3.0), (-2.5, -2.5), (-1e29, 1e29), (1e29, 1e29), (0.0, 5e-324), (0.1, 0.3), (2.0, 2.0 + 1e-15)]
    for _ in range(1000):
        low = float(draw.choice([-1, 0, 1]) * 10.0 ** draw.uniform(-12, 29))
        cases.append((low, low + float(draw.choice([0, 1]) * 10.0 ** draw.uniform(-12, 29))))
    for low, high in cases:
        ticks = charts.ticks(low, high)
        step = ticks[1] - ticks[0]
        slack = 1e-6 * step
        assert 3 <= len(ticks) <= 8 and np.allclose(np.diff(ticks), step, rtol=1e-6)
        assert ticks[0] <= low + slack and high - slack <= ticks[-1]
        assert ticks[1] > low - step / 10 or high - low < 1e-6 or high - low < 0.02 * max(abs(low), abs(high))  # none to spare
        mantissa = float(f"{step:.6e}".split("e")[0])
        assert mantissa in (1, 2, 5)
        labels = [f"{tick:g}" for tick in ticks]
        assert len(set(labels)) == len(labels) and "-0" not in labels
        assert all(abs(float(label) - tick) <= slack for label, tick in zip(labels, ticks)), (low, high)


@pytest.mark.parametrize("epochs, labels", [(1, [0, 1]), (3, [0, 1, 2, 3]), (33, [0, 10, 20, 30, 40])])
def test_epochs_are_whole(epochs, labels):
    assert charts.ticks(0, epochs, least=1) == labels


def test_a_curve_lies_on_its_axes():
    """A value that a tick names is at the height of its label; all of a line is within the grid; one epoch is a dot."""
    log = [dict(query_loss=value) for value in (2.0, 1.0, 0.5, 1.5)]
    drawing = charts.plot("CoOp", "query loss", "", [log, log[:1]], {"query_loss": "a"})
    labels = {(x, label): float(y) for x, y, label in re.findall(r'<text class="soft" x="(.*?)" y="(.*?)" .*?>(.*?)</text>', drawing)}
    heights = {label: y - 4 for (x, label), y in labels.items() if x == str(charts.LEFT - 5)}
    whole, dot = ([tuple(map(float, corner.split(","))) for corner in points.split()] for points in re.findall(r'points="(.*?)"', drawing))
    assert [y for _, y in whole[:4]] == [heights[label] for label in ("2", "1", "0.5", "1.5")]
    assert [f"{x:.1f}" for x, _ in whole[:4]] == [x for x, label in list(labels)[1:5]] and dot == whole[:1] * 2
    assert "epoch" in drawing and "query loss" in drawing
    assert all(charts.LEFT <= x <= charts.RIGHT and charts.TOP <= y <= charts.BOTTOM for x, y in whole)


@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e308, [1], None])
def test_a_log_with_what_no_axis_can_span_is_read_as_none(value, tmp_path):
    lines = [*LOG, LOG[0] | {"grad_norm": value}]
    for number, log in enumerate((LOG, lines)):
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
        assert shelf.read_log(tmp_path, len(log)) == (LOG if number == 0 else [])


def test_a_curve_is_drawn_for_every_seed_and_none_without_a_log():
    """Settings are told all the same."""
    text = page.html(make_table(lambda *_: 50.0, logs={"coop": [LOG, LOG, []], "cocoop": [[]]}))
    assert text.count("<polyline") == 2 * 3 and text.count("meta-training: method") == len(SHOWN)
    assert "<polyline" not in page.html(make_table(lambda *_: 50.0))
