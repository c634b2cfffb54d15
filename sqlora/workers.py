"""Work on many rows, spread over the processor's cores."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

WORTH_A_POOL = 100  # calls; workers take a second to start
CHUNK = 16


def spread(function: Callable, calls: list[tuple], workers: int | None = None, least: int = WORTH_A_POOL,
           chunk: int = CHUNK) -> Iterator[Any]:
    """What `function` gives for each call's arguments, in order, from `workers` processes; all cores by default.

    Fewer calls than `least` are made here; a process takes `chunk` of them at a time. The processes are spawned, so a script
    that comes here must do so under `if __name__ == "__main__"`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or cores
    if workers == 1 or len(calls) < least:
        yield from itertools.starmap(function, calls)
        return
    # Not forked: a process that has loaded torch has threads. Ctrl-C is this process's to answer.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        yield from pool.map(function, *zip(*calls, strict=True), chunksize=chunk)
    except BaseException:  # an interrupted pool may wait for ever for its workers
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
