"""Errors that the user can fix are printed in one line; a bug shows its traceback."""

import contextlib
import difflib
import errno
import os
import re
import signal
import sys
import traceback
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

FIXABLE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "no file may be so large; raise the limit (ulimit -f), or choose another file system",
    errno.EIO: "the disk fails; choose another one",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "not permitted; choose a folder that you may write to",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "its links form a circle; fix them, or choose another path",
    errno.EROFS: "the file system is read-only; choose another folder",
}


HANG_UP: int | None = getattr(signal, "SIGHUP", None)  # Windows has neither of the two
BROKEN_PIPE: int = getattr(signal, "SIGPIPE", 13)
LONGEST = 900  # characters of a message; a longer one, with a whole file in it, keeps its two ends
SECRET_NAME = "pass|pwd|secret|token|key|credential"  # in the name of a URL option that must not be shown


def few(names: Sequence[str], most: int = 10) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} others" if len(names) > most else "")


def nearest(name: str, known: Sequence[str]) -> str:
    """What may have been meant by a name that is none of those known, in any letter case."""
    lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"did you mean {lower[near[0]]}?" if near else f"it has {few(known, 20)}"


def hide_passwords(text: str) -> str:
    """The text without the passwords in its URLs, which may be there by mistake.

    A password may contain blanks, so more than the password may be removed: everything up to the last @ of a line, and
    everything after `?password=`.
    """
    text = re.sub(r"(\w:/{1,3}[^\s/:@]*:)(?!\*\*\*@).*@", r"\1***@", text)
    return re.sub(r"([?&][^\s=&]+=)(.*)", _hide_options, text)


def _hide_options(options: re.Match[str]) -> str:
    """Removes everything from the value of the first secret option on."""
    pieces = re.split(r"([?&][^\s=&]+=)", options[0])
    names = enumerate(pieces[1::2])
    secrets = (i for i, name in names if re.search(SECRET_NAME, urllib.parse.unquote(name), re.IGNORECASE))
    first = next(secrets, None)
    return options[0] if first is None else "".join(pieces[: 2 * first + 2]) + "***"


class UserError(Exception):
    """An error that the user can fix. The message has the value and the remedy, in one printable line."""

    def __init__(self, message: str) -> None:
        line = hide_passwords(" ".join(message.split()))
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST * 2 // 3]} … {line[-LONGEST // 3 :]}")


class Interrupted(KeyboardInterrupt):
    """The signal `number` ended the program; the message says what happened to its work."""

    def __init__(self, number: int, message: str = "stopped"):
        super().__init__(message)
        self.number = number


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Wraps a script's main: a UserError, or an OSError of the disk, prints one line and exits with 2.

    Ctrl-C exits with 130, SIGTERM with 143, SIGHUP with 129, after the usual cleaning up. Where nobody reads the output
    any more (`| head`) the exit is quiet, with 141.

        with exit_on_user_error():
            main(load_settings(None, __doc__))
    """

    def terminate(number: int, frame: object) -> None:
        detach_from_terminal(number)
        raise Interrupted(number)

    _open_streams()
    for number in (signal.SIGTERM, HANG_UP):
        if number is not None and is_handled(number):
            signal.signal(number, terminate)
    try:
        _check_working_folder()
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):
            mute(stream)
        sys.exit(128 + BROKEN_PIPE)
    except (UserError, OSError) as error:
        if (user_error := as_user_error(error)) is None:
            raise
        sys.exit(print_user_error(user_error))
    except KeyboardInterrupt as error:
        for number in (signal.SIGINT, signal.SIGTERM, HANG_UP):
            if number is not None:
                signal.signal(number, signal.SIG_IGN)  # the rest of a burst must not change the exit status
        sys.exit(print_interrupt(error))


def is_handled(number: int | None) -> bool:
    """Whether the system has this signal, and it is not ignored (as nohup has SIGHUP ignored)."""
    return number is not None and signal.getsignal(number) is not signal.SIG_IGN


def detach_from_terminal(number: int) -> None:
    """Stops writing to the terminal after SIGHUP: it may be gone, and writing to it would fail."""
    if number == HANG_UP:
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                mute(stream)


def mute(stream: IO[str]) -> None:
    """Discards everything written to the stream from now on, with what is still in its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _open_streams() -> None:
    """Opens missing standard streams (`>&-`) on the null device, and has them escape what they cannot encode."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the first file opened would get their numbers
        continue
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, for as long as the process lives
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the working folder was deleted; cd to another one") from None


def as_user_error(error: BaseException) -> UserError | None:
    """The error as a UserError, if it is one or an error of the disk; None for a bug."""
    if isinstance(error, OSError) and error.errno in FIXABLE:
        return UserError(f"{error.filename or error.strerror}: {FIXABLE[error.errno]}")
    return error if isinstance(error, UserError) else None


def error_with_location(error: Exception) -> str:
    """An unexpected error in one line, with the line of code that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({Path(frame.filename).name}:{frame.lineno})"


def print_user_error(error: UserError) -> int:
    """Prints the error and returns its exit status, 2."""
    _print_error(f"error: {error}")
    return 2


def run_command(command, arguments: list[str] | None) -> object:
    """What a click command returns for `arguments`, or sys.argv; errors that the user can fix exit with 2."""
    import click

    with exit_on_user_error():
        try:
            return command.main(args=arguments, standalone_mode=False)
        except click.UsageError as error:
            raise UserError(f"{error.format_message()} (--help lists the flags)") from None
        except click.Abort as error:
            interrupt = error.__cause__  # it may say what happened to the work
            raise interrupt if isinstance(interrupt, Interrupted) else KeyboardInterrupt from None


def print_interrupt(error: KeyboardInterrupt) -> int:
    """Prints what happened to the work and returns the signal's exit status."""
    _print_error(str(error) or "stopped")
    return interrupt_status(error)


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):  # where nobody reads it, the exit status still says so
        print(line, file=sys.stderr, flush=True)


def interrupt_status(error: KeyboardInterrupt) -> int:
    """128 and the signal's number."""
    return 128 + getattr(error, "number", signal.SIGINT)


def one_line(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
