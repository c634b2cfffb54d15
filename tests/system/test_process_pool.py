"""Work spread over processes comes back in order, and is ended when it is no longer wanted."""

import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from sqlora.system.errors import UserError
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


def test_without_anything_to_replace_it_a_lost_call_is_reported():
    with pytest.raises(BrokenProcessPool):
        list(spread(_dies_of, [(1, 1), (2, 1)], workers=2, least=1))


def test_workers_that_cannot_be_executed_end_the_work_in_one_line(monkeypatch):
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    with pytest.raises(UserError, match="no worker process can be started .*ulimit -u"):
        list(spread(pow, [(1, 1)] * 4, workers=2, least=1, lost=None))


ONE_PROCESS = """
import os, resource
from sqlora.system.errors import exit_on_user_error
from sqlora.system.process_pool import spread
if __name__ == "__main__":
    calls = [(1, 1)] * 4
    assert list(spread(pow, calls, workers=2, least=1)) == [1] * 4
    if os.getuid() == 0:  # root is not limited
        os.setuid(65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    with exit_on_user_error():
        list(spread(pow, calls, workers=2, least=1))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_user_who_may_start_no_process_gets_one_line():
    ended = subprocess.run([sys.executable, "-c", ONE_PROCESS], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no worker process can be started (BlockingIOError")
    assert len(ended.stderr.splitlines()) == 1
