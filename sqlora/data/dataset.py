"""Rows of question, context and answer, from a file, a folder or the hub, in whatever layout they are there."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlora.data.hub_dataset import read_dataset, train_files
from sqlora.data.layouts import COLUMNS, INSERTS, OWN, PLAIN_CONTEXT, RowReader, parse_columns
from sqlora.evaluation.database_schemas import DatabaseSchemas
from sqlora.settings.settings import Settings
from sqlora.storage.atomic import replace_file
from sqlora.storage.row_files import SUFFIXES, check_record, is_file, read_records, read_text
from sqlora.system.errors import UserError

# question, context and answer, each a text; evidence where a data set has hints, values that the question names, and
# db_id where there are databases; rows of EXTRA_DATA also have weight, a whole number
Example = dict[str, Any]
OPTIONAL = ("answer", "evidence", "values")


@dataclass(frozen=True)
class Reading:
    """How rows are read that are not question, context and answer: the settings COLUMNS, DATABASE_FOLDER and
    SCHEMA_HIDE.
    """

    columns: str = ""
    database_folder: Path | None = None
    hidden: tuple[str, ...] = ()

    def reader(self, where: str, file: Path | None = None) -> RowReader:
        """A reader of the records of one file, or of a hub's. Raises UserError for settings that cannot be."""
        return RowReader(where, parse_columns(self.columns), self.databases(file), file)

    def databases(self, file: Path | None) -> DatabaseSchemas:
        """The databases that the rows of a file name. Raises UserError if there are none in the folder."""
        return _databases(self, None if self.database_folder else file)  # which are the same for all files


@functools.cache
def _databases(reading: Reading, file: Path | None) -> DatabaseSchemas:
    return DatabaseSchemas(reading.database_folder, file, "DATABASE_FOLDER (--database-folder)", reading.hidden)


PLAIN = Reading()


def reading_of(settings: Settings) -> Reading:
    """How the settings say that rows are read."""
    folder = Path(settings.DATABASE_FOLDER) if settings.DATABASE_FOLDER else None
    return Reading(settings.COLUMNS, folder, tuple(settings.SCHEMA_HIDE))


def load_rows(
    path: str,
    setting: str,
    columns: tuple[str, ...] = COLUMNS,
    reading: Reading = PLAIN,
    optional: tuple[str, ...] = OPTIONAL,
) -> list[Example]:
    """Rows of a file (json array, jsonl, csv, tsv, parquet, or one of them as .gz), of a folder of such files, or of a
    hub dataset's train split, in any layout of layouts.py.

    Every row has the `columns`, each a non-empty text, and those that are `optional` where they are such texts. Raises
    UserError, with the name of `setting`, for a file that is missing, empty or malformed, and for a row without a text.

        load_rows("b-mc2/sql-create-context", "DATA_PATH (--data-path)")
    """
    where = f"{setting} ({path})"
    file = Path(path)
    if is_file(file, where):
        rows = _read_file(file, columns, optional, where, reading)
    elif file.is_dir() and (files := train_files(file, where)) is not None:
        rows = [row for each in files for row in _read_file(each, columns, optional, f"{where}: {each.name}", reading)]
    elif file.is_dir() or looks_like_hub_id(path):
        reader = reading.reader(where)
        records = enumerate(read_dataset(path, where), start=1)
        read = (check_row_of_many(record, number, columns, reader, optional) for number, record in records)
        rows = [row for row in read if row]
        reader.say()
    else:
        raise UserError(f"{where}: no such file; name a {', '.join(SUFFIXES)} file or a hub id such as owner/name")
    if not rows:
        raise UserError(f"{where}: there is no row in it")
    return rows


def _read_file(
    file: Path, columns: tuple[str, ...], optional: tuple[str, ...], where: str, reading: Reading
) -> list[Example]:
    reader = reading.reader(where, file)
    fields = (*columns, *reader.named.values())
    records = enumerate(read_records(file, fields, where, needed="context" not in columns), start=1)
    rows = [row for number, record in records if (row := read_row(record, number, columns, reader, optional))]
    reader.say()
    return rows


def load_training_rows(
    data_path: str, extra_data: str = "", extra_weight: float = 1, reading: Reading = PLAIN
) -> list[Example]:
    """The rows of `data_path` and, before them, those of `extra_data` with `extra_weight` as their "weight".

    They come first, so that of duplicates they are the ones that stay. Raises UserError as `load_rows` does.
    """
    extra = load_rows(extra_data, "EXTRA_DATA (--extra-data)", reading=reading) if extra_data else []
    rows = load_rows(data_path, "DATA_PATH (--data-path)", reading=reading)
    return [row | {"weight": extra_weight} for row in extra] + rows


