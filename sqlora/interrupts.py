"""Ctrl-C and SIGTERM: the first ends a run after its step, the second at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from sqlora.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether the run is to stop, and by which signal; 0 while it is not."""

    signal = 0


@contextlib.contextmanager
def graceful(tell) -> Iterator[Stop]:
    """Within it the first signal is kept in the Stop that it gives, and `tell` is called with a line about it.

    A second one raises Interrupted wherever the program is.
    """
    stop = Stop()

    def handle(number: int, frame: object) -> None:
        if stop.signal:
            raise Interrupted(number, "stopped at once")
        stop.signal = number
        tell(f"{signal.Signals(number).name}: the step is ended and a checkpoint written; once more stops at once")

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
