"""Predictions, and golds, in the layouts that people have them in; and predictions written as others read them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlora.evaluation.database_schemas import DatabaseSchemas
from sqlora.storage.row_files import SUFFIXES, check_record, is_file, kind, read_records, read_text
from sqlora.system.errors import UserError

LINES = (".sql", ".txt")  # one query a line
BIRD = "\t----- bird -----\t"  # between a query and its db_id
GOLD_NAMES = ("answer", "query", "SQL", "sql")  # of the column with the gold: ours, Spider's, BIRD's
NO_ANSWER = "SELECT"  # where there is none, since the evaluators want a line for each question; it never runs
# a query as chat models write it, in Markdown
FENCE = re.compile(r"\A\s*```\w*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
LAYOUTS = ("spider", "bird")
ANSWERED = {"base", "adapter"}  # of generate.py's answers

Row = dict[str, Any]


def read_predictions(path: Path, gold: Path | None = None, folder: Path | None = None) -> list[Row]:
    """Rows of context, answer and prediction, and db_id where it is known, in the order of the file.

    The file has such rows, or answers of generate.py; or a query in each line (.sql, .txt); or is BIRD's, {"0":
    "SQL\\t----- bird -----\\tdb_id"}. What its rows lack is that of the same row of `gold`: lines of SQL<TAB>db_id, or
    rows as those of Spider's and BIRD's dev.json. A context that is nowhere is that of the row's database in `folder`.
    Raises UserError.
    """
    schemas = DatabaseSchemas(folder) if folder is not None else None
    lacking = ("answer", "context") if gold is not None else ("context",) if folder is not None else ()
    needed = tuple(name for name in ("context", "answer", "prediction") if name not in lacking)
    rows = _read(path, "prediction", needed, str(path))
    if gold is not None:
        golds = _read(gold, "answer", (), f"--gold {gold}")
        if len(golds) != len(rows):
            raise UserError(f"{path} has {len(rows):,} rows and --gold {gold} {len(golds):,}; they must be as many")
        given = ({name: value for name, value in row.items() if value is not None} for row in rows)
        rows = [{"prediction": None} | of_gold | row for of_gold, row in zip(golds, given, strict=True)]
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        if schemas and not row.get("context"):
            row["context"] = schemas.schema(str(row.get("db_id") or ""), where).ddl("described")
        _check(row, where, gold is None)
    if not rows:
        raise UserError(f"{path}: there is no row in it")
    return rows


def write_predictions(rows: Sequence[Row], layout: str, stream) -> None:
    """Writes the rows' predictions in one of LAYOUTS. Raises UserError if BIRD's lacks a db_id."""
    queries = [" ".join(str(strip_fence(row.get("prediction")) or NO_ANSWER).split("\n")) for row in rows]
    if layout == "spider":
        stream.write("".join(query.replace("\t", " ") + "\n" for query in queries))
        return
    for number, row in enumerate(rows, start=1):
        if not row.get("db_id"):
            raise UserError(f"--write-predictions bird: row {number} has no db_id, which that layout needs")
    numbered = zip(queries, rows, strict=True)
    json.dump({str(i): f"{query}{BIRD}{row['db_id']}" for i, (query, row) in enumerate(numbered)}, stream, indent=1)


def strip_fence(prediction: str | None) -> str | None:
    """The query that a chat model put into a Markdown fence, or the text as it is."""
    return FENCE.sub(r"\1", prediction) if isinstance(prediction, str) else None


def _read(path: Path, name: str, needed: tuple[str, ...], where: str) -> list[Row]:
    """The rows of a file, with the queries under `name`; rows of several columns must have those `needed`."""
    if not is_file(path, where):
        raise UserError(f"{where}: no such file; name a {', '.join((*SUFFIXES, *LINES))} file")
    if kind(path) in LINES:
        lines = read_text(path, where).removesuffix("\n").split("\n")
        return [_of_line(line, name) for line in lines]
    if kind(path) == ".json" and (numbered := _numbered(read_text(path, where))):
        return [_of_line(numbered[key].replace(BIRD, "\t"), name) for key in sorted(numbered, key=int)]
    records = [
        check_record(_with_prediction(row), needed, f"{where}: row {number}")
        for number, row in enumerate(read_records(path, needed, where, needed=False), start=1)
    ]
    if name == "prediction":
        return records
    for number, record in enumerate(records, start=1):
        found = next((record[known] for known in GOLD_NAMES if isinstance(record.get(known), str)), None)
        if found is None:
            raise UserError(f"{where}: row {number} has no gold query: none of {', '.join(GOLD_NAMES)} is a text")
        record["answer"] = found
    return records


def _with_prediction(record: object) -> object:
    """The row; of generate.py's answers with the adapter's SQL as the prediction, or the base's where there is none."""
    if not isinstance(record, dict) or "prediction" in record or not ANSWERED & record.keys():
        return record
    return record | {"prediction": record.get("adapter") or record.get("base")}


def _of_line(line: str, name: str) -> Row:
    """A query, and its db_id behind a tab."""
    query, tab, db_id = line.rpartition("\t")
    return {name: (query if tab else line).strip() or None} | ({"db_id": db_id.strip()} if tab else {})


def _numbered(text: str) -> dict[str, str] | None:
    """BIRD's predictions by their number; None if the text is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_numbered = isinstance(found, dict) and all(k.isdecimal() and isinstance(v, str) for k, v in found.items())
    return found if is_numbered else None


def _check(row: Row, where: str, needs_gold: bool) -> None:
    missing = [name for name in ("context", "answer") if name not in row]
    if missing:
        remedy = "; --gold names a file of golds" if needs_gold and "answer" in missing else ""
        remedy += "; --database-folder one of databases" if "context" in missing else ""
        raise UserError(f"{where} has no {', '.join(missing)}{remedy}")
    if not all(isinstance(row[name], str) for name in ("context", "answer")):
        raise UserError(f"{where}: context and answer must be texts")
    if not isinstance(row["prediction"], str | None):
        raise UserError(f"{where}: prediction must be a text, or null if there is none")
