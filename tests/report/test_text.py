"""Lined-up text against tables drawn by hand."""
import doctest

from mp.report import text
from mp.report.text import line_up


def drawn(table: str) -> str:
    return "\n".join(line.removeprefix("    |") for line in table.strip("\n").splitlines())


def test_the_docstrings_examples():
    assert doctest.testmod(text) == (0, 3)


def test_a_title_wider_than_its_columns_makes_room():
    assert line_up([["", "base", "new", "all"], ["pets", "1.0", "2.0", "3.0"]], gap=1,
                   groups=[("another/meta.pt", 3)]) == drawn("""
    |       another/meta.pt
    |          base new all
    |pets       1.0 2.0 3.0
""")


def test_what_no_terminal_shows_is_escaped():
    assert line_up([["", "H"], ["a\nb", "\x1b[31m"]], groups=[("p\n.pt", 1)]) == drawn(r"""
    |         p\n.pt
    |               H
    |a\nb    \x1b[31m
""")


def test_two_columns_flush_left_and_empty_lines_between():
    rows = [["", "", "zero-shot", "fine-tuned"], ["", "", "H", "MP+CoOp"], [],
            ["DTD*", "base", "53.2", "+1.0 (+2.0!)"], ["", "new", "60", "-"], [], ["EuroSAT", "base", "5.1", ""]]
    assert line_up(rows, left=2) == drawn("""
    |               zero-shot    fine-tuned
    |                       H       MP+CoOp
    |
    |DTD*     base       53.2  +1.0 (+2.0!)
    |         new          60             -
    |
    |EuroSAT  base        5.1
""")


def test_spread():
    assert text.spread([75.36]) == "75.4" and text.spread([2.0, 4.0]) == "3.0±1.4"
    assert text.spread([-2.5], sign=True) == "-2.5" and text.spread([]) == text.spread([], sign=True) == "-"
    assert text.spread([-0.04]) == "0.0" and text.spread([-0.04, -0.02], sign=True) == "+0.0±0.0"  # zero has no minus
    assert text.spread([-0.06], sign=True) == "-0.1" and text.spread([0.04], sign=True) == "+0.0"
