"""Types of options: functions from a text to its value, which argparse calls."""
import argparse
import os
from collections.abc import Callable
from pathlib import Path

from mp.runtime.errors import DAMAGE, UserError, unreadable
from mp.settings import POSITIVE


def number(text: str) -> float:
    """Read a number or a fraction, as the paper prints its α: 0.025/6."""
    top, _, bottom = text.partition("/")
    try:
        return float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def up_to(limit: int, what: str, least: int = 0) -> Callable[[str], int]:
    """Return a type of option: a whole number up to the limit."""
    def whole(text: str) -> int:
        if not text.isdecimal() or len(text) > 20 or not least <= int(text) <= limit:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}, {least} to {limit}")
        return int(text)

    return whole


def path(text: str) -> Path:
    """Read a path, in which ~ is the home folder also where the shell leaves it, as in --out=~/x."""
    return Path(at_home(text))


def at_home(text: str) -> str:
    """Read a text, or the path that it is if it begins with ~."""
    return os.path.expanduser(text)


def read_names(file: str) -> list[str]:
    """Read the lines of a text file, whatever ends them; empty ones at the end are left out."""
    try:
        lines = path(file).read_text(encoding="utf-8-sig").rstrip().splitlines()
    except DAMAGE as e:
        raise UserError(unreadable(file, e, "no list of names", "give a text file in UTF-8")) from None
    return [line.strip() for line in lines]


def positive(text: str) -> float:
    value = number(text)
    if not POSITIVE.holds(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {POSITIVE.words}")
    return value
