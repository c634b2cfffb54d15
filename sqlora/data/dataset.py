"""Rows of question, context and answer: from a file or the hub, checked, split, and tokenised."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from pathlib import Path

from sqlora.data.hub_dataset import read_dataset
from sqlora.data.row_files import SUFFIXES, check_columns, is_file, read_records, read_text
from sqlora.settings.settings import Settings
from sqlora.storage.atomic import replace_file
from sqlora.system.errors import UserError

Example = dict[str, str]  # those of EXTRA_DATA have a whole number beside the texts: weight
COLUMNS = ("question", "context", "answer")


def load_rows(path: str, setting: str, columns: tuple[str, ...] = COLUMNS) -> list[Example]:
    """Rows of a file (json array, jsonl, csv, parquet), of a folder of such files, or of a hub dataset's train split.

    Every row has the `columns`, each a non-empty text; an "answer" that is not asked for is kept where it is known.
    Raises UserError, naming `setting`, for a file that is missing, empty or malformed and for a row that lacks text.
    """
    where = f"{setting} ({path})"
    file = Path(path)
    check = check_row
    if is_file(file, where):
        records = read_records(file, columns, where)
    elif file.is_dir() or looks_like_hub_id(path):
        records, check = read_dataset(path, where), check_row_of_many
    else:
        raise UserError(f"{where}: no such file; name a {', '.join(SUFFIXES)} file or a hub id such as owner/name")
    rows = [check(record, number, columns, where) for number, record in enumerate(records, start=1)]
    if not rows:
        raise UserError(f"{where}: there is no row in it")
    return rows


def load_training_rows(settings: Settings) -> list[Example]:
    """The rows of DATA_PATH and, before them, those of EXTRA_DATA with EXTRA_WEIGHT as their "weight".

    They come first so that it is they that stay where a row stands twice. Raises UserError as `load_rows` does.
    """
    extra = load_rows(settings.EXTRA_DATA, "EXTRA_DATA (--extra-data)") if settings.EXTRA_DATA else []
    rows = load_rows(settings.DATA_PATH, "DATA_PATH (--data-path)")
    return [row | {"weight": settings.EXTRA_WEIGHT} for row in extra] + rows


def load_samples(settings: Settings) -> list[Example]:
    """The rows to answer: QUESTION with CONTEXT, or else those of TEST_DATA, with their answers where known.

    Raises UserError as `load_rows` does, for a CONTEXT that names a .sql file which cannot be read, and if EVALUATE
    asks for what no row has: the answer.
    """
    if not settings.QUESTION:
        rows = load_rows(settings.TEST_DATA, "TEST_DATA (--test-data)", ("question", "context"))
        if settings.EVALUATE and not any("answer" in row for row in rows):
            raise UserError(
                f"EVALUATE (--evaluate) is set, and no row of TEST_DATA (--test-data) {settings.TEST_DATA!r} has an "
                f"answer to compare with; add a column answer, or --no-evaluate"
            )
        return rows
    context = settings.CONTEXT
    if context.lower().endswith(".sql"):
        where = f"CONTEXT (--context) ({context})"
        if not is_file(context, where):
            raise UserError(f"{where}: no such file; name a .sql file that is there, or give CREATE TABLE text")
        context = read_text(Path(context), where)
    return [{"question": settings.QUESTION, "context": context}]


def write_rows(path: Path, rows: list[dict]) -> None:
    """One JSON object a line, in UTF-8; whole, or the file stays as it was."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def data_hash(rows: list[Example]) -> str:
    """Sixteen hexadecimal digits that change with any row or with their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def looks_like_hub_id(path: str) -> bool:
    return path.count("/") <= 1 and not path.lower().endswith(SUFFIXES) and path[0] not in "./~\\"


def check_row(record: object, number: int, columns: tuple[str, ...], where: str) -> Example:
    """The columns of a record. Raises UserError, which tells the row's number, if one is not there or is no whole
    text.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}: row {number} is a {type(record).__name__}, not an object with {', '.join(columns)}")
    check_columns(list(record), columns, f"{where}: row {number}")
    for column in columns:
        value = record[column]
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: row {number}: {column} is {value!r}; it must be a text that is not empty")
    kept = {column: record[column] for column in columns}
    if isinstance(record.get("answer"), str) and record["answer"].strip():
        kept["answer"] = record["answer"]
    for column, value in kept.items():
        if re.search("[\ud800-\udfff]", value):  # JSON can spell it; no file, terminal or tokenizer takes it
            raise UserError(
                f"{where}: row {number}: {column} is {value!r}, which holds half of a surrogate pair; mend the text"
            )
    return kept


def check_row_of_many(record: object, number: int, columns: tuple[str, ...], where: str) -> Example:
    """The same for a row of several files, which is shown, since its number does not tell in which it is."""
    try:
        return check_row(record, number, columns, where)
    except UserError as error:
        raise UserError(f"{error}; rows are numbered as they are read, and this one is {shortened(record)}") from None


def shortened(record: object) -> str:
    return textwrap.shorten(repr(record), 300, placeholder=" …")
