"""Paths that a user names: written out in full, and what two of them are to each other."""

from __future__ import annotations

import os
from pathlib import Path

from sqlora.system.errors import UserError


def expand(path: str, what: str) -> str:
    """`path` with the home folder for ~ or ~user at its beginning. Raises UserError, naming `what`, where that is not
    known.

    Every path of the settings and of the command lines goes through here.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise UserError(
            f"{what} is {path!r}, and the home folder of {path.partition('/')[0]!r} is not known; write the path in "
            f"full, or ./{path} for a name that begins with ~"
        )
    return expanded


def same(one: Path | str, other: Path | str) -> bool:
    """Whether both lead to one file or folder: by links of either kind, or in the spelling of a system that ignores
    case.
    """
    try:
        return os.path.samefile(one, other)
    except OSError:  # one is not there yet
        return os.path.realpath(one) == os.path.realpath(other)


def entry_within(path: Path | str, folder: Path | str) -> str | None:
    """The name of the entry of `folder` that `path` is, or is below; "" if it is the folder itself, None if it is
    outside.

    Neither needs to be there.
    """
    path, entry = os.path.realpath(path), ""
    while not same(path, folder):
        parent, entry = os.path.split(path)
        if parent == path:
            return None
        path = parent
    return entry
