"""The layouts in which data sets have their rows: known by their fields, and read as question, context and answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlora.data import free_text, wikisql
from sqlora.evaluation.database_schemas import DatabaseSchemas
from sqlora.system.console import note
from sqlora.system.errors import UserError

Record = dict[str, Any]
COLUMNS = ("question", "context", "answer")
PLAIN_CONTEXT = "plain_context"  # of a row whose context is a database's: the same without keys and comments
INSERTS = "inserts"  # the INSERT statements that a row's context came with
NAMED = (*COLUMNS, "db_id", "evidence")  # what COLUMNS (--columns) can name
QUESTIONS = ("question", "SpiderSynQuestion")
ANSWERS = ("answer", "query", "SQL", "sql")
EVIDENCE = ("evidence", "external_knowledge")
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
UNANSWERABLE = ("nan", "null", "none")  # in place of SQL, in EHRSQL
# An INSERT of a context, as gretel's rows have them: the rows of its tables.
INSERT = re.compile(r"INSERT\s+INTO\b(?:'(?:[^']|'')*'|[^';])*(?:;|\Z)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """name: for the user. fits: whether a record has it. read: the question, context, answer, evidence and db_id of a
    record of a file, as far as they are there; ValueError says why it is no row. A context that is missing is that of
    the db_id.
    """

    name: str
    fits: Callable[[Record], bool]
    read: Callable[[Record, Path | None], Record]


def first_text(record: Record, names: tuple[str, ...]) -> Any:
    """The first of the named fields that is a text with something in it, or else what the first of them is."""
    values = [record[name] for name in names if name in record]
    return next((value for value in values if isinstance(value, str) and value.strip()), next(iter(values), None))


def _own(record: Record, file: Path | None) -> Record:
    return {name: record[name] for name in NAMED if name in record}


def _of_database(record: Record, file: Path | None) -> Record:
    found = {"question": first_text(record, QUESTIONS[::-1]), "db_id": record["db_id"]}
    return found | {"answer": first_text(record, ANSWERS), "evidence": first_text(record, EVIDENCE)}


def _gretel(record: Record, file: Path | None) -> Record:
    found = {"question": record["sql_prompt"], "context": record["sql_context"], "answer": record.get("sql")}
    if isinstance(context := found["context"], str) and (inserts := "".join(INSERT.findall(context))):
        found |= {"context": INSERT.sub("", context).strip(), INSERTS: inserts}
    return found


def _instruction(record: Record, file: Path | None) -> Record:
    texts = [text for name in ("instruction", "input") if isinstance(text := record.get(name), str)]
    found: Record = free_text.question_and_schema(texts)
    if "context" not in found and record.get("db_id"):
        found["db_id"] = record["db_id"]
    return found | {"answer": free_text.without_fence(record.get("output"))}


def _messages(record: Record, file: Path | None) -> Record:
    said: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    for message in record.get("messages") or record.get("conversations") or []:
        role = ROLES.get(str(message.get("role") or message.get("from")))
        text = message.get("content") or message.get("value")
        if isinstance(text, list):  # in parts, as models that also see pictures have it
            text = "\n".join(part["text"] for part in text if part.get("type") == "text")
        if role and isinstance(text, str):
            said[role].append(text)
    if not said["user"] or not said["assistant"]:
        raise ValueError("it has no message of a user with an answer to it")
    found: Record = free_text.question_and_schema([*said["system"], said["user"][-1]])
    return found | {"answer": free_text.without_fence(said["assistant"][-1])}


def _has(*names: str) -> Callable[[Record], bool]:
    return lambda record: all(name in record for name in names)


def _asks_of_database(record: Record) -> bool:
    return "db_id" in record and any(name in record for name in QUESTIONS)


LAYOUTS = (
    Layout("question, context, answer", _has("question", "context"), _own),
    Layout("gretel's text-to-SQL", _has("sql_prompt", "sql_context"), _gretel),
    Layout("WikiSQL", wikisql.fits, wikisql.read),
    Layout("BIRD", lambda r: _asks_of_database(r) and "evidence" in r, _of_database),
    Layout("SynSQL", lambda r: _asks_of_database(r) and "external_knowledge" in r, _of_database),
    Layout("Spider-Syn", lambda r: _asks_of_database(r) and "SpiderSynQuestion" in r, _of_database),
    Layout("Spider and its kin", _asks_of_database, _of_database),
    Layout("chat messages", lambda r: isinstance(r.get("messages") or r.get("conversations"), list), _messages),
    Layout("Alpaca", _has("instruction", "input", "output"), _instruction),
    Layout("NSText2SQL", _has("instruction", "output"), _instruction),
)
OWN = LAYOUTS[0]


def parse_columns(text: str, name: str = "COLUMNS (--columns)") -> dict[str, str]:
    """`question=q,answer=gold` as {"question": "q", "answer": "gold"}. Raises UserError."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        ours, equals, theirs = (word.strip() for word in part.partition("="))
        if not equals or not theirs or ours not in NAMED or ours in found:
            raise UserError(f"{name} has {part!r}; write question=FIELD, and so for any of {', '.join(NAMED)}, once")
        found[ours] = theirs
    return found


