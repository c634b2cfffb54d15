"""What a setting takes: how a flag's text is parsed, which values are valid, and how to say so."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LARGEST = (1 << 31) - 1  # no count is larger
UNITS = {"mb": 10**6, "gb": 10**9, "mib": 1 << 20, "gib": 1 << 30}  # bytes


@dataclass(frozen=True)
class Kind:
    """The values of a setting. `wants` describes them in messages, `shown` in --help and docs/settings.md.

    `parse` reads a flag's text and raises ValueError or KeyError for one that it cannot read.
    """

    wants: str
    shown: str
    valid: Callable[[Any], bool]
    parse: Callable[[str], Any] = str
    is_path: bool = False


def whole(least: int) -> Kind:
    """A whole number, from `least` on."""
    return Kind(
        f"a whole number from {least} to {LARGEST}", "INTEGER", lambda v: type(v) is int and least <= v <= LARGEST, int
    )


def real(wants: str, valid: Callable[[float], bool]) -> Kind:
    """A finite number for which `valid` holds."""
    return Kind(wants, "NUMBER", lambda v: type(v) in (int, float) and abs(v) <= sys.float_info.max and valid(v), float)


def choice(*names: str) -> Kind:
    """One of `names`."""
    return Kind("one of " + ", ".join(names), "|".join(names), lambda v: v in names)


def is_text(value: Any) -> bool:
    """Whether it is text that file names and terminals take: no NUL and no lone surrogate."""
    return type(value) is str and not re.search("[\0\ud800-\udfff]", value)


def _is_names(value: Any) -> bool:
    return type(value) is list and bool(value) and all(is_text(name) and name for name in value)


def _bytes(text: str) -> int:
    """16GB, 15.6 GiB -> bytes."""
    unit = text.lstrip(" .0123456789")
    return int(min(float(text.removesuffix(unit)) * UNITS[unit.strip().lower()], 1 << 62))  # no int is infinite


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


SWITCH = Kind("True or False", "", lambda v: type(v) is bool, {"true": True, "false": False}.__getitem__)
OPTIONAL_TEXT = Kind("a text of whole characters", "TEXT", is_text)
OPTIONAL_PATH = Kind(OPTIONAL_TEXT.wants, "PATH", is_text, is_path=True)  # or a hub id, a URL, a schema's text
PATH = Kind("a non-empty text of whole characters", "PATH", lambda v: is_text(v) and bool(v.strip()), is_path=True)
SIZE = Kind("a size such as 16GB or 15.6GiB", "SIZE", lambda v: type(v) is int and v >= 0, _bytes)
NAMES = Kind("a list of names, with commas between them on the command line", "NAME,NAME", _is_names, _split)
OPTIONAL_NAMES = Kind(NAMES.wants, NAMES.shown, lambda v: v == [] or _is_names(v), _split)
