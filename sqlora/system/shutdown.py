"""How the processes of a distributed run end: all together, soon, and with one error message."""

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

REPORT_TIMEOUT = timedelta(seconds=10)  # how long a process that fails waits for the others to notice
LAUNCHER_SECONDS = 5  # in which a launcher ends the remaining processes when one has failed


@contextlib.contextmanager
def exit_together() -> Iterator[None]:
    """Wraps a process's main: if one rank fails, all exit at once and the error is printed once.

    The lowest rank that failed prints its error, the others exit silently. They exit through os._exit, with the status
    of exit_on_user_error: tearing down torch.distributed can hang on a rank that is gone.
    """
    if not distributed.is_distributed():
        yield
        return
    try:
        yield
        distributed.destroy_process_group()
    except distributed.OtherFailed:
        leave(2)
    except KeyboardInterrupt as error:
        if distributed.is_main_process():
            end(print_interrupt(error))
        leave(interrupt_status(error))
    except Exception as error:
        lost = distributed.peer_lost(error)
        user_error = as_user_error(lost or error)
        if not _prints_error(connected=distributed.is_initialised() and not lost):
            leave(2 if user_error else 1)
        if user_error is None:
            traceback.print_exception(error)
        end(print_user_error(user_error) if user_error else 1)


def _prints_error(connected: bool) -> bool:
    """Whether this process is the one that prints its error, by agreement with the others if they are `connected`."""
    if connected:
        with contextlib.suppress(distributed.PeerLost):
            return min(distributed.report_failure(REPORT_TIMEOUT)) == distributed.rank_info().rank
    if distributed.is_main_process():
        return True
    # The same error may have ended the main process, which prints it; then the launcher ends this one too.
    return not _ended_by_launcher()


def _ended_by_launcher() -> bool:
    """Whether the launcher ends this process, as it does when another one has ended."""
    try:
        time.sleep(LAUNCHER_SECONDS)
    except KeyboardInterrupt:
        return True
    return False


def leave(code: int) -> None:
    """Ends this process after the one that prints the error, which the launcher would otherwise cut short."""
    _ended_by_launcher()
    end(code)


def end(code: int) -> None:
    """Ends this process at once, whatever waits in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
