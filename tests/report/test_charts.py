"""Axes have round numbers that cover what is drawn; what none can span is left out."""
import math
import re

import numpy as np
import pytest

from mp.report import charts, columns, page
from tests.report.tables import curve, make_table


def test_ticks_are_round_numbers_that_cover_the_range():
    draw = np.random.default_rng(0)
    cases = [(0.0, 0.0), (3.0, 3.0), (-2.5, -2.5), (-1e29, 1e29), (1e29, 1e29), (0.0, 5e-324), (1e-12, 1e-12), (0.1, 0.3), (2.0, 2.0 + 1e-15)]
    for _ in range(3000):
        low = float(draw.choice([-1, 0, 1]) * 10.0 ** draw.uniform(-12, 29))
        cases.append((low, low + float(draw.choice([0, 1]) * 10.0 ** draw.uniform(-12, 29))))
    for low, high in cases:
        found = charts.ticks(low, high)
        step = found[1] - found[0]
        slack = 1e-6 * step
        assert 3 <= len(found) <= 8 and np.allclose(np.diff(found), step, rtol=1e-6)
        assert found[0] <= low + slack and high - slack <= found[-1]
        assert found[1] > low - step / 10 or high - low < 1e-6 or high - low < 0.02 * max(abs(low), abs(high))  # none to spare
        mantissa = float(f"{step:.6e}".split("e")[0])
        assert mantissa in (1, 2, 5)
        labels = [f"{tick:g}" for tick in found]
        assert len(set(labels)) == len(labels) and "-0" not in labels
        assert all(abs(float(label) - tick) <= slack for label, tick in zip(labels, found)), (low, high)


@pytest.mark.parametrize("epochs, labels", [(1, [0, 1]), (3, [0, 1, 2, 3]), (33, [0, 10, 20, 30, 40]), (200, [0, 50, 100, 150, 200])])
def test_epochs_are_whole(epochs, labels):
    assert charts.ticks(0, epochs, least=1) == labels


def test_a_curve_lies_on_its_axes():
    """A value that a tick names is at the height of its label; all of a line is within the grid; one epoch is a dot."""
    log = [dict(query_loss=value) for value in (2.0, 1.0, 0.5, 1.5)]
    drawn = charts.plot("CoOp", "query loss", "", [log, log[:1]], {"query_loss": "a"})
    labels = {(x, label): float(y) for x, y, label in re.findall(r'<text class="soft" x="(.*?)" y="(.*?)" .*?>(.*?)</text>', drawn)}
    heights = {label: y - 4 for (x, label), y in labels.items() if x == str(charts.LEFT - 5)}
    whole, dot = ([tuple(map(float, corner.split(","))) for corner in points.split()] for points in re.findall(r'points="(.*?)"', drawn))
    assert [y for _, y in whole[:4]] == [heights[label] for label in ("2", "1", "0.5", "1.5")]
    assert [f"{x:.1f}" for x, _ in whole[:4]] == [x for x, label in list(labels)[1:5]] and dot == whole[:1] * 2
    assert "epoch" in drawn and "query loss" in drawn
    assert all(charts.LEFT <= x <= charts.RIGHT and charts.TOP <= y <= charts.BOTTOM for x, y in whole)


@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e308, True, "1", [1], None])
def test_what_no_axis_can_span_is_not_drawn(value):
    others = [curve(method) for method in columns.SHOWN]
    others[0].log.append(dict(query_loss=1.0, grad_norm=value, clipped_norm=1))
    text = page.html(make_table(lambda *_: 50.0, curves=others))
    assert text.count("<polyline") == 3 * (len(columns.SHOWN) - 1)
    assert text.count("meta-training: method") == len(columns.SHOWN)  # its settings are told all the same


def test_a_curve_is_drawn_for_every_seed_and_none_without_a_log():
    curves = [curve("coop", seed) for seed in (1, 2)] + [curve("cocoop", log=[])]
    text = page.html(make_table(lambda *_: 50.0, curves=curves))
    assert text.count("<polyline") == 2 * 3 and text.count("meta-training: method") == 2
    assert "<polyline" not in page.html(make_table(lambda *_: 50.0))
