"""Ctrl-C, SIGTERM and SIGHUP: the first signal ends a run after its step, the second at once."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

from sqlora.system import distributed
from sqlora.system.errors import HANG_UP, Interrupted, detach_from_terminal, is_handled

SIGNALS = (signal.SIGINT, signal.SIGTERM, HANG_UP)
# Signals so soon after one another count as one: a key held down, a program that sends it in a loop.
BURST_SECONDS = 1
REPEATED_SECONDS = 3  # the same where a launcher repeats to its processes what the terminal has sent them already


class Stop:
    """Which signal asks the run to stop; 0 while none does."""

    signal = 0


@contextlib.contextmanager
def graceful(note: Callable[[str], None]) -> Iterator[Stop]:
    """Within it the first signal is stored in the Stop that it yields, and `note` is called with a line about it.

    A second signal, at least a second after the last one, raises Interrupted wherever the program is.
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
        note(announcement(number))

    before = {number: signal.signal(number, handle) for number in SIGNALS if number is not None and is_handled(number)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def announcement(number: int) -> str:
    """The line that is printed at the first signal."""
    again = "Press Ctrl-C again after a second" if number == signal.SIGINT else "A second one, a second later,"
    verb = "to stop now" if number == signal.SIGINT else "stops now"
    return f"{signal.Signals(number).name}: finishing this step and saving a checkpoint. {again} {verb}"
