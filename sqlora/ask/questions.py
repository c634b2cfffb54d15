"""Questions to a live database: the tables that a model is shown, the SQL that the database takes, the rows that it
gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from sqlora.ask.schema_linking import Linker, few, pick_tables
from sqlora.data import dataset
from sqlora.data.row_files import is_file, kind, read_text
from sqlora.databases import dialect
from sqlora.databases.live import LiveDatabase, open_database
from sqlora.generation import answer_writer, self_consistency
from sqlora.generation.answer_journal import Journal
from sqlora.generation.self_consistency import Candidate
from sqlora.model import architecture
from sqlora.prompt import encoding
from sqlora.settings.settings import Settings
from sqlora.sql import sandbox
from sqlora.sql.parsing import SqlError
from sqlora.sql.sandbox import QueryResult
from sqlora.sql.schema import Schema
from sqlora.system import distributed
from sqlora.system.console import console, note, plain, print_csv, print_facts, print_json, progress_bar
from sqlora.system.errors import UserError

WRITER = "database"  # whose queries a journal keeps, as it does those of base and adapter to TEST_DATA
SHOWN_ROWS = 50
SHOWN_CHARACTERS = 500  # of a cell, in a table
COLUMN_WIDTH = 6  # characters that a column of a table needs at least


@dataclass(frozen=True)
class Asked:
    """A question, the tables that the model is shown for it, and their text."""

    question: str
    shown: Schema
    context: str


@dataclass(frozen=True)
class LiveAnswer:
    """A question's SQL in the database's dialect, or as the model wrote it where it has a `fault`.

    `context` is what the model saw, `left_out` the tables that did not fit, `passed_over` candidates with their faults.
    """

    question: str
    context: str
    sql: str
    fault: str | None
    left_out: tuple[str, ...]
    passed_over: tuple[tuple[str, str], ...]


class Asker:
    """A model and a live database; `tables` is what the model is shown, or may be shown where all do not fit."""

    def __init__(self, live: LiveDatabase, model, tokenizer, settings: Settings) -> None:
        self.live = live
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.writer = answer_writer.SqlWriter(model, tokenizer, settings)
        self.see(settings.TABLES)

    def see(self, names: list[str]) -> None:
        """From now on the model is shown these tables, or with none all. Raises UserError for one that is not there."""
        self.is_picked = bool(names)
        self.tables = pick_tables(self.live.schema, names) if names else self.live.schema
        self.linker = Linker(self.tables, self.live.reflected.links, self._count)

    def ask(self, questions: list[str]) -> list[LiveAnswer]:
        """An answer to each. All prompts go through the model together, so that a schema that they share does so
        once.
        """
        return self.answer(self.asked(questions))

    def asked(self, questions: list[str]) -> list[Asked]:
        """What the model is shown for each question."""
        return [Asked(question, schema, schema.ddl()) for question in questions for schema in [self._choose(question)]]

    def answer(self, asked: list[Asked], kept: Journal | None = None) -> list[LiveAnswer]:
        """The same for what the model is shown; queries that are `kept` from an earlier run are not written again."""
        rows = [{"question": one.question, "context": one.context} for one in asked]
        written = {i: kept.found[WRITER, i] for i in range(len(rows)) if (WRITER, i) in kept.found} if kept else {}
        missing = [i for i in range(len(rows)) if i not in written]
        with progress_bar() as bar:
            task = bar.add_task("writing SQL", total=len(rows), completed=len(written))

            def ended(place: int, candidates: list[Candidate]) -> None:
                if kept:
                    kept.add(WRITER, missing[place], candidates)
                bar.advance(task)

            written |= zip(missing, self.writer.candidates([rows[i] for i in missing], ended, missing), strict=True)
        return [self._answer(one, written[i]) for i, one in enumerate(asked)]

    def _choose(self, question: str) -> Schema:
        if self.is_picked:
            return self.tables
        (empty,) = encoding.encode_prompts(
            self.tokenizer, [{"question": question, "context": ""}], self.settings.PROMPT_ORDER
        )
        room = architecture.longest_row(self.model.config) - self.settings.MAX_NEW_TOKENS - len(empty)
        return self.linker.choose(question, room)

    def _count(self, texts: list[str]) -> list[int]:
        return [
            len(ids) for ids in self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ]

    def _answer(self, asked: Asked, candidates: list[Candidate]) -> LiveAnswer:
        """The candidate with most votes among those that the database would take, or the likeliest with its fault."""
        texts: dict[str, str] = {}
        faults: dict[str, str] = {}
        for sql in dict.fromkeys(candidate.sql for candidate in candidates):
            try:
                texts[sql] = self._check(sql)
            except SqlError as error:
                faults[sql] = str(error)
        left_out = tuple(table.name for table in self.tables.tables if asked.shown.table(table.name) is None)
        taken = [candidate for candidate in candidates if candidate.sql in texts]
        best = taken[self_consistency.vote(asked.context, taken) or 0].sql if taken else candidates[0].sql
        fault = faults.pop(best, None)
        return LiveAnswer(asked.question, asked.context, texts.get(best, best), fault, left_out, tuple(faults.items()))

    def _check(self, sql: str) -> str:
        """A candidate in the database's dialect. Raises SqlError, which names a table or column that is not there."""
        schema, found = self.live.schema, self.live.reflected
        query, text = sandbox.prepare(sql, schema)
        if found.dialect != "sqlite":
            text = dialect.translate(query, schema, found.dialect, found.quoted)
        self.live.check(text)
        return text


