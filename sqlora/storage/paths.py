"""Paths that a user names: expanded, and compared with each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqlora.system.errors import UserError

if TYPE_CHECKING:
    import click


def expand(path: str, what: str) -> str:
    """`path` with ~ or ~user at its beginning replaced by the home folder.

    Every path of the settings and of the command lines goes through here. Raises UserError, naming `what`, if the path
    is blank or the home folder is not known.
    """
    if not path.strip():
        raise UserError(f"{what} is blank; write a path")
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise UserError(
            f"{what} is {path!r}, and the home folder of {path.partition('/')[0]!r} is not known; write the path in "
            f"full, or ./{path} for a name that begins with ~"
        )
    return expanded


def option(context: object, parameter: click.Parameter, value: str | None) -> Path | None:
    """The value of a command's option as a path; click's callback for it. Raises UserError as `expand` does."""
    return None if value is None else Path(expand(value, parameter.opts[0]))


def same(one: Path | str, other: Path | str) -> bool:
    """Whether both lead to one file or folder, through links of either kind or another spelling."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one does not exist yet
        return os.path.realpath(one) == os.path.realpath(other)


def entry_within(path: Path | str, folder: Path | str) -> str | None:
    """The name of the entry of `folder` that `path` is or is below; "" for the folder itself, None outside of it.

    Neither needs to exist.
    """
    path, entry = os.path.realpath(path), ""
    while not same(path, folder):
        parent, entry = os.path.split(path)
        if parent == path:
            return None
        path = parent
    return entry
