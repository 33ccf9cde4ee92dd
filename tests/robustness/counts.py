"""What the tests of faults counted; printed at the end of the run by conftest.py."""
from collections import Counter

WANTED = {"fault cases": 600, "fuzzed inputs": 24_000, "kills": 100}  # at least
NEVER = ("tracebacks", "hangs", "wrong numbers", "finished results lost")
COUNTS: Counter = Counter()


def lines() -> list[str]:
    """One line for each number, if any of these tests ran."""
    if not any(COUNTS[what] for what in WANTED):
        return []
    return [f"{COUNTS[what]:,} {what} (at least {least:,} in a whole run)" for what, least in WANTED.items()] + [
        ", ".join(f"{COUNTS[what]} {what}" for what in NEVER)]
