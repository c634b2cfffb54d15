"""The schemas of a data set's databases, by db_id: from its SQLite files, or from Spider's and BIRD's tables.json."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from sqlora.evaluation.real_databases import databases_of, open_file
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.schema import Column, Reference, Schema, Table
from sqlora.storage.row_files import read_text
from sqlora.system.console import note
from sqlora.system.errors import UserError

TABLES = ("tables.json", "*_tables.json", "tables_*.json")  # names of such files
TYPES = {"text": "text", "number": "real", "time": "timestamp", "boolean": "boolean"}  # of tables.json; others are text


class DatabaseSchemas:
    """The schemas of databases. `folder` has db_id/*.sqlite, or a tables.json in it or beside it, or is such a file.

    Without a folder it is the tables.json beside `rows`, a file of rows. Raises UserError, with the setting or flag
    `name`, for a folder without any.
    """

    def __init__(self, folder: Path | None, rows: Path | None = None, name: str = "--database-folder") -> None:
        self.name = name
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
        """The database's tables with their keys. Raises UserError, beginning with `where`, if it is nowhere."""
        if db_id not in self._schemas:
            self._schemas[db_id] = self._read(db_id, where)
        return self._schemas[db_id]

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
        files = databases_of(self.folder, db_id) if self.folder else []
        files = [file for file in files if file.stem == db_id] or files
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


def _names(schema: Schema) -> set[str]:
    return {f"{t.name}.{c.name}".lower() for t in schema.tables for c in t.columns}


def _schema_of(entry: dict[str, Any]) -> Schema:
    """A database as tables.json describes it: columns are numbered, and keys are numbers of columns.

    Of a key of several columns Spider's has only the first; where that refers to another table it is not taken for one.
    """
    names: list[str] = entry["table_names_original"]
    columns: list[tuple[int, str]] = entry["column_names_original"]
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
        listed = tuple(Column(columns[number][1], type_of(number)) for number in own)
        if listed and not name.lower().startswith("sqlite_"):
            tables.append(Table(name, listed, keys, required, references))
    return Schema(tuple(tables))
