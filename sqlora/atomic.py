"""Files and folders that are written whole, or stay as they were: beside their place, synced, and renamed into it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlora.errors import UserError

PARTIAL = ".partial-"  # how a folder's name begins until it is whole


def replace_file(target: Path, write: Callable[[Path], object]) -> None:
    """`target` as `write` writes it: whole, or as it was."""
    partial = target.with_name(target.name + ".partial")
    try:
        write(partial)
        _sync(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A fresh folder to write into, which takes the place of `target` once it is written.

    Raises UserError when the disk is full; `target` is then as it was.
    """
    partial = target.with_name(PARTIAL + target.name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with full_disk_as_user_error(target.parent):
            yield partial
            for path in [*partial.iterdir(), partial]:
                _sync(path)
        before = target.with_name(PARTIAL + "before-" + target.name)
        if target.exists():  # set aside first, so that the place is empty for a moment alone
            target.rename(before)
        partial.rename(target)
        _sync(target.parent)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def replacing(folder: Path, last: str) -> Iterator[Path]:
    """A fresh folder to write into; its files replace those of `folder` once all are written, the one named `last` last.

    Raises UserError when the disk is full; `folder` is then as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=PARTIAL) as name:
        partial = Path(name)
        with full_disk_as_user_error(folder):
            yield partial
            files = sorted(partial.iterdir(), key=lambda file: file.name == last)
            for file in files:
                _sync(file)
        for file in files:
            os.replace(file, folder / file.name)
        _sync(folder)


@contextlib.contextmanager
def full_disk_as_user_error(folder: Path) -> Iterator[None]:
    """safetensors and torch tell of a full disk each in its own way; here it becomes a UserError."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        # SafetensorError and torch's RuntimeError may say no more than that a write failed.
        unsaid = type(error).__name__ in ("RuntimeError", "SafetensorError", "OSError")
        if full or (unsaid and shutil.disk_usage(folder).free < 1 << 20):
            raise UserError(f"the disk of {folder} is full; free some space and start again; what was saved before is "
                            f"whole") from error
        raise


def remove_partial(folder: Path) -> None:
    """Removes what a process that was killed while it wrote left in `folder`."""
    for path in folder.glob(PARTIAL + "*"):
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    """Has the system write a file, or a folder's list of names, to the disk."""
    if path.is_dir() and os.name == "nt":  # which opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
