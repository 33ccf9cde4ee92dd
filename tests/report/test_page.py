"""The page: whole, its own, and nothing on it runs; every number tells its files."""
import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from mp.learners import METHODS
from mp.report import columns, looks, page
from mp.report.averages import MEASURES, averaged
from tests.report.tables import COLUMNS, KEYS, MINI, curve, make_table


class Checker(HTMLParser):
    """Every tag is closed in order; collects the text and every address."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.texts, self.tags, self.ids, self.targets = [], [], [], [], [], []
        self.feed(text)
        assert self.open == [] and len(set(self.ids)) == len(self.ids) and set(self.targets) <= set(self.ids)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action") or k.startswith("on")]
        self.ids += [v for k, v in attrs if k == "id"]
        self.targets += [v for k, v in attrs if k == "popovertarget"]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def table():
    draw = np.random.default_rng(0)
    return make_table(lambda *_: float(draw.uniform(20, 90)), seeds=(1, 2, 3), curves=[curve(m) for m in columns.SHOWN])


def test_the_page(table):
    one = replace(table, seeds=[1])
    text = page.html(one)
    found = Checker(text)
    assert found.addresses == ["#gains"] and "gains" in found.ids and "script" not in found.tags and "http" not in text
    assert found.tags.count("tr") == 2 + 14 * 4 and found.tags.count("tbody") == 14
    assert found.tags.count("rect") == 11 * len([c for c in COLUMNS.values() if c.baseline])
    assert found.tags.count("polyline") == 3 * len(columns.SHOWN) and "inner_lr 0.00416667" in "".join(found.texts)
    assert "fine-tuning: method cocoop, lr 0.0025" in found.texts
    for measure in MEASURES:
        gain = COLUMNS["finetune/coop/mp"].numbers(one.ours, "pets", measure, gain=True)
        assert f"{gain[0]:+.1f}" in found.texts
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "viewport" in text
    assert "thead td, tbody th { position: sticky; left: 0;" in text and "thead { position: sticky; top: 0;" in text
    titles = re.search(r"</tr><tr>(.*?)</tr></thead>", text)[1]
    pairs = re.findall(r'<th class="pair" scope="col">(.*?)</th>', titles)
    assert pairs == [f"{METHODS[method].title} H" for method in columns.SHOWN]


def test_the_cells_are_those_of_the_text(table):
    """Also the harmonic means' row, with its gains and their colours."""
    rows = re.findall(r'<th class="part" scope="row">(.*?)</th>(.*?)</tr>', page.html(table))
    shown = looks.make_rows(table, absolute=False)
    assert [title for title, _ in rows] == [row[1] for row in shown] == ["base", "new", "HM", "all"] * 14
    for (_, cells), (_, _, *texts) in zip(rows, shown):
        assert re.findall(r"<button.*?>(.*?)<", cells) == texts
        for cell, text in zip(re.findall("<td.*?>", cells), texts):
            colour = re.search(r"var\(--(up|down)\)", cell)
            assert (colour and colour[1]) == {"+": "up", "-": "down"}.get(text[0]) or text.startswith(("+0.0", "-0.0"))


@pytest.mark.parametrize("absolute", [False, True])
def test_every_number_on_the_page_names_its_files_and_their_commands(table, absolute):
    """And what has no number opens nothing. Two commands made the numbers of one dataset."""
    results = dict(table.results)
    again = results["finetune/coop/mp", "pets", 2]
    other = again.content | {"provenance": again.content["provenance"] | {"command": "python run.py <&> again"}}
    results["finetune/coop/mp", "pets", 2] = again._replace(content=other)
    del results["zeroshot/hand", "cars", None]
    text = page.html(replace(table, results=results), absolute)
    Checker(text)
    tips = dict(re.findall(r'<dialog popover id="(.*?)" aria-label=".*?">(.*?)</dialog>', text))
    groups = averaged(MINI) | {name: [name] for name in MINI}
    rows = re.findall(r"<tr>(?:<th rowspan.*?</th>)?<th class=\"part\" scope=\"row\">.*?</th>(.*?)</tr>", text)
    for (name, _), row in zip(product(groups, MEASURES), rows, strict=True):
        for key, (target, number) in zip(KEYS, re.findall(r'<td.*?>(?:<button popovertarget="(.*?)">)?(.*?)<', row), strict=True):
            column = COLUMNS[key]
            needed = [column] if absolute or not column.baseline else [column, column.baseline]
            there = "cars" not in groups[name] or COLUMNS["zeroshot/hand"] not in needed
            assert bool(target) == (number != "-") == there
            if not there:
                continue
            title, *lines = re.findall(r"<(?:strong|p><code|p)>(.*?)</", tips[target])
            assert title == f"{name}, {column.group} {column.title}"
            told = {}
            for command, files_of in zip(lines[::2], lines[1::2], strict=True):
                folder, names = files_of.split(": ")
                told |= {Path(folder) / one: html.unescape(command) for one in names.split(", ")}
            places = product([key], groups[name], (1, 2, 3) if column.method else (None,))
            shown = [results[place] for place in places]
            assert told == {result.path: result.content["provenance"]["command"] for result in shown}
            assert ("python run.py <&> again" in told.values()) == (key == "finetune/coop/mp" and "pets" in groups[name])


def test_what_comes_from_files_is_escaped():
    nasty = '<img src=x onerror="alert(1)">&"\'^~'
    table = make_table(lambda *_: 40.0, roles={nasty: "train"}, missing=["<script>"], tasks=["</style><script>"],
                       curves=[curve("coop", settings={nasty: nasty})])
    told = ["</code><script>", "\x1b\ud800", ["<script>"], None]
    for shown, command in zip(table.results.values(), told):
        shown.content["provenance"]["command"] = command
        shown.content["identity"]["weights"] = "<script>"
    found = Checker(page.html(table))
    assert "img" not in found.tags and "script" not in found.tags and nasty in "".join(found.texts)
    assert {"</code><script>", r"\x1b\ud800", "['<script>']", "None", "<script>"} <= set(found.texts)
    for line in looks.markdown(table).splitlines()[2:6]:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(KEYS) + 3
    assert "<" not in looks.markdown(table)
