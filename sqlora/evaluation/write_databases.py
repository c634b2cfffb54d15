"""Synthetic databases as files, FOLDER/db_id/*.sqlite, on which anybody's evaluator can compare queries."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlglot import exp

from sqlora.evaluation.gold_results import Gold
from sqlora.evaluation.judge import complete_schema
from sqlora.evaluation.pairs import usable
from sqlora.evaluation.real_databases import is_folder_name
from sqlora.evaluation.rules import Rule
from sqlora.evaluation.synthetic_databases import Rows, Synthesiser
from sqlora.sql.parsing import SqlError, parse_query, parse_schema
from sqlora.sql.sandbox import Database
from sqlora.sql.schema import Schema
from sqlora.storage.atomic import new_folder
from sqlora.system.errors import UserError

LEAST_WRITTEN, MOST_TRIED = 8, 40  # databases for a gold
GOLDS = "gold.sql"  # in the folder: SQL<TAB>db_id, a line for each row


def write(rows: Sequence[dict], folder: Path, rule: Rule) -> int:
    """Writes databases for the rows' golds, those that tell a gold from mutants of it by the rule, and returns how
    many.

    Golds of one db_id share its databases; a row without one has its own, row_00001 and so on. Golds that cannot be run
    have none. Raises UserError for a db_id that cannot be a folder's name, when the disk is full or the like.
    """
    grouped: dict[str, list[dict]] = {}
    names = [str(row.get("db_id") or f"row_{number:05}") for number, row in enumerate(rows, start=1)]
    for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1):
        if not is_folder_name(name):
            raise UserError(f"row {number} has the db_id {name!r}, which cannot be the name of a folder")
        grouped.setdefault(name, []).append(row)
    count = 0
    with new_folder(folder) as partial:
        for db_id, of_database in grouped.items():
            inside = partial / db_id
            inside.mkdir()
            for number, (schema, made) in enumerate(_of_one(of_database, rule)):
                count += 1
                with Database(schema, made) as database:
                    database.save(inside / f"{number:05}.sqlite")
        lines = (f"{' '.join(row['answer'].split())}\t{name}\n" for name, row in zip(names, rows, strict=True))
        (partial / GOLDS).write_text("".join(lines), encoding="utf-8", errors="replace")
    return count


def _of_one(rows: Sequence[dict], rule: Rule) -> Iterator[tuple[Schema, Rows]]:
    """The databases for the golds of one schema."""
    golds: list[exp.Query] = []
    try:
        schema = parse_schema(rows[0]["context"])
    except SqlError:
        return
    for text in dict.fromkeys(row["answer"] for row in rows):
        with contextlib.suppress(SqlError):
            golds.append(parse_query(text, schema))
            schema = complete_schema(schema, golds[-1])
    for query in golds:
        for made in _telling(query, schema, rule):
            yield schema, made


def _telling(query: exp.Query, schema: Schema, rule: Rule) -> Iterator[Rows]:
    """The first databases, and of more those that tell the query from a mutant which those before do not."""
    try:
        gold = Gold(query, schema)
        alive = rule.mutants(query, schema)
        synthesiser = Synthesiser(schema, [query], gold.sql, rule.nulls_anywhere)
        taken = 0
        for database, rows, allowed in itertools.islice(usable(synthesiser, gold, rule), MOST_TRIED):
            if allowed is None:
                continue
            left = {sql: kind for sql, kind in alive.items() if rule.passes(sql, allowed, database)}
            taken += 1
            if taken <= LEAST_WRITTEN or len(left) < len(alive):
                yield rows
            alive = left
            if not alive and taken >= LEAST_WRITTEN:
                return
    except SqlError:
        return
