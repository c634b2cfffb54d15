"""What a user can mend is told in one line; a bug shows its traceback."""

import contextlib
import errno
import os
import re
import signal
import sys
import traceback
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

MENDABLE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "no file may be so large; raise the limit (ulimit -f), or choose another file system",
    errno.EIO: "the disk fails; choose another",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "not permitted; choose a folder that you may write to",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "its links lead in a circle; mend them, or choose another path",
    errno.EROFS: "the file system is read-only; choose another folder",
}


HANG_UP: int | None = getattr(signal, "SIGHUP", None)  # neither is there on Windows
BROKEN_PIPE: int = getattr(signal, "SIGPIPE", 13)
LONGEST = 900  # characters of a message; of a longer one, which has a whole file in it, both ends are told


SECRET_NAME = "pass|pwd|secret|token|key|credential"  # in the name of an option of a URL that must not be seen


def hide_passwords(text: str) -> str:
    """The text without the passwords of its URLs, such as one that was given where no URL is wanted.

    A password may have blanks in it, so more than the password may go: up to the last @ of a line, and after
    `?password=` all.
    """
    text = re.sub(r"(\w:/{1,3}[^\s/:@]*:)(?!\*\*\*@).*@", r"\1***@", text)
    return re.sub(r"([?&][^\s=&]+=)(.*)", _hide_options, text)


def _hide_options(found: re.Match) -> str:
    """From the first option with a secret on, nothing is left."""
    pieces = re.split(r"([?&][^\s=&]+=)", found[0])
    secret = next(
        (
            place
            for place, piece in enumerate(pieces)
            if place % 2 and re.search(SECRET_NAME, urllib.parse.unquote(piece), re.IGNORECASE)
        ),
        None,
    )
    return found[0] if secret is None else "".join(pieces[: secret + 1]) + "***"


class UserError(Exception):
    """Something that the user can mend. The message gives the value and the remedy, in one line that any terminal can
    show.
    """

    def __init__(self, message: str) -> None:
        told = hide_passwords(" ".join(message.split()))
        told = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in told)
        super().__init__(told if len(told) <= LONGEST else f"{told[: LONGEST * 2 // 3]} … {told[-LONGEST // 3 :]}")


class Interrupted(KeyboardInterrupt):
    """The signal `number` ended the program; the message says what became of its work."""

    def __init__(self, number: int, message: str = "stopped"):
        super().__init__(message)
        self.number = number


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Around a script's main: a UserError, or an OSError of the disk, prints one line and exits with 2.

    Ctrl-C exits with 130, SIGTERM with 143, SIGHUP with 129, and what was to be cleaned up is. Where nobody reads the
    output any more (`| head`) the exit is quiet, with 141.
    """

    def terminate(number: int, frame: object) -> None:
        detach_from_terminal(number)
        raise Interrupted(number)

    _open_streams()
    for number in (signal.SIGTERM, HANG_UP):
        if is_handled(number):
            signal.signal(number, terminate)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):
            mute(stream)
        sys.exit(128 + BROKEN_PIPE)
    except (UserError, OSError) as error:
        if (told := as_user_error(error)) is None:
            raise
        sys.exit(print_user_error(told))
    except KeyboardInterrupt as error:
        sys.exit(print_interrupt(error))


def is_handled(number: int | None) -> bool:
    """Whether the system has this signal and whoever started this process (nohup) does not have it ignored."""
    return number is not None and signal.getsignal(number) is not signal.SIG_IGN


def detach_from_terminal(number: int) -> None:
    """After SIGHUP the terminal may be gone, and writing to it would fail."""
    if number == HANG_UP:
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                mute(stream)


def mute(stream: TextIO) -> None:
    """From here on what is written to the stream goes nowhere, what is still in its buffer too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _open_streams() -> None:
    """Gives a process that was started without standard streams (`>&-`) some that lead nowhere; no character is
    refused.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the first file that is opened would take their place
        continue
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, for as long as the process lives
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def as_user_error(error: BaseException) -> UserError | None:
    """The error, or what a user reads of one of the disk; None for a bug."""
    if isinstance(error, OSError) and error.errno in MENDABLE:
        return UserError(f"{error.filename or error.strerror}: {MENDABLE[error.errno]}")
    return error if isinstance(error, UserError) else None


def error_with_location(error: Exception) -> str:
    """An unforeseen error in one line, with the line of code that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({Path(place.filename).name}:{place.lineno})"


def print_user_error(error: UserError) -> int:
    """Prints it, and returns the exit status that goes with it."""
    _print_error(f"error: {error}")
    return 2


def run_command(command, arguments: list[str] | None) -> object:
    """What a click command returns for `arguments`, or sys.argv; what the user can mend exits with 2."""
    import click

    with exit_on_user_error():
        try:
            return command.main(args=arguments, standalone_mode=False)
        except click.UsageError as error:
            raise UserError(f"{error.format_message()} (--help lists the flags)") from None
        except click.Abort:
            raise KeyboardInterrupt from None


def print_interrupt(error: KeyboardInterrupt) -> int:
    """Prints what became of the work, and returns the exit status that goes with the signal."""
    _print_error(str(error) or "stopped")
    return interrupt_status(error)


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):  # where nobody reads it the status still tells
        print(line, file=sys.stderr, flush=True)


def interrupt_status(error: KeyboardInterrupt) -> int:
    return 128 + getattr(error, "number", signal.SIGINT)


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