class RowReader:
    """Reads the records of one file or data set, in the layout of the first of them.

    `named` has our columns with the fields that hold them, `schemas` the databases that rows name, `file` is where the
    records are, unless they are of a hub. `unanswerable` counts the records without the answer that they need.
    """

    def __init__(self, where: str, named: Mapping[str, str], schemas: DatabaseSchemas, file: Path | None) -> None:
        self.where, self.named, self.schemas, self.file = where, named, schemas, file
        self.layout: Layout | None = None
        self.unanswerable = 0

    def read(self, record: Record, number: int, columns: tuple[str, ...]) -> Record | None:
        """The row, or None for a question without an answer that needs one. Raises UserError.

        Its texts are as they are in the file: whether they are any is for the caller to check.
        """
        where = f"{self.where}: row {number}"
        lacking = [name for name in self.named.values() if name not in record]
        if lacking and (len(lacking) < len(self.named) or not any(layout.fits(record) for layout in LAYOUTS)):
            names = ", ".join(map(repr, lacking))
            raise UserError(f"{where} has no field {names}, which COLUMNS (--columns) names; it has {_list(record)}")
        if not lacking:
            record = record | {ours: record[theirs] for ours, theirs in self.named.items()}
        self.layout = self.layout or self._recognise(record, columns)
        if self.layout is OWN:
            return record
        try:
            found = self.layout.read(record, self.file)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(f"{where} is not as {self.layout.name} has it: {type(error).__name__} {error}") from None
        if _is_unanswerable(record, found):
            found["answer"] = None
            if "answer" in columns:
                self.unanswerable += 1
                return None
        if "context" in columns and not found.get("context"):
            if not isinstance(found.get("db_id"), str):
                raise UserError(f"{where} has no schema: neither CREATE TABLE text nor the db_id of a database")
            schema = self.schemas.schema(found["db_id"], where)
            found |= {"context": schema.ddl("described"), PLAIN_CONTEXT: schema.ddl()}
        return {name: value for name, value in found.items() if value is not None or name in columns}

    def say(self) -> None:
        """Tells the user what the records were taken for, unless they are our own."""
        if self.layout is not None and self.layout is not OWN:
            left_out = f"; {self.unanswerable:,} rows without an answer are left out" if self.unanswerable else ""
            note(f"{self.where}: read as {self.layout.name}{left_out}")

    def _recognise(self, record: Record, columns: tuple[str, ...]) -> Layout:
        for layout in LAYOUTS:
            if layout.fits(record):
                return layout
        missing = [name for name in columns if name not in record]
        wanted = ", ".join("context (or db_id)" if name == "context" else name for name in missing)
        flags = ",".join(f"{name}=FIELD" for name in missing)
        raise UserError(
            f"{self.where}: its rows have the fields {_list(record)}, and no {wanted}; name what is there with COLUMNS "
            f"(--columns {flags})"
        )


def _is_unanswerable(record: Record, found: Record) -> bool:
    answer = found.get("answer")
    return bool(record.get("is_impossible")) or (isinstance(answer, str) and answer.strip().lower() in UNANSWERABLE)


def _list(record: Record) -> str:
    return ", ".join(map(repr, record)) or "none"
