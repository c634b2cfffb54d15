"""Files and folders that are written whole or stay as they were: written next to their name, synced, and renamed."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlora.system.errors import FIXABLE, UserError

PARTIAL = ".partial-"  # prefix of a file's or folder's name until it is whole
# What libraries raise when writing fails; some say no more than that.
WRITERS = ("RuntimeError", "SafetensorError", "OSError")
FAILED = re.compile(r"PytorchStreamWriter|file write failed|iostream error|unexpected pos")


def replace_file(target: Path, write: Callable[[Path], object]) -> None:
    """Replaces `target` by what `write` writes to the path it is given, or leaves it as it was.

    It keeps its owner and mode, and a link still leads to it. Raises UserError when the disk is full or the like.

        replace_file(path, lambda partial: partial.write_text(text))
    """
    target = Path(os.path.realpath(target))
    partial = target.with_name(PARTIAL + secrets.token_hex(8))
    with writing(target):
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            write(partial)
            _copy_mode(target, partial)
            _sync(partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)


def _copy_mode(target: Path, partial: Path) -> None:
    """Gives `partial` the mode of the file that it replaces, and its owner where that is allowed."""
    if not target.exists():
        return
    before = target.stat()
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(partial, before.st_uid, before.st_gid)
    partial.chmod(stat.S_IMODE(before.st_mode))


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields a fresh folder to write into, which replaces `target` at the end.

    Raises UserError when the disk is full or the like; `target` is then as it was.
    """
    target = Path(os.path.abspath(target))  # so that "." has a name
    partial = target.with_name(PARTIAL + target.name)
    remove(partial)
    with writing(target):
        try:
            partial.mkdir(parents=True)
            yield partial
            for path in [*partial.iterdir(), partial]:
                _sync(path)
            _put(partial, target)
        finally:
            remove(partial)


def _put(partial: Path, target: Path) -> None:
    before = target.with_name(PARTIAL + "before-" + target.name)
    remove(before)
    if os.path.lexists(target):  # moved away first, so that the name is free only for a moment
        target.rename(before)
    try:
        partial.rename(target)
    except OSError:
        if os.path.lexists(before):
            before.rename(target)
        raise
    _sync(target.parent)
    remove(before)


@contextlib.contextmanager
def replacing(folder: Path, last: str) -> Iterator[Path]:
    """Yields a fresh folder to write into; its files replace those of `folder` at the end, the one named `last` last.

    Raises UserError when the disk is full or the like; `folder` is then as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=PARTIAL) as name:
        partial = Path(name)
        with writing(folder):
            yield partial
            files = sorted(partial.iterdir(), key=lambda file: file.name == last)
            for file in files:
                _sync(file)
            for file in files:
                os.replace(file, folder / file.name)
            _sync(folder)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turns what Python, safetensors and torch raise when the system refuses a write into a UserError."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None) or _errno_of(error, target.parent)
        if number not in FIXABLE:
            raise
        raise UserError(f"{target} cannot be written: {FIXABLE[number]}; what was saved before is whole") from error


def _errno_of(error: Exception, folder: Path) -> int | None:
    """The errno of a library's error when it could not write to `folder`; None for other errors."""
    if type(error).__name__ not in WRITERS:
        return None
    if number := re.search(r"os error (\d+)", str(error)):  # safetensors
        return int(number[1])
    if "No space left" in str(error) or shutil.disk_usage(folder).free < 1 << 20:
        return errno.ENOSPC
    if not FAILED.search(str(error)):
        return None
    return errno.EFBIG if largest_file() < math.inf else errno.EIO  # torch does not say; it may also be a quota


def largest_file() -> float:
    """The largest file in bytes that this process may write (ulimit -f); infinite without a limit."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def remove_partial(folder: Path) -> None:
    """Removes the partial files of a process that was killed while it wrote to `folder`."""
    for path in folder.glob(PARTIAL + "*"):
        remove(path)


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder with its content, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _sync(path: Path) -> None:
    """Forces a file, or a folder's list of names, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
