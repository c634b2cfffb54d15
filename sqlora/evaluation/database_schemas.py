"""The schemas of a data set's databases, by db_id: from its SQLite files, or from Spider's and BIRD's tables.json, with
what tables.json and BIRD's database_description say of their columns.
"""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlora.evaluation.real_databases import databases_of, is_folder_name, open_file
from sqlora.sql.hidden import hide
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.sampling import FEW_ROWS, Sampled, first_rows, sample
from sqlora.sql.sandbox import Value
from sqlora.sql.schema import LONGEST_COMMENT, Column, Reference, Schema, Table, shortened
from sqlora.storage.row_files import read_text
from sqlora.system.console import note
from sqlora.system.errors import UserError

TABLES = ("tables.json", "*_tables.json", "tables_*.json")  # names of such files
TYPES = {  # of tables.json, Spider's and BIRD's; others are text
    "number": "real",
    "real": "real",
    "integer": "integer",
    "date": "date",
    "time": "timestamp",
    "datetime": "timestamp",
    "boolean": "boolean",
}
Comments = dict[tuple[str, str], str]  # by table and column, in lower case


class DatabaseSchemas:
    """The schemas of databases. `folder` has db_id/*.sqlite, or a tables.json in it or beside it, or is such a file.

    Without a folder it is the tables.json beside `rows`, a file of rows. The tables and columns that `hidden` names are
    left out. Raises UserError, with the setting or flag `name`, for a folder without any.
    """

    def __init__(
        self,
        folder: Path | None,
        rows: Path | None = None,
        name: str = "--database-folder",
        hidden: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.hidden = hidden
        self.folder = folder if folder and folder.is_dir() else None
        if folder and folder.is_file():
            self._files = [folder]
        else:
            beside = [folder, folder.parent] if folder else [rows.parent] if rows else []
            self._files = [file for place in beside for file in _tables_in(place)]
        self._schemas: dict[str, Schema] = {}
        if folder and not self._files and next(folder.glob("*/*.sqlite"), None) is None:
            lacking = "no db_id/*.sqlite or tables.json is in it" if self.folder else "there is no such folder"
            raise UserError(f"{name} is {str(folder)!r}, and {lacking}; name the folder above those of the db_ids")

    def schema(self, db_id: str, where: str) -> Schema:
        """The database's tables with their keys and comments. Raises UserError, beginning with `where`, if it is
        nowhere.
        """
        if db_id not in self._schemas:
            self._schemas[db_id] = hide(self._described(db_id, where), self.hidden)[0]
        return self._schemas[db_id]

    def sampled(self, db_id: str, where: str) -> Sampled:
        """The same with sample values, if it has a file with rows. Raises as `schema`."""
        schema, files = self.schema(db_id, where), self._files_of(db_id)
        if not files:
            return Sampled(schema, {})
        database = open_file(files[0])

        def read(table: Table) -> list[tuple[Value, ...]]:
            try:
                return database.run(first_rows(table).sql("sqlite")).rows
            except SqlError:  # such as more MiB than a result may have
                return database.run(first_rows(table, FEW_ROWS).sql("sqlite")).rows

        return sample(schema, read)

    def _described(self, db_id: str, where: str) -> Schema:
        """The database's tables with what is said of their columns, if their CREATE TABLE says nothing."""
        schema = self._read(db_id, where)
        described = _comments(self._listed.get(db_id)) | self._descriptions(db_id, schema, where)

        def column_of(table: Table, column: Column) -> Column:
            said = column.comment or described.get((table.name.lower(), column.name.lower()), "")
            return replace(column, comment=shortened(said, LONGEST_COMMENT))

        tables = (replace(t, columns=tuple(column_of(t, column) for column in t.columns)) for t in schema.tables)
        return replace(schema, tables=tuple(tables))

    def _descriptions(self, db_id: str, schema: Schema, where: str) -> Comments:
        """What the files of database_description say, as BIRD has them. Tells of descriptions of no column."""
        found: Comments = {}
        if self.folder and is_folder_name(db_id):
            for file in sorted((self.folder / db_id / "database_description").glob("*.csv")):
                found |= {(file.stem.strip().lower(), column): text for column, text in _read_descriptions(file)}
        known = _names(schema)
        if found and (odd := [f"{table}.{column}" for table, column in found if f"{table}.{column}" not in known]):
            more = f" and {len(odd) - 1:,} others" if len(odd) > 1 else ""
            note(f"{where}: the database_description of {db_id} describes {odd[0]}{more}, which the database has not")
        return found

    def _read(self, db_id: str, where: str) -> Schema:
        stored = self._stored(db_id, where)
        listed = self._listed.get(db_id)
        if stored and listed and _names(stored) != _names(listed):
            odd = sorted(_names(stored) ^ _names(listed))[0]
            note(f"{where}: the database {db_id} and its tables.json differ, in {odd} for one; the database counts")
        if schema := stored or listed:
            return schema
        places = [str(place) for place in (self.folder, *self._files) if place]
        lacking = f"which is not in {' or '.join(places)}" if places else "and there are no databases"
        raise UserError(f"{where} has the db_id {db_id!r}, {lacking}; {self.name} names a folder that has it")

    def _stored(self, db_id: str, where: str) -> Schema | None:
        """The schema of the database's files. Raises UserError if one cannot be read, or two have different ones."""
        files = self._files_of(db_id)
        schemas: dict[Schema, Path] = {}
        for file in files:
            try:
                database = open_file(file)
            except SqlError as error:
                raise UserError(f"{where}: {error}") from None
            try:
                schemas.setdefault(parse_schema(database.context), file)
            except SqlError:  # views alone, or what only SQLite reads
                schemas.setdefault(database.schema, file)
        if len(schemas) > 1:
            one, other = list(schemas.values())[:2]
            raise UserError(
                f"{where}: the database {db_id} has the files {one.name} and {other.name} with different tables; name "
                f"the right one {db_id}.sqlite"
            )
        return next(iter(schemas), None)

    def _files_of(self, db_id: str) -> list[Path]:
        files = databases_of(self.folder, db_id) if self.folder else []
        return [file for file in files if file.stem == db_id] or files

    @functools.cached_property
    def _listed(self) -> dict[str, Schema]:
        """The schemas of the tables.json files. Raises UserError for one that is malformed."""
        found: dict[str, Schema] = {}
        for file in self._files:
            try:
                entries = json.loads(read_text(file, str(file)))
                schemas = {entry["db_id"]: _schema_of(entry) for entry in entries}
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
                why = f"{type(error).__name__}: {error}"
                raise UserError(f"{file} is not a tables.json as Spider and BIRD have it ({why})") from None
            found = schemas | found
        return found


def _tables_in(folder: Path) -> list[Path]:
    return sorted({file for pattern in TABLES for file in folder.glob(pattern) if file.is_file()})


def _comments(schema: Schema | None) -> Comments:
    tables = schema.tables if schema else ()
    return {(t.name.lower(), c.name.lower()): c.comment for t in tables for c in t.columns if c.comment}


def _read_descriptions(file: Path) -> Iterator[tuple[str, str]]:
    """The columns that a file of BIRD's database_description names, in lower case, and what it says of them. Raises
    UserError for one that is no such file.
    """
    text = file.read_bytes().decode("utf-8-sig", "replace")  # BIRD's are in several encodings
    reader = csv.DictReader(text.replace("\0", "").splitlines(keepends=True))
    if "original_column_name" not in (reader.fieldnames or []):
        raise UserError(f"{file} has no column original_column_name, as BIRD's database_description have it; remove it")
    try:
        for record in reader:
            said = [(record.get(name) or "").strip() for name in ("column_description", "value_description")]
            said[0] = said[0] or _unlike(record["original_column_name"], record.get("column_name") or "")
            if described := "; ".join(dict.fromkeys(" ".join(one.split()) for one in said if one)):
                yield record["original_column_name"].strip().lower(), described
    except csv.Error as error:
        raise UserError(f"{file} cannot be read as CSV: {error}") from None


def _unlike(name: str, words: str) -> str:
    """The words, unless they are the name itself: `stuid` says nothing of StuID, `student id` does."""
    return "" if re.sub(r"\W|_", "", words.lower()) == re.sub(r"\W|_", "", name.lower()) else words.strip()


def _names(schema: Schema) -> set[str]:
    return {f"{t.name}.{c.name}".lower() for t in schema.tables for c in t.columns}


def _schema_of(entry: dict[str, Any]) -> Schema:
    """A database as tables.json describes it: columns are numbered, and keys are numbers of columns.

    Of a key of several columns Spider's has only the first; where that refers to another table it is not taken for one.
    """
    names: list[str] = entry["table_names_original"]
    columns: list[tuple[int, str]] = entry["column_names_original"]
    natural: list[tuple[int, str]] = entry.get("column_names") or columns
    primary = [key if isinstance(key, list) else [key] for key in entry.get("primary_keys", [])]
    foreign = entry.get("foreign_keys", [])
    keyed = {number for key in [*primary, *foreign] for number in key}

    def type_of(number: int) -> str:
        kind = TYPES.get(entry["column_types"][number], "text")
        return "integer" if kind == "real" and number in keyed else kind

    tables = []
    for place, name in enumerate(names):
        own = [number for number, (table, _) in enumerate(columns) if table == place]
        referring = {one for one, _ in foreign}
        mine = [key for key in primary if set(key) <= set(own) and (len(key) > 1 or key[0] not in referring)]
        keys = tuple(tuple(columns[number][1].lower() for number in key) for key in mine)
        references = tuple(
            Reference((columns[one][1].lower(),), names[columns[other][0]].lower(), (columns[other][1].lower(),))
            for one, other in foreign
            if one in own
        )
        required = frozenset(name for key in keys for name in key)
        listed = tuple(Column(columns[n][1], type_of(n), comment=_unlike(columns[n][1], natural[n][1])) for n in own)
        if listed and not name.lower().startswith("sqlite_"):
            tables.append(Table(name, listed, keys, required, references))
    return Schema(tuple(tables))
