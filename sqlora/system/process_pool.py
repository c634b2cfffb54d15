"""A process pool that maps a function over many rows, and survives workers that the system kills."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from sqlora.system.errors import UserError, one_line

WORTH_A_POOL = 100  # calls; workers take a second to start
CHUNK = 16
AHEAD = 4  # chunks queued for each worker, so that none is idle
STARTS = 3  # tries, since the system may also kill a worker that is starting
LOST = "the system ended its process, most likely for lack of memory"
RAISE = object()


def spread(
    function: Callable,
    calls: list[tuple],
    workers: int | None = None,
    least: int = WORTH_A_POOL,
    chunk: int = CHUNK,
    lost: object = RAISE,
) -> Generator[Any, None, None]:
    """Yields what `function` returns for each call's arguments, in order, from `workers` processes; by default all
    cores.

    Fewer calls than `least` run in this process; a worker takes `chunk` of them at a time. Workers are spawned, so a
    script must call this under `if __name__ == "__main__"`. A call whose worker dies, and dies again when the call runs
    alone, yields `lost`, and the others continue.

    Raises BrokenProcessPool for such a call without `lost`, and UserError if no worker can be started.

        verdicts = list(spread(judge_prediction, [(context, gold, prediction), ...]))
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or cores
    if workers == 1 or len(calls) < least:
        yield from itertools.starmap(function, calls)
        return
    chunks = deque(calls[start : start + chunk] for start in range(0, len(calls), chunk))
    pool = _pool(workers)
    running: deque[tuple[list[tuple], Future]] = deque()
    try:
        while chunks or running:
            with contextlib.suppress(BrokenProcessPool):  # running calls raise it too
                while chunks and len(running) < AHEAD * workers:
                    running.append((chunks[0], pool.submit(_call, function, chunks[0])))
                    chunks.popleft()
            part, future = running.popleft()
            try:
                yield from future.result()
            except BrokenProcessPool:  # all running calls are lost with it, whichever was at fault
                chunks.extendleft(part for part, _ in reversed(running))
                running.clear()
                _end(pool)
                yield from _one_by_one(function, part, lost)
                pool = _pool(workers)
    finally:  # also when interrupted, since the pool might wait for its workers for ever
        _end(pool)


def _one_by_one(function: Callable, calls: list[tuple], lost: object) -> Iterator[Any]:
    for call in calls:
        pool = _pool(1)
        try:
            yield from pool.submit(_call, function, [call]).result()
        except BrokenProcessPool:
            if lost is RAISE:
                raise
            yield lost
        finally:
            _end(pool)


def _call(function: Callable, calls: list[tuple]) -> list[Any]:
    return list(itertools.starmap(function, calls))


def _pool(workers: int) -> ProcessPoolExecutor:
    """A pool whose workers have been seen to start. Raises UserError."""
    fault: Exception
    for _ in range(STARTS):
        # Not forked: a process that has loaded torch has threads. Only this process handles Ctrl-C.
        context, ignored = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
        pool = ProcessPoolExecutor(workers, context, signal.signal, ignored)
        with contextlib.ExitStack() as unless_started:
            unless_started.callback(_end, pool)
            try:
                pool.submit(os.getpid).result()
                unless_started.pop_all()
                return pool
            except (OSError, RuntimeError) as error:  # BrokenProcessPool is a RuntimeError
                fault = error
    raise UserError(
        f"no worker process can be started ({one_line(fault)}); allow this user more processes (ulimit -u) and memory"
    )


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.terminate()
    with contextlib.suppress(RuntimeError):  # its thread could not be started
        pool.shutdown(cancel_futures=True)
