"""Signals that come at a bad moment."""
import signal

import pytest

from mp.runtime.interrupt import not_now


@pytest.fixture
def acted():
    """The signals that were acted upon."""
    acted = []
    before = {number: signal.signal(number, lambda number, _: acted.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    yield acted
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_acts_after_the_moment_in_which_it_may_not(acted):
    with pytest.raises(ZeroDivisionError), not_now():
        signal.raise_signal(signal.SIGTERM)
        assert not acted
        1 / 0
    assert acted == [signal.SIGTERM]
    signal.raise_signal(signal.SIGINT)
    assert acted == [signal.SIGTERM, signal.SIGINT]


def test_a_signal_that_is_ignored_stays_so(acted):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with not_now():
        signal.raise_signal(signal.SIGINT)
    assert not acted and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