def connect(settings: Settings) -> LiveDatabase:
    """The database that DATABASE names, and a few words about it. Raises UserError."""
    if not (settings.QUESTION or settings.QUESTIONS or settings.INTERACTIVE):
        raise UserError(
            "DATABASE (--database) is given without a question; add --question, --questions FILE or --interactive"
        )
    if distributed.is_distributed():
        raise UserError("DATABASE (--database) is answered by one process; start generate.py without a launcher")
    if settings.FORMAT != "table":
        console.stderr = True  # what is printed beside the rows must not stand among them
    live = open_database(settings.DATABASE, settings.QUERY_SECONDS)
    found = live.reflected
    if settings.EXECUTE and not live.runs:
        raise UserError(
            f"EXECUTE (--execute) is set, and SQLoRA cannot open a {found.name} database for reading only; leave it "
            f"out, and run the SQL yourself"
        )
    pick_tables(found.schema, settings.TABLES)
    columns = sum(len(table.columns) for table in found.schema.tables)
    print_facts({"database": f"{found.shown_url}: {len(found.schema.tables):,} tables, {columns:,} columns"})
    for name, why in found.unreadable.items():
        note(f"{name} cannot be read and is left out: {why}")
    return live


def load_questions(settings: Settings) -> list[dataset.Example]:
    """QUESTION, or those of the file QUESTIONS: lines of text, or rows with a question. Raises UserError."""
    if not settings.QUESTIONS:
        return [{"question": settings.QUESTION}] if settings.QUESTION else []
    where = f"QUESTIONS (--questions) ({settings.QUESTIONS})"
    path = Path(settings.QUESTIONS)
    if kind(path) != ".txt":
        return dataset.load_rows(settings.QUESTIONS, "QUESTIONS (--questions)", ("question",))
    if not is_file(path, where):
        raise UserError(f"{where}: no such file; name a .txt file with a question a line, or a file of rows")
    lines = read_text(path, where).split("\n")
    rows = [{"question": line.strip()} for line in lines if line.strip()]
    if not rows:
        raise UserError(f"{where}: there is no question in it")
    return rows


