"""Rows with other names for their tables and columns, in question, context and answer: to teach copying."""

from __future__ import annotations

import random
import re

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
STYLES = {
    "snake": lambda words: "_".join(word.lower() for word in words),
    "Snake": lambda words: "_".join(word.capitalize() for word in words),
    "UPPER": lambda words: "_".join(word.upper() for word in words),
    "camel": lambda words: words[0].lower() + "".join(word.capitalize() for word in words[1:]),
    "Pascal": lambda words: "".join(word.capitalize() for word in words),
}
RESERVED = re.compile(r"(?i)(order|group|table|index|from|to|by|select|where|all|as|on|in|is|not|and|or|left|right)$")


def words_of(rows: list[dict]) -> list[str]:
    """The words of which the names in the rows' contexts are made."""
    names = {name.lower() for row in rows for name, _ in identifiers(row["context"])}
    return sorted({word for name in names for word in WORDS.findall(name) if len(word) > 3 and not word.endswith("s")})


def renamed(row: dict, words: list[str], generator: random.Random) -> dict:
    """The row in another spelling, and with other words in place of some that its question has too."""
    question, context, answer = row["question"], row["context"], row["answer"]
    names = {name.lower(): name for name, _ in identifiers(context)}
    if not names:
        return row
    values = " ".join(re.findall(r"'[^']*'|\"[^\"]*\"", answer)).lower()
    swaps: dict[str, str] = {}
    for word in sorted({word.lower() for name in names.values() for word in WORDS.findall(name)}):
        if (
            len(word) > 3
            and word not in values
            and re.search(rf"(?i)\b{word}s?\b", question)
            and generator.random() < 0.5
        ):
            swaps[word] = generator.choice(words)
    style = generator.choice([None, *STYLES])
    changed = {}
    for low, name in names.items():
        parts = [swaps.get(part.lower(), part) for part in WORDS.findall(name)]
        if not parts:
            return row
        joined = any(part.lower() in swaps for part in WORDS.findall(name))
        new = STYLES[style](parts) if style else STYLES["snake"](parts) if joined else name
        changed[low] = name if RESERVED.match(new) or new[0].isdigit() else new
    if len({name.lower() for name in changed.values()}) < len(changed):
        return row
    for word, other in swaps.items():
        question = re.sub(rf"(?i)\b{word}(s?)\b", lambda found, other=other: other + found[1], question)
    return row | {
        "question": question,
        "context": _replaced(context, changed),
        "answer": _replaced(answer, changed),
    }


def identifiers(sql: str) -> list[tuple[str, tuple[int, int]]]:
    """The names in SQL with their places; of a context those of tables and columns."""
    try:
        parsed = sqlglot.parse(sql, read="sqlite")
    except SqlglotError:
        return []
    return [
        (node.name, (node.meta["start"], node.meta["end"] + 1))
        for statement in parsed
        if statement
        for node in statement.find_all(exp.Identifier)
        if "start" in node.meta and not node.args.get("quoted")
    ]


def _replaced(sql: str, changed: dict[str, str]) -> str:
    for name, (start, end) in sorted(identifiers(sql), key=lambda found: -found[1][0]):
        sql = sql[:start] + changed.get(name.lower(), name) + sql[end:]
    return sql
