"""Work spread over processes comes back in order, and is ended when it is no longer wanted."""

import time

import pytest

from sqlora.workers import spread


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
