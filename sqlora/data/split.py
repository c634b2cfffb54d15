"""The validation split, and the rows that overlap a test file."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

from sqlora.data.dataset import PLAIN, Example, Reading, load_rows
from sqlora.sql import parsing
from sqlora.system.errors import UserError

Tie = tuple[str, ...]  # its kind, and what two rows must not share
TABLE_OR_SQL = "table or SQL"
COMMENT = re.compile(r"--|/\*|\{#")
PLACEHOLDER = re.compile(r"table(_name)?(_?\d{1,3})?", re.IGNORECASE)  # table names without meaning


def hold_out(rows: list[Example], holdout: str, reading: Reading = PLAIN) -> tuple[list[Example], dict[str, int]]:
    """The rows that share no table, SQL or question with the file `holdout`, and the number of others for each reason.

    A row with several reasons counts for the first. Raises UserError as `load_rows` does, and if no row is left.
    """
    if not holdout:
        return rows, {}
    reserved = Reserved(tested_ties(holdout, reading))
    reasons = [reserved.reason(row) for row in rows]
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    if not kept:
        raise UserError(
            f"HOLDOUT (--holdout) is {holdout!r}, and every row of the data shares a table, its SQL or its "
            f"question with it; train on other data, or leave HOLDOUT empty"
        )
    return kept, dict(Counter(reason for reason in reasons if reason))


def tested_ties(holdout: str, reading: Reading) -> set[Tie]:
    """What no training row may share with the file `holdout`; empty without one. Raises UserError as `load_rows`."""
    if not holdout:
        return set()
    tests = load_rows(holdout, "HOLDOUT (--holdout)", ("question", "context"), reading)
    return {tie for row in tests for tie in _all_ties(row)}


def validation_ties(rows: list[Example], separated_by: str) -> set[Tie]:
    """What no training row may share with validation `rows` that split_rows has `separated_by` tables or SQL."""
    return {tie for row in rows for tie in (_ties(row) if separated_by == TABLE_OR_SQL else _ties(row)[-1:])}


class Reserved:
    """Ties that no training row may have. Most rows have none, which their text shows without parsing."""

    def __init__(self, ties: set[Tie]):
        self.ties = ties
        # A name is unbroken in a context's text, except for quotes: its longest part is searched.
        self.words = {
            max((word for name in tie[1:] for word in re.findall(r"[a-z0-9_]+", name.lower())), key=len, default="")
            for tie in ties
            if tie[0] == "table"
        }
        self.letters = {_letters(tie[1]) for tie in ties if tie[0] == "SQL"}

    def reason(self, row: Example) -> str | None:
        """The kind of the first of these ties that a row has: table, SQL or question."""
        answer, context = row.get("answer", ""), row["context"].lower()
        if (
            any(word in context for word in self.words)
            or _letters(answer) in self.letters
            or COMMENT.search(answer)
            or _question(row) in self.ties
        ):
            return next((tie[0] for tie in _all_ties(row) if tie in self.ties), None)
        return None


def _letters(query: str) -> str:
    """The same for queries of one normal form, unless they have comments."""
    return re.sub(r"\W", "", query).lower()


def split_rows(rows: list[Example], validation_rows: int, seed: int) -> tuple[list[Example], list[Example], str]:
    """(training rows, validation rows, what they do not share), drawn by `seed`.

    Rows that share a table or their normalised SQL, or are linked by rows that do, form a group and stay together. A
    table is identified by its name, since a context may show only the columns that its query needs; a placeholder such
    as table_name_12, which is the name of thousands of unrelated tables, by its columns. Groups are drawn while they
    fit into `validation_rows`, and then the smallest that fills it. Groups with an EXTRA_DATA row always train, and so
    does the largest group: common table names join most rows of a multi-database dataset into one. If the other groups
    have too few rows, as with a single database, or are so large that training would lose a fifth of the data, as with
    two, rows are separated only by their SQL. Raises UserError if that is not possible either.
    """
    most = max(2 * validation_rows, len(rows) // 5)
    drawn: list[tuple[set[int], str]] = []
    kinds: tuple[tuple[str, Callable[[Example], list[Tie]]], ...] = (
        (TABLE_OR_SQL, _ties),
        ("SQL", lambda row: _ties(row)[-1:]),
    )
    for separated_by, ties in kinds:
        groups = _groups(rows, ties)
        groups.remove(max(groups, key=len))
        groups = [group for group in groups if not any("weight" in rows[i] for i in group)]
        if sum(map(len, groups)) >= validation_rows:
            drawn.append((_draw(groups, validation_rows, seed), separated_by))
            if len(drawn[-1][0]) <= most:
                break
    if drawn:
        held_out, separated_by = min(drawn, key=lambda rows_and_kind: len(rows_and_kind[0]))
        train = [row for i, row in enumerate(rows) if i not in held_out]
        return train, [rows[i] for i in sorted(held_out)], separated_by
    raise UserError(
        f"VALIDATION_ROWS (--validation-rows) is {validation_rows}, and the data has {len(rows)} rows, of which "
        f"{sum(map(len, groups))} can be held out; lower it, or add rows"
    )


def _draw(groups: list[list[int]], wanted: int, seed: int) -> set[int]:
    random.Random(seed).shuffle(groups)
    held_out: set[int] = set()
    for group in groups:
        if len(held_out) + len(group) <= wanted:
            held_out.update(group)
    if len(held_out) < wanted:
        smallest = min((group for group in groups if group[0] not in held_out), key=len)
        held_out.update(smallest)
    return held_out


def _groups(rows: list[Example], ties: Callable[[Example], list[Tie]]) -> list[list[int]]:
    """The indices of the rows, grouped by their ties, directly or through other rows."""
    parents = list(range(len(rows)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = i = parents[parents[i]]
        return i

    first: dict[Tie, int] = {}
    for i, row in enumerate(rows):
        for tie in ties(row):
            parents[root(i)] = root(first.setdefault(tie, i))
    groups: dict[int, list[int]] = {}
    for i in range(len(rows)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def _ties(row: Example) -> list[Tie]:
    """What a row must not share with the other split: its tables, or else its context's text, and last its SQL."""
    try:
        tables = parsing.parse_schema(row["context"]).tables
        ties: list[Tie] = [
            ("table", table.name.lower())
            if not PLACEHOLDER.fullmatch(table.name)
            else ("table", "", *sorted(column.name.lower() for column in table.columns))
            for table in tables
        ]
    except parsing.SqlError:
        ties = [("table", " ".join(row["context"].split()))]
    return [*ties, ("SQL", parsing.normalise_sql(row["answer"]))] if "answer" in row else ties


def _all_ties(row: Example) -> list[Tie]:
    return [*_ties(row), _question(row)]


def _question(row: Example) -> Tie:
    return ("question", *re.findall(r"\w+", row["question"].lower()))
