"""Work on many rows, spread over the processor's cores."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

WORTH_A_POOL = 100  # calls; workers take a second to start
CHUNK = 16
AHEAD = 4  # chunks that wait for each worker, so that none is idle
LOST = "the system ended the process that worked on it, for lack of memory most likely"
RAISE = object()


def spread(
    function: Callable,
    calls: list[tuple],
    workers: int | None = None,
    least: int = WORTH_A_POOL,
    chunk: int = CHUNK,
    lost: object = RAISE,
) -> Iterator[Any]:
    """What `function` gives for each call's arguments, in order, from `workers` processes; all cores by default.

    Fewer calls than `least` are made here; a process takes `chunk` of them at a time. The processes are spawned, so a
    script that comes here must do so under `if __name__ == "__main__"`. A call whose process dies, alone and for the
    second time, gives `lost`, and the others go on; without `lost` BrokenProcessPool is raised.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or cores
    if workers == 1 or len(calls) < least:
        yield from itertools.starmap(function, calls)
        return
    chunks = deque(calls[start : start + chunk] for start in range(0, len(calls), chunk))
    pool, running = _pool(workers), deque()
    try:
        while chunks or running:
            with contextlib.suppress(BrokenProcessPool):  # which what is running tells too
                while chunks and len(running) < AHEAD * workers:
                    running.append((chunks[0], pool.submit(_call, function, chunks[0])))
                    chunks.popleft()
            part, future = running.popleft()
            try:
                yield from future.result()
            except BrokenProcessPool:  # with it all that was running is lost, whoever's fault it was
                chunks.extendleft(part for part, _ in reversed(running))
                running.clear()
                _end(pool)
                yield from _one_by_one(function, part, lost)
                pool = _pool(workers)
    finally:  # of an interrupted pool too, which may wait for ever for its workers
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
    # Not forked: a process that has loaded torch has threads. Ctrl-C is this process's to answer.
    return ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(cancel_futures=True)
