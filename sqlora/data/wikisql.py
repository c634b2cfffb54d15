"""WikiSQL's rows (Zhong et al. 2017, arXiv:1709.00103): a query as numbers, over a table of a .tables.jsonl file."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from sqlora.sql.schema import Column, Schema, Table, quote_name
from sqlora.storage.row_files import read_text
from sqlora.system.errors import UserError

AGGREGATES = ("", "MAX", "MIN", "COUNT", "SUM", "AVG")
OPERATORS = ("=", ">", "<")
SUFFIX = ".tables.jsonl"


def fits(record: dict[str, Any]) -> bool:
    """Whether a record is one of its rows."""
    sql = record.get("sql")
    return "question" in record and isinstance(sql, dict) and {"sel", "agg", "conds"} <= sql.keys()


def read(record: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """Question, context and answer of a record of a file, whose table is in it, or in a *.tables.jsonl beside the file.

    Raises ValueError if it is in neither, KeyError, IndexError or TypeError for a record that is damaged.
    """
    table = record.get("table")
    if not isinstance(table, dict):
        table = _tables(file).get(record["table_id"])
    if table is None:
        beside = f"beside {file.name}" if file else "there"
        raise ValueError(f"WikiSQL's table {record['table_id']!r} is in no *{SUFFIX} {beside}; put its file there")
    name = "table_" + re.sub(r"\W", "_", str(table.get("id") or record.get("table_id")))
    columns = _columns(table["header"], table["types"])
    schema = Schema((Table(name, columns),))
    return {"question": record["question"], "context": schema.ddl(), "answer": _query(record["sql"], name, columns)}


def _columns(header: list[str], types: list[str]) -> tuple[Column, ...]:
    """The columns; of several with one name the later ones get a number."""
    seen: dict[str, int] = {}
    columns = []
    for name, kind in zip(header, types, strict=True):
        name = " ".join(str(name).split()) or "column"
        seen[name.lower()] = number = seen.get(name.lower(), 0) + 1
        columns.append(Column(name if number == 1 else f"{name} {number}", "real" if kind == "real" else "text"))
    return tuple(columns)


def _query(sql: dict[str, Any], table: str, columns: tuple[Column, ...]) -> str:
    if min(sql["sel"], sql["agg"]) < 0:
        raise IndexError("sel or agg is below 0")
    selected = quote_name(columns[sql["sel"]].name)
    if aggregate := AGGREGATES[sql["agg"]]:
        selected = f"{aggregate}({selected})"
    conditions = sql["conds"]
    if isinstance(conditions, dict):  # as the hub has them
        conditions = zip(conditions["column_index"], conditions["operator_index"], conditions["condition"], strict=True)
    parts = [
        f"{quote_name(columns[number].name)} {OPERATORS[operator]} {_literal(value, columns[number].type)}"
        for number, operator, value in conditions
    ]
    where = f" WHERE {' AND '.join(parts)}" if parts else ""
    return f"SELECT {selected} FROM {quote_name(table)}{where}"


def _literal(value: Any, kind: str) -> str:
    text = str(value)
    if kind == "real" and re.fullmatch(r"-?\d+(\.\d+)?", text.replace(",", "")):
        return text.replace(",", "")
    return "'" + text.replace("'", "''") + "'"


def _tables(file: Path | None) -> dict[str, dict]:
    if file is None:
        return {}
    named = file.with_name(file.name.partition(".")[0] + SUFFIX)
    files = [named] if named.is_file() else sorted(file.parent.glob(f"*{SUFFIX}"))
    return {key: table for each in files for key, table in _read(each).items()}


@functools.lru_cache(maxsize=8)
def _read(file: Path) -> dict[str, dict]:
    try:
        tables = [json.loads(line) for line in read_text(file, str(file)).split("\n") if line.strip()]
        return {table["id"]: table for table in tables}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is not WikiSQL's file of tables ({type(error).__name__}: {error})") from None