def load_samples(settings: Settings) -> list[Example]:
    """The rows to answer: QUESTION with CONTEXT, or those of TEST_DATA, with their answers where known, and the db_id
    that DATABASE_FOLDER needs.

    Raises UserError as `load_rows` does, for a CONTEXT whose .sql file cannot be read, and for EVALUATE if no row has
    an answer.
    """
    if not settings.QUESTION:
        optional = (*OPTIONAL, "db_id") if settings.DATABASE_FOLDER else OPTIONAL
        columns, reading = ("question", "context"), reading_of(settings)
        rows = load_rows(settings.TEST_DATA, "TEST_DATA (--test-data)", columns, reading, optional)
        if settings.EVALUATE and not any("answer" in row for row in rows):
            raise UserError(
                f"EVALUATE (--evaluate) is set, and no row of TEST_DATA (--test-data) {settings.TEST_DATA!r} has an "
                f"answer to compare with; add a column answer, or --no-evaluate"
            )
        return rows
    context = settings.CONTEXT
    if context.lower().endswith(".sql") or os.path.isfile(context):
        where = f"CONTEXT (--context) ({context})"
        if not is_file(context, where):
            raise UserError(f"{where}: no such file; name an existing .sql file, or give CREATE TABLE text")
        context = read_text(Path(context), where)
    if not context.strip():
        raise UserError(
            "CONTEXT (--context) is empty; give the CREATE TABLE text of the question's tables, or its file"
        )
    return [{"question": settings.QUESTION, "context": context}]


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """Writes one JSON object per line, in UTF-8; the file is written whole, or stays as it was."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def data_hash(rows: list[Example]) -> str:
    """Sixteen hexadecimal digits that change with any row or with their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def looks_like_hub_id(path: str) -> bool:
    """Whether it can be a hub id such as owner/name, and not a path."""
    is_file_name = path.lower().removesuffix(".gz").endswith(SUFFIXES)
    return path.count("/") <= 1 and not is_file_name and path[0] not in "./~\\"


def read_row(
    record: object, number: int, columns: tuple[str, ...], reader: RowReader, optional: tuple[str, ...] = OPTIONAL
) -> Example | None:
    """A record's row, or None for a question without the answer that is needed. Raises UserError, with the row's
    number, for what is missing or not a text.
    """
    where = reader.where
    found: object = record
    if "context" in columns:  # else it is no row of a data set
        found = reader.read(check_record(record, (), f"{where}: row {number}"), number, columns)
        if found is None:
            return None
        optional = optional if reader.layout is OWN else (*optional, "db_id", PLAIN_CONTEXT, INSERTS)
    return check_row(found, number, columns, where, optional)


def check_row(
    record: object, number: int, columns: tuple[str, ...], where: str, optional: tuple[str, ...] = OPTIONAL
) -> Example:
    """The columns of a record. Raises UserError, with the row's number, if one is missing or not a text."""
    record = check_record(record, columns, f"{where}: row {number}")
    for column in columns:
        value = record[column]
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: row {number}: {column} is {value!r}; it must be a text that is not empty")
    row = {column: record[column] for column in columns}
    for column in optional:
        if isinstance(record.get(column), str) and record[column].strip():
            row[column] = record[column]
    for column, value in row.items():
        if re.search("[\ud800-\udfff]", value):  # valid in JSON, but not in files, terminals or tokenizers
            raise UserError(
                f"{where}: row {number}: {column} is {value!r}, which holds half of a surrogate pair; correct the text"
            )
    return row


def check_row_of_many(
    record: object, number: int, columns: tuple[str, ...], reader: RowReader, optional: tuple[str, ...] = OPTIONAL
) -> Example | None:
    """As `read_row` for a row of several files; the error shows the row, since its number does not say in which
    file.
    """
    try:
        return read_row(record, number, columns, reader, optional)
    except UserError as error:
        raise UserError(f"{error}; rows are numbered as they are read, and this one is {shortened(record)}") from None


def shortened(record: object) -> str:
    """The record as text of at most 300 characters."""
    return textwrap.shorten(repr(record), 300, placeholder=" …")
