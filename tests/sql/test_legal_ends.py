"""The end of a query: from every beginning of the demo's queries there is one, and SQLite prepares it."""

import contextlib
import json
import random
import sqlite3
from pathlib import Path

import pytest

from sqlora.sql.legal_ends import ending
from sqlora.sql.legal_text import SqlGuard
from sqlora.sql.parsing import parse_schema

DEMO = Path(__file__).parents[2] / "demo" / "test.jsonl"
SINGER = SqlGuard(parse_schema("CREATE TABLE singer (name TEXT, age INTEGER)"), strict=True)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("SELECT name FROM singer", ""),
        ("SELECT nam", "e FROM singer"),
        ("SELECT name FROM singer WHERE name = 'An", "'"),
        ("SELECT MAX(age", ") FROM singer"),
        ("SELECT (((age", "))) FROM singer"),
    ],
)
def test_it_is_short(start, end):
    state = SINGER.after(SINGER.start, start)
    assert state is not None
    found = ending(SINGER, state)
    assert found is not None
    assert " ".join(found.split()) == end.strip()


def test_every_beginning_has_one():
    draw = random.Random(0)
    rows = [json.loads(line) for line in DEMO.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        guard = SqlGuard(parse_schema(row["context"]), strict=True)
        start = row["answer"][: draw.randrange(len(row["answer"]))]
        state = guard.after(guard.start, start)
        assert state is not None
        found = ending(guard, state)
        assert found is not None, start
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            database.executescript(row["context"])
            database.execute(f"EXPLAIN {start}{found}")
