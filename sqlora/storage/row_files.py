"""The records of one file of rows: read, or refused with the line at fault, whatever the file holds."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import stat
import zlib
from pathlib import Path
from typing import Any, Literal

from sqlora.system.errors import UserError

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")  # also with .gz behind
OPTIONAL = ("answer", "db_id", "evidence")
QUOTED_FIELD = re.compile(r'(^|\t)"([^"]|"")*"(\t|$)', re.MULTILINE)
BEGINNING = 1 << 20  # characters by which it is seen how a .tsv file is written
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


def is_file(path: str | Path, where: str) -> bool:
    """Whether a file is there; False for a folder too. Raises UserError for a pipe, a device, and what cannot be looked
    at.
    """
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # a loop of links, a name too long, a folder that is closed; a NUL
        raise UserError(f"{where}: {getattr(error, 'strerror', None) or error}; name a file that can be read") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{where}: it is a pipe, a socket or a device; save the rows in a file and name that")
    return stat.S_ISREG(mode)


def kind(path: str | Path) -> str:
    """How the name ends, in lower case, but for .gz."""
    return Path(str(path).lower().removesuffix(".gz")).suffix


def read_text(file: Path, where: str) -> str:
    """The text of a UTF-8 file, without a byte order mark, with line feeds as line ends. Raises UserError."""
    data = _read_bytes(file, where)
    if data.startswith(UTF_16) or b"\0" in data:  # which no line of rows, SQL or questions has
        raise UserError(f"{where}: it is UTF-16 or UTF-32, or not text; save the file as UTF-8")
    try:
        return io.StringIO(data.decode("utf-8-sig"), newline=None).getvalue()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}: line {line}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def _read_bytes(file: Path, where: str) -> bytes:
    """The bytes of a file, decompressed if it is a .gz. Raises UserError."""
    try:
        data = file.read_bytes()
        return gzip.decompress(data) if file.name.lower().endswith(".gz") else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{where}: it is not a whole gzip file: {error}") from None
    except OSError as error:
        raise UserError(f"{where}: it cannot be read: {error.strerror}") from None


def read_records(file: Path, columns: tuple[str, ...], where: str, needed: bool = True) -> list[object]:
    """The records of a .json, .jsonl, .csv, .tsv or .parquet file; of a parquet file only `columns` are read.

    Raises UserError for a file that is malformed, lacks one of `columns` in its header, or has one of them twice.
    OPTIONAL ones are read where they are there. Unless the `columns` are `needed`, a file that lacks one is read whole.
    """
    if kind(file) not in SUFFIXES:
        raise UserError(f"{where}: unknown kind of file {file.suffix!r}; it must be one of {', '.join(SUFFIXES)}")
    if file.stat().st_size == 0:
        raise UserError(f"{where}: the file is empty")
    if kind(file) == ".parquet":
        return _read_parquet(file, columns, where, needed)
    text = read_text(file, where)
    if kind(file) in DELIMITERS:
        return _read_csv(text, columns, where, DELIMITERS[kind(file)], needed)
    return _read_array(text, where, kind(file)) or _read_lines(text, where)


def check_record(record: object, columns: tuple[str, ...], where: str) -> dict[str, Any]:
    """The record. Raises UserError, beginning with `where`, unless it is an object that has each of `columns` once."""
    if not isinstance(record, dict):
        raise UserError(
            f"{where} is of type {type(record).__name__}, not an object with {', '.join(columns) or 'fields'}"
        )
    check_columns(list(record), columns, where)
    return record


def check_columns(present: list[str], columns: tuple[str, ...], where: str, needed: bool = True) -> None:
    """Raises UserError that names all of `columns` that are not present, if they are `needed`; and for one of them, or
    where they are not all there for any, that is present twice.
    """
    missing = [column for column in columns if column not in present]
    if missing and needed:
        names = ", ".join(map(repr, missing))
        there = ", ".join(map(repr, present)) or "nothing"
        raise UserError(
            f"{where} has no column {names}, only {there}; rename or add {'it' if len(missing) == 1 else 'them'}"
        )
    read = filter(None, present) if missing else (*columns, *OPTIONAL)
    if twice := [column for column in read if present.count(column) > 1]:
        raise UserError(f"{where} has the column {twice[0]!r} twice; leave one out")


def _read_array(text: str, where: str, suffix: str) -> list[object] | None:
    """The rows of one array, whatever the file is called; None for one object a line."""
    if suffix == ".jsonl" and not text.lstrip().startswith("["):
        return None
    try:
        records = json.loads(text, object_pairs_hook=_without_double_keys)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and (suffix == ".jsonl" or text.lstrip().startswith("{")):
            return None
        raise _malformed(error, where, 1) from None
    except (RecursionError, ValueError) as error:
        raise _malformed(error, where) from None
    if isinstance(records, list) and (suffix == ".json" or all(isinstance(record, dict) for record in records)):
        if not records:
            raise UserError(f"{where}: there is no row in it")
        return records
    if suffix == ".json":
        raise UserError(
            f"{where}: a .json file must hold one array of rows; one object a line belongs in a .jsonl file"
        )
    return None


def _read_lines(text: str, where: str) -> list[object]:
    return [_parse_line(line, where, number) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _parse_line(line: str, where: str, number: int) -> object:
    try:
        return json.loads(line, object_pairs_hook=_without_double_keys)
    except (RecursionError, ValueError) as error:
        raise _malformed(error, where, number) from None


def _malformed(error: Exception, where: str, line: int | None = None) -> UserError:
    """Of what JSON does not allow, is nested too deeply, has a key twice, or is a number of thousands of digits."""
    location = where
    if line:
        location += f": line {line + error.lineno - 1 if isinstance(error, json.JSONDecodeError) else line}"
    return UserError(f"{location}: malformed JSON: {getattr(error, 'msg', error)}")


def _without_double_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice in one object")
    return record


def _read_csv(text: str, columns: tuple[str, ...], where: str, delimiter: str, needed: bool) -> list[object]:
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    stream = io.StringIO(text, newline="")
    has_quotes = delimiter == "," or quotes_fields(text)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE
    reader = csv.reader(stream, strict=True, delimiter=delimiter, quoting=quoting)
    header: list[str] = []
    records: list[object] = []
    begun = 1  # the line in which a row begins, which may have several
    try:
        for fields in reader:
            if fields and not header:
                header = _checked_header(fields, columns, where, delimiter, needed)
            elif len(fields) > len(header):
                raise UserError(
                    f"{where}: line {begun}: a row has more fields than the header; quote the fields that hold "
                    f"{'commas' if delimiter == ',' else 'tabs'}"
                )
            elif fields:
                records.append(dict.fromkeys(header) | dict(zip(header, fields, strict=False)))
            begun = reader.line_num + 1
    except csv.Error as error:
        unclosed = "unexpected end" in str(error)
        raise UserError(
            f"{where}: line {begun if unclosed else reader.line_num}: malformed CSV: "
            f"{'a quote is opened in this row and not closed' if unclosed else error}"
        ) from None
    return records


def quotes_fields(text: str) -> bool:
    """Whether a .tsv file of this text, or with this beginning, has fields in quotes; in others a quote is one of the
    text.
    """
    return QUOTED_FIELD.search(text) is not None


def read_beginning(file: Path) -> str:
    """The first characters of a file of rows, a .gz too. Raises OSError, or EOFError for a broken .gz."""
    opened = gzip.open if file.name.lower().endswith(".gz") else open
    with opened(file, "rt", encoding="utf-8", errors="replace") as stream:
        return stream.read(BEGINNING)


def _checked_header(fields: list[str], columns: tuple[str, ...], where: str, delimiter: str, needed: bool) -> list[str]:
    if len(fields) == 1 and len(columns) > 1:
        for separator, name in SEPARATORS.items():
            if separator != delimiter and separator in fields[0]:
                wanted = {",": "commas", "\t": "tabs"}[delimiter]
                raise UserError(f"{where}: its fields are parted by {name}; save it with {wanted}")
    check_columns(fields, columns, f"{where}: the header", needed)
    return fields


def _read_parquet(file: Path, columns: tuple[str, ...], where: str, needed: bool) -> list[object]:
    import pyarrow
    import pyarrow.parquet

    try:
        source = io.BytesIO(_read_bytes(file, where)) if file.name.lower().endswith(".gz") else file
        with pyarrow.parquet.ParquetFile(source) as parquet:
            names = parquet.schema_arrow.names
            check_columns(names, columns, f"{where}: the file", needed)
            is_whole = not needed and not set(columns) <= set(names)
            wanted = [name for name in dict.fromkeys(names if is_whole else (*columns, *OPTIONAL)) if name in names]
            table = parquet.read(columns=wanted)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{where}: not a readable parquet file: {error}") from None
    values = [_column_values(table, name, where) for name in wanted]
    return [dict(zip(wanted, row, strict=True)) for row in zip(*values, strict=True)]


def _column_values(table, name: str, where: str) -> list[object]:
    try:
        return table.column(name).to_pylist()
    except (ValueError, OverflowError) as error:  # bytes that are not UTF-8, dates beyond the year 9999
        raise UserError(f"{where}: column {name}: {error}; write it as UTF-8 text") from None
