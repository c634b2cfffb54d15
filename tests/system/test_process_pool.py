"""Work spread over processes comes back in order, and is ended when it is no longer wanted."""

import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from sqlora.system.process_pool import spread


def test_results_come_in_the_order_of_the_calls():
    assert list(spread(pow, [(i, 2) for i in range(40)], workers=2, least=1)) == [i * i for i in range(40)]


def test_an_exception_comes_back():
    with pytest.raises(ZeroDivisionError):
        list(spread(divmod, [(1, 1), (1, 0)], workers=2, least=1))


def test_whoever_stops_listening_does_not_wait_for_calls_under_way():
    parts = spread(time.sleep, [(0,), (100,), (100,)], workers=2, least=1, chunk=1)
    next(parts)
    start = time.monotonic()
    parts.close()
    assert time.monotonic() - start < 20


def _dies_of(number: int, deadly: int) -> int:
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_call_whose_process_is_killed_is_lost_and_the_others_are_not(chunk):
    calls = [(number, 5) for number in range(12)]
    assert list(spread(_dies_of, calls, workers=2, least=1, chunk=chunk, lost=None)) == [
        0,
        1,
        2,
        3,
        4,
        None,
        6,
        7,
        8,
        9,
        10,
        11,
    ]


def test_without_anything_to_stand_for_it_a_lost_call_is_told():
    with pytest.raises(BrokenProcessPool):
        list(spread(_dies_of, [(1, 1), (2, 1)], workers=2, least=1))
