"""The values of a column in a synthetic database: what the queries say of it, and values drawn accordingly."""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlora.evaluation.conditions import ISO_DATE, Turning
from sqlora.sql.parsing import Literal, fits
from sqlora.sql.sandbox import Value

WORDS = ("amber", "Birch", "cedar", "Delta", "ember", "Fjord", "grove", "Haven", "iris", "Juniper", "kelp", "Lotus")
NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d+)?")


@dataclass
class Domain:
    """What the queries say about columns that share their values: they are compared, or have one name."""

    constants: list[Literal] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    turnings: list[Turning] = field(default_factory=list)
    samples: list[Value] = field(default_factory=list)
    is_numeric: bool = False
    is_tested: bool = False  # for NULL
    is_key: bool = False
    is_grouped: bool = False

    @property
    def is_constrained(self) -> bool:
        return bool(self.constants or self.turnings)

    def fitting(self, values: Sequence[Value]) -> list[Value]:
        """The values that are of the kind of the others: among numbers no other text."""
        if self.kind() not in ("integer", "real"):
            return list(values)
        numbers = [_number(value) if isinstance(value, str) else value for value in values]
        return [number for value, number in zip(values, numbers, strict=True) if number is not None or value is None]

    def kind(self) -> str:
        numbers = [_number(constant.value) is not None for constant in self.constants if not constant.pattern]
        plain = [c for c in self.constants if not c.pattern and not c.is_wrapped]
        if self.types & {"date", "timestamp"} and not self.is_numeric and all(_is_day(c.value) for c in plain):
            return "date"
        if self.types == {"time"} and not self.is_numeric and all(_clock(c.value) for c in plain):
            return "time"
        if "real" in self.types:
            return "real"
        if self.is_numeric or "integer" in self.types or (numbers and all(numbers)):
            return "integer"
        return "boolean" if self.types == {"boolean"} else "text"


class Pool:
    """Values of one domain in one database."""

    def __init__(self, domain: Domain, count: int, rng: random.Random) -> None:
        kind = domain.kind()
        self._random = rng
        self._near: list[list[Value]] = [list(_neighbours(constant, kind)) for constant in domain.constants]
        if kind == "date":
            self._near = [near for values in self._near if (near := list(filter(_is_day, values)))]
        for turning in domain.turnings:
            values = domain.fitting([*turning.meeting, *turning.failing])
            if any(value is not None for value in values):
                self._near.append([value for value in values if value is not None])
        self._kind = kind
        start = rng.randrange(3)
        self._others = [_spare(kind, number) for number in range(start, start + count)]
        if real := [value for value in domain.fitting(domain.samples) if value is not None]:
            self._others = rng.sample(real, min(len(real), max(2, count)))
        elif kind in ("integer", "real") and self._near and not domain.is_key:
            middle = rng.choice(self._near)[0]
            if isinstance(middle, int | float):
                numbers = [other for other in self._others if isinstance(other, int | float)]
                around = (middle + number - count // 2 for number in numbers)
                self._others = [number for number in around if isinstance(number, float) or fits(number)] or [middle]

    def near(self) -> Value:
        """Mostly a constant itself or what meets its condition, else a neighbour."""
        if not self._near:
            return self.any()
        values = self._random.choice(self._near)
        return values[0] if isinstance(values[0], str) and self._random.random() < 0.5 else self._random.choice(values)

    def any(self) -> Value:
        if self._near and self._random.random() < 0.4:
            return self._random.choice(self._random.choice(self._near))
        return self._random.choice(self._others)

    def spare(self, number: int) -> Value:
        """A value that is rarely drawn, another for each number."""
        return _spare(self._kind, 30 + number)

    def distinct(self, size: int) -> list[Value]:
        """`size` values, none twice; those that other tables draw from come first."""
        values = list(dict.fromkeys([values[0] for values in self._near] + self._others))
        known = set(values)
        values += [value for number in range(size + len(values)) if (value := _spare(self._kind, number)) not in known]
        values = values[:size]
        self._random.shuffle(values)
        return values


def _number(value: str | int | float) -> int | float | None:
    if not isinstance(value, str):
        return value
    if not NUMBER.fullmatch(value.strip()):
        return None
    return float(value) if "." in value else int(value)


def _neighbours(constant: Literal, kind: str) -> Iterator[Value]:
    """The constant, or for a pattern a text that it matches, and then what differs from it by little."""
    value, number = constant.value, _number(constant.value)
    if constant.pattern and isinstance(value, str):
        core = re.sub(r"[%_*?]", "", value) or "q"
        yield re.sub(r"[%*]", "", value).replace("_", "q").replace("?", "q")
        yield re.sub(r"[%*]", "ab", value).replace("_", "q").replace("?", "q")
        yield from (core, "z" + core, core + "z", "z" + core + "z", core[:-1], core.swapcase(), core[::-1])
    elif kind == "time" and (clock := _clock(value)):
        yield value
        yield from ((clock + datetime.timedelta(minutes=step)).strftime("%H:%M:%S") for step in (-1, 1, -60, 60))
    elif number is not None:
        yield from (near for near in (number, number - 1, number + 1) if isinstance(near, float) or fits(near))
        if kind == "real" or isinstance(number, float):
            yield from (number - 0.5, number + 0.5)
    elif isinstance(value, str) and ISO_DATE.match(value) and (day := _date(value)):
        yield value
        yield from (
            value.replace(value[:10], (day + datetime.timedelta(days)).isoformat()) for days in (-1, 1, -366, 366)
        )
    elif isinstance(value, str):
        yield from dict.fromkeys((value, value.swapcase(), value[:-1], value + "s", "a" + value))


def _is_day(value: Value) -> bool:
    return isinstance(value, str) and ISO_DATE.match(value) is not None


def _clock(value: object) -> datetime.datetime | None:
    """The time of day that a text such as 16:25 or 16:25:00 says, on some day."""
    try:
        return datetime.datetime.combine(datetime.date(2001, 1, 1), datetime.time.fromisoformat(str(value)))
    except ValueError:
        return None


def _date(text: str) -> datetime.date | None:
    try:
        day = datetime.date.fromisoformat(text[:10])
    except ValueError:
        return None
    return day if 1 < day.year < 9998 else None


def _spare(kind: str, number: int) -> Value:
    if kind == "date":
        return (datetime.date(2001, 1, 1) + datetime.timedelta(days=37 * number)).isoformat()
    if kind == "time":
        return f"{(8 + number) % 24:02}:{17 * number % 60:02}:00"
    if kind == "boolean":
        return number % 2
    if kind == "text":
        return WORDS[number % len(WORDS)] + (str(number // len(WORDS)) if number >= len(WORDS) else "")
    return number + 0.5 if kind == "real" and number % 2 else number
