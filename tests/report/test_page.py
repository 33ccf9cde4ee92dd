"""The page: whole, its own, and nothing on it runs; every number tells its files."""
import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from data.suite import Suite
from mp.experiment.arms import Results
from mp.learners import METHODS
from mp.report import formats, page
from mp.report.accuracies import MEASURES
from mp.report.table2 import SHOWN
from tests.report.tables import COLUMNS, KEYS, LOG, job, make_table, without


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
    return make_table(lambda *_: float(draw.uniform(20, 90)), seeds=(1, 2, 3), logs={method: [LOG] for method in SHOWN})


def test_the_page(table):
    """All its cells are the text's, also the harmonic means, coloured by their gains."""
    text = page.html(table)
    checker = Checker(text)
    assert checker.addresses == ["#gains"] and "gains" in checker.ids and "script" not in checker.tags and "http" not in text
    assert checker.tags.count("tr") == 2 + 14 * 4 and checker.tags.count("tbody") == 14
    assert checker.tags.count("rect") == 11 * len([column for column in COLUMNS.values() if column.baseline])
    assert checker.tags.count("polyline") == 3 * len(SHOWN) and "inner_lr 0.00416667" in "".join(checker.texts)
    assert any(text.startswith("fine-tuning: method cocoop, lr 0.0025") for text in checker.texts)
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "viewport" in text
    assert "thead td, tbody th { position: sticky; left: 0;" in text and "thead { position: sticky; top: 0;" in text
    titles = re.search(r"</tr><tr>(.*?)</tr></thead>", text)[1]
    pairs = re.findall(r'<th class="pair" scope="col">(.*?)</th>', titles)
    assert pairs == [f"{METHODS[method].title} H" for method in SHOWN]
    rows = re.findall(r'<th class="part" scope="row">(.*?)</th>(.*?)</tr>', text)
    for (title, row), (name, measure) in zip(rows, product(table.rows, MEASURES), strict=True):
        texts = formats.cells(table, name, measure, absolute=False)
        assert title == MEASURES[measure] and re.findall(r"<button.*?>(.*?)<", row) == texts
        for cell, number in zip(re.findall("<td.*?>", row), texts):
            colour = re.search(r"var\(--(up|down)\)", cell)
            assert (colour and colour[1]) == {"+": "up", "-": "down"}.get(number[0]) or number.startswith(("+0.0", "-0.0"))


@pytest.mark.parametrize("absolute", [False, True])
def test_every_number_on_the_page_names_its_files_and_their_commands(table, absolute):
    """And what has no number opens nothing. Two commands made the numbers of one dataset."""
    by_job = dict(without(table, job("zeroshot/hand", "cars", None)).results.by_job)
    again = job("finetune/coop/mp", "pets", 2)
    content = by_job[again].content
    made_again = content | {"provenance": content["provenance"] | {"command": "python run.py <&> again"}}
    by_job[again] = by_job[again]._replace(content=made_again)
    text = page.html(replace(table, results=Results(by_job)), absolute)
    Checker(text)
    tips = dict(re.findall(r'<dialog popover id="(.*?)" aria-label=".*?">(.*?)</dialog>', text))
    rows = re.findall(r"<tr>(?:<th rowspan.*?</th>)?<th class=\"part\" scope=\"row\">.*?</th>(.*?)</tr>", text)
    for (name, _), row in zip(product(table.rows, MEASURES), rows, strict=True):
        datasets = table.rows[name]
        for key, (target, number) in zip(KEYS, re.findall(r'<td.*?>(?:<button popovertarget="(.*?)">)?(.*?)<', row), strict=True):
            column = COLUMNS[key]
            needed = [column] if absolute or not column.baseline else [column, column.baseline]
            complete = "cars" not in datasets or COLUMNS["zeroshot/hand"] not in needed
            assert bool(target) == (number != "-") == complete
            if not complete:
                continue
            title, *lines = re.findall(r"<(?:strong|p><code|p)>(.*?)</", tips[target])
            assert title == f"{name}, {column.group} {column.title}"
            commands = {}
            for command, files in zip(lines[::2], lines[1::2], strict=True):
                folder, names = files.split(": ")
                commands |= {Path(folder) / file: html.unescape(command) for file in names.split(", ")}
            results = [by_job[job(key, *place)] for place in product(datasets, (1, 2, 3) if column.arm.seeded else (None,))]
            assert commands == {result.path: result.content["provenance"]["command"] for result in results}
            assert ("python run.py <&> again" in commands.values()) == (key == "finetune/coop/mp" and "pets" in datasets)


def test_what_comes_from_files_is_escaped():
    nasty = '<img src=x onerror="alert(1)">&"\'^~'
    suite = Suite("mini", [nasty], [nasty], None, None, None, other_tasks=["</style><script>"])
    table = make_table(lambda *_: 40.0, suite=suite)
    told = ["</code><script>", "\x1b\ud800", ["<script>"], None]
    for result, command in zip(table.results.by_job.values(), told):
        result.content["provenance"]["command"] = command
        result.content["identity"] |= {"weights": "<script>", "settings": {nasty: nasty}, "meta": {"settings": {nasty: nasty}}}
    checker = Checker(page.html(table))
    assert "img" not in checker.tags and "script" not in checker.tags and nasty in "".join(checker.texts)
    assert {"</code><script>", r"\x1b\ud800", "['<script>']", "None"} <= set(checker.texts)
    for line in formats.markdown(table).splitlines()[2:6]:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(KEYS) + 3
    assert "<" not in formats.markdown(table)
