"""How several processes that do one run end: together, soon, and with one voice."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta

from sqlora.system import distributed
from sqlora.system.errors import as_user_error, interrupt_status, print_interrupt, print_user_error

LAST_WORDS = timedelta(seconds=10)  # in which a process that fails waits for the others to hear of it
LAUNCHER_SECONDS = 5  # in which a launcher ends the processes that are left when one has failed


@contextlib.contextmanager
def exit_together() -> Iterator[None]:
    """Around all that a process does. What ends one ends all, soon, and is told once.

    The first of those that failed tells what it failed by; the others leave without a word. All leave at once, with the
    status that exit_on_user_error gives: to put torch away could mean to wait, on the device, for one that has ended.
    """
    if not distributed.is_distributed():
        yield
        return
    try:
        yield
        distributed.destroy_process_group()
    except distributed.OtherFailed:
        _leave(2)
    except KeyboardInterrupt as error:
        if distributed.is_main_process():
            _end(print_interrupt(error))
        _leave(interrupt_status(error))
    except Exception as error:
        lost = distributed.peer_lost(error)
        told = as_user_error(lost or error)
        if not _speaks(joined=distributed.is_initialised() and not lost):
            _leave(2 if told else 1)
        if told is None:
            traceback.print_exception(error)
        _end(print_user_error(told) if told else 1)


def _speaks(joined: bool) -> bool:
    """Whether it is this process that tells what it failed by; asked of the others, if they are `joined`."""
    if joined:
        with contextlib.suppress(distributed.PeerLost):
            return min(distributed.report_failure(LAST_WORDS)) == distributed.rank_info().rank
    if distributed.is_main_process():
        return True
    # The same may have ended the first process, which tells it; then the launcher ends this one too.
    return not _ended_by_launcher()


def _ended_by_launcher() -> bool:
    """Whether the launcher ends this process, as it does when another has ended."""
    try:
        time.sleep(LAUNCHER_SECONDS)
    except KeyboardInterrupt:
        return True
    return False


def _leave(code: int) -> None:
    """Ends this process, once the one that speaks has ended: the launcher would otherwise cut it short."""
    _ended_by_launcher()
    _end(code)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
