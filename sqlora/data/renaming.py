"""Copies of training rows with other names for their tables and columns, in question, context and SQL alike.

A model that has seen a hundred schemas learns their names by heart; names that it cannot know teach it to copy.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sqlora.data.dataset import Example
from sqlora.data.layouts import PLAIN_CONTEXT
from sqlora.sql.parsing import SqlError, parse_query, parse_schema
from sqlora.sql.translation import as_sqlite

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")  # in a name, with _ or capitals between words
SPELLINGS: tuple[Callable[[list[str]], str], ...] = (
    lambda words: "_".join(word.lower() for word in words),
    lambda words: "_".join(word.capitalize() for word in words),
    lambda words: "_".join(word.upper() for word in words),
    lambda words: words[0].lower() + "".join(word.capitalize() for word in words[1:]),
    lambda words: "".join(word.capitalize() for word in words),
)
LEAST = 4  # letters of a word that is replaced
REPLACED = 0.5  # share of the words that a question has too which are replaced


def renamed_copies(rows: list[Example], copies: int, seed: int, dialect: str = "sqlite") -> list[Example]:
    """So many copies of each row, each with names of its own; the words come from the names of all `rows`, whose SQL is
    in a `dialect`.

    There is none of a row with the schema of a database, which training varies by itself, of one with a hint or values,
    which may name columns too, or of one that would no longer be read as it was.
    """
    own = [row for row in rows if not {PLAIN_CONTEXT, "evidence", "values"} & row.keys()]
    words = _vocabulary(own) if copies else []
    made = (
        _renamed(row, words, random.Random(f"{seed} {copy} {number}"), dialect)
        for copy in range(copies)
        for number, row in enumerate(own)
    )
    return [row for row in made if row]


def _vocabulary(rows: list[Example]) -> list[str]:
    names = {name.lower() for context in {row["context"] for row in rows} for name, _, _ in _names(context, "sqlite")}
    return sorted({word for name in names for word in WORD.findall(name) if len(word) >= LEAST and word[-1] != "s"})


def _renamed(row: Example, words: list[str], generator: random.Random, dialect: str) -> Example | None:
    question, context, answer = row["question"], row["context"], row["answer"]
    names = {name.lower(): WORD.findall(name) for name, _, _ in _names(context, "sqlite")}
    values = " ".join(re.findall(r"'[^']*'|\"[^\"]*\"", answer)).lower()
    swapped = {
        word: generator.choice(words)
        for word in sorted({word.lower() for parts in names.values() for word in parts})
        if len(word) >= LEAST
        and word not in values  # a value stays as it is, in the question too
        and re.search(rf"\b{word}s?\b", question, re.IGNORECASE)
        and generator.random() < REPLACED
    }
    spell = generator.choice(SPELLINGS)
    changed = {
        name: spell([swapped.get(word.lower(), word) for word in parts]) for name, parts in names.items() if parts
    }
    if len({name.lower() for name in changed.values()}) < len(names):
        return None
    for word, other in swapped.items():
        question = re.sub(rf"\b{word}(s?)\b", rf"{other}\1", question, flags=re.IGNORECASE)
    context, answer = _replaced(context, changed, "sqlite"), _replaced(answer, changed, dialect)
    try:
        parse_query(as_sqlite(answer, dialect), parse_schema(context))
    except SqlError:
        return None
    return row | {"question": question, "context": context, "answer": answer}


def _replaced(sql: str, changed: dict[str, str], dialect: str) -> str:
    for name, start, end in sorted(_names(sql, dialect), key=lambda found: -found[1]):
        sql = sql[:start] + changed.get(name.lower(), name) + sql[end:]
    return sql


def _names(sql: str, dialect: str) -> Iterator[tuple[str, int, int]]:
    """The unquoted names in SQL, each with its first place and the one behind its last."""
    try:
        parsed = sqlglot.parse(sql, read=dialect)
    except SqlglotError:
        return
    for statement in parsed:
        for node in statement.find_all(exp.Identifier) if statement else ():
            if "start" in node.meta and not node.args.get("quoted"):
                yield node.name, node.meta["start"], node.meta["end"] + 1
