"""Ctrl-C, SIGTERM and SIGHUP: the first ends a run after its step, the second at once."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

from sqlora.system import distributed
from sqlora.system.errors import HANG_UP, Interrupted, detach_from_terminal, is_handled

SIGNALS = (signal.SIGINT, signal.SIGTERM, HANG_UP)
# after a signal, in which another is the same one: a key held down, a program that sends it in a loop
BURST_SECONDS = 1
REPEATED_SECONDS = 3  # the same where a launcher passes on to its processes what the terminal has sent them already


class Stop:
    """Whether the run is to stop, and by which signal; 0 while it is not."""

    signal = 0


@contextlib.contextmanager
def graceful(tell) -> Iterator[Stop]:
    """Within it the first signal is kept in the Stop that it gives, and `tell` is called with a line about it.

    A second one, at least a second after the last, raises Interrupted wherever the program is.
    """
    stop = Stop()
    since = 0.0

    def handle(number: int, frame: object) -> None:
        nonlocal since
        last, since = since, time.monotonic()
        if stop.signal and since < last + (REPEATED_SECONDS if distributed.is_distributed() else BURST_SECONDS):
            return
        if stop.signal:
            raise Interrupted(number, "stopped at once")
        detach_from_terminal(number)
        stop.signal = number
        tell(told(number))

    before = {number: signal.signal(number, handle) for number in SIGNALS if is_handled(number)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def told(number: int) -> str:
    return f"{signal.Signals(number).name}: the step is ended and a checkpoint written; once more stops at once"
