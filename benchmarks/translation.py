"""How many golds of a data set give SQLite's rows on PostgreSQL and MariaDB, in translation?

    python benchmarks/translation.py --folder database --golds dev.json [--show]

Each database of the folder, db_id/*.sqlite, is loaded into both servers, which it starts, and which must be installed.
Rows that tie at a LIMIT are all right. --show prints the golds that are refused or give other rows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import sqlalchemy

from sqlora.databases import dialect
from sqlora.databases.database_url import parse_url
from sqlora.databases.live import LiveDatabase
from sqlora.evaluation.gold_results import Gold
from sqlora.evaluation.real_databases import RealDatabase
from sqlora.sql import sandbox
from sqlora.sql.parsing import SqlError, parse_query, parse_schema
from sqlora.sql.sandbox import Value
from sqlora.sql.schema import Schema, Table
from tests import servers

TYPES = {"postgresql": ("DOUBLE PRECISION", "TEXT"), "mysql": ("DOUBLE", "VARCHAR(300)")}  # of numbers and texts


def column_type(kind: str, declared: str, values: Iterable[Value]) -> tuple[str, Callable[[Value], object]]:
    """The type of a column on a server of the kind, and what makes a value of SQLite's one of it."""
    known = [value for value in values if value is not None]
    number, text = TYPES[kind]
    if declared == "date" and known and all(re.fullmatch(r"\d{4}-\d\d-\d\d", str(value)) for value in known):
        return "DATE", str
    if declared == "boolean" and known and set(known) <= {0, 1}:
        return "BOOLEAN", bool
    if declared in ("integer", "boolean") and all(isinstance(value, int) for value in known):
        return "BIGINT", int
    if declared in ("integer", "real") and known and all(isinstance(value, int | float) for value in known):
        return number, float
    return text, lambda value: value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def load(server: servers.Server, name: str, database: RealDatabase, schema: Schema) -> str:
    """The URL of a new database of the server with the tables, their rows and primary keys."""
    engine = sqlalchemy.create_engine(parse_url(server.root), isolation_level="AUTOCOMMIT")
    quote = engine.dialect.identifier_preparer.quote
    with engine.connect() as connection:
        charset = " CHARACTER SET utf8mb4" if server.kind == "mysql" else ""
        connection.exec_driver_sql(f"CREATE DATABASE {quote(name)}{charset}")
    engine.dispose()
    url = parse_url(server.root).set(database=name)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        for table in schema.tables:
            load_table(connection, server.kind, table, database.run(f'SELECT * FROM "{table.name}"').rows)
    engine.dispose()
    return url.render_as_string(hide_password=False)


def load_table(connection: sqlalchemy.Connection, kind: str, table: Table, rows: list[tuple[Value, ...]]) -> None:
    quote = connection.dialect.identifier_preparer.quote
    names = [column.name.lower() for column in table.columns]
    types = [column_type(kind, column.type, [row[i] for row in rows]) for i, column in enumerate(table.columns)]
    parts = [f"{quote(column.name)} {name}" for column, (name, _) in zip(table.columns, types, strict=True)]
    primary = [names.index(name) for name in next(iter(table.keys), ()) if name in table.required]
    keys = [tuple(row[i] for i in primary) for row in rows]
    if primary and len(set(keys)) == len(keys) and not any(None in key for key in keys):
        parts.append(f"PRIMARY KEY ({', '.join(quote(table.columns[i].name) for i in primary)})")
    connection.exec_driver_sql(f"CREATE TABLE {quote(table.name)} ({', '.join(parts)})")
    stored = [
        tuple(None if cell is None else make(cell) for cell, (_, make) in zip(row, types, strict=True)) for row in rows
    ]
    if stored:
        placeholders = ", ".join(["%s"] * len(names))
        connection.exec_driver_sql(f"INSERT INTO {quote(table.name)} VALUES ({placeholders})", stored)


def comparable(value: Value) -> Value:
    """Numbers as numbers, wherever a server gives them as text or the other way round."""
    with contextlib.suppress(ValueError, TypeError):
        number = float(value)  # type: ignore[arg-type]
        return round(number, 6) if math.isfinite(number) else value
    return value


def try_gold(text: str, real: RealDatabase, schema: Schema, live: LiveDatabase) -> tuple[str, str]:
    """same, other, refused or, of a gold that SQLite refuses, none; and the translation or why there is none."""
    try:
        gold = Gold(parse_query(text, schema), schema)
        allowed = gold.allowed(real)
    except SqlError as error:
        return "none", str(error)
    translation = ""
    try:
        query, _ = sandbox.prepare(text, live.schema)
        translation = dialect.translate(query, live.schema, live.reflected.dialect, live.reflected.quoted)
        live.check(translation)
        rows = live.run(translation)[0].rows
    except SqlError as error:
        return "refused", f"{error}: {translation}"
    for choice in allowed.choices:
        choice.rows[:] = [tuple(map(comparable, row)) for row in choice.rows]
    return "same" if allowed.accepts([tuple(map(comparable, row)) for row in rows]) else "other", translation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--golds", type=Path, required=True)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    golds: dict[str, list[str]] = defaultdict(list)
    for row in json.loads(arguments.golds.read_text(encoding="utf-8")):
        golds[row["db_id"]].append(row.get("query") or row["SQL"])
    for kind in TYPES:
        counts: Counter[str] = Counter()
        with servers.started(kind) as server:
            for db_id, texts in golds.items():
                real = RealDatabase(next((arguments.folder / db_id).glob("*.sqlite")))
                schema = parse_schema(real.context)
                with LiveDatabase(load(server, db_id, real, schema), 10) as live:
                    for text in texts:
                        found, said = try_gold(text, real, schema, live)
                        counts[found] += 1
                        if arguments.show and found in ("other", "refused"):
                            print(f"{found}, {db_id}\n  {text}\n  {said}")
        tried = counts.total() - counts["none"]
        print(
            f"{kind}: {counts['same']:,} of {tried:,} golds give SQLite's rows, {100 * counts['same'] / tried:.1f} %;"
        )
        print(
            f"  {counts['refused']:,} are refused, {counts['other']:,} give others, {counts['none']:,} fail in SQLite"
        )


if __name__ == "__main__":
    main()