def answer_questions(
    asker: Asker, rows: list[dataset.Example], settings: Settings, keep: Callable[[list[tuple[str, str]]], Journal]
) -> None:
    """Answers each row's question on standard output, and in OUTPUT, which is written first.

    The Journal that `keep` opens keeps the queries as they are written. Raises UserError if no question could be
    answered.
    """
    asked = asker.asked([row["question"] for row in rows])
    with keep([(one.question, one.context) for one in asked]) as kept:
        answers = asker.answer(asked, kept)
        records = (_record(asker, answer, settings) for answer in answers)
        if settings.OUTPUT:
            records = list(records)
            dataset.write_rows(Path(settings.OUTPUT), records)
        faults = []
        for answer, record in zip(answers, records, strict=True):
            _show(answer, record, settings)
            faults += [record] if "fault" in record else []
    kept.remove()
    if len(faults) == len(rows):
        raise UserError(
            f"no SQL that the database takes: {faults[0]['fault']}: {faults[0]['sql']}; ask in other words, or write "
            f"several queries with NUM_CANDIDATES (--num-candidates)"
        )


def _record(asker: Asker, answer: LiveAnswer, settings: Settings) -> dict[str, Any]:
    """An answer as a row of OUTPUT: the SQL and, with EXECUTE, its rows, or its fault."""
    record: dict[str, Any] = {"question": answer.question, "context": answer.context, "sql": answer.sql}
    if answer.fault:
        return record | {"fault": answer.fault}
    if not settings.EXECUTE:
        return record
    try:
        result, more = asker.live.run(answer.sql)
    except SqlError as error:
        return record | {"fault": str(error)}
    return record | {"columns": result.columns, "rows": result.rows, "more": more}


def _show(answer: LiveAnswer, record: dict[str, Any], settings: Settings) -> None:
    """Prints an answer and the rows of its record."""
    console.print(plain(answer.question, "bold"))
    print_answer(answer)
    if "rows" in record:
        print_rows(QueryResult(record["columns"], record["rows"]), record["more"], settings.FORMAT)
    elif "fault" in record and not answer.fault:
        console.print(plain(f"  it did not run: {record['fault']}", "red"))
    if settings.FORMAT == "json":
        print_json({name: value for name, value in record.items() if name != "context"})


def print_answer(answer: LiveAnswer) -> None:
    """The SQL, its fault, and what the model could not see or wrote in vain."""
    console.print(plain(f"  {answer.sql or '(nothing)'}", "cyan"), soft_wrap=True)
    for sql, fault in answer.passed_over:
        console.print(plain(f"  passed over: {fault}: {sql}", "dim"), soft_wrap=True)
    if answer.fault:
        console.print(plain(f"  it does not fit the database: {answer.fault}", "red"), soft_wrap=True)
    if answer.left_out:
        note(
            f"the whole schema does not fit into the prompt; left out are {len(answer.left_out):,} tables: "
            f"{few(answer.left_out)}; TABLES (--tables) chooses"
        )


def print_rows(result: QueryResult, more: bool, form: str) -> None:
    """A result as `form`, a value of FORMAT, says; json is left to the caller, who knows more of it."""
    count = len(result.rows)
    cut = f"there are more than {count:,} rows; the others were not fetched"
    if form == "csv":
        print_csv(result.columns, result.rows)
    if form != "table":
        if more:
            note(cut)
        return
    columns = max(1, console.width // COLUMN_WIDTH)
    table = Table(show_edge=False, header_style="bold", pad_edge=False)
    for name in result.columns[:columns]:
        table.add_column(_cell(name), overflow="fold")
    for row in result.rows[:SHOWN_ROWS]:
        table.add_row(*map(_cell, row[:columns]))
    console.print(table)
    rest = f"and {count - SHOWN_ROWS:,} more" if count > SHOWN_ROWS else f"{count:,} row{'s' if count != 1 else ''}"
    if len(result.columns) > columns:
        rest += f"; {columns:,} of {len(result.columns):,} columns"
    if any(len(str(value)) > SHOWN_CHARACTERS for row in result.rows[:SHOWN_ROWS] for value in row[:columns]):
        rest += f"; the first {SHOWN_CHARACTERS:,} characters of a cell"
    if ";" in rest:
        rest += "; FORMAT (--format) csv and json have all"
    console.print(plain(f"{rest}; {cut}" if more else rest, "dim"))


def _cell(value: object) -> Text:
    if value is None:
        return Text("NULL", "dim")
    text = str(value)
    return plain(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
