"""Questions to a live database: the tables that the model sees, SQL that the database accepts, and its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from sqlora.data import dataset
from sqlora.databases import dialect
from sqlora.databases.live import LiveDatabase, open_database
from sqlora.generation import answer_writer, self_consistency
from sqlora.generation.answer_journal import Journal
from sqlora.generation.candidate import Candidate
from sqlora.model import architecture
from sqlora.prompt import encoding
from sqlora.prompt.schema_linking import Linker, pick_tables
from sqlora.prompt.value_matching import ValueIndex, lines_of
from sqlora.settings.settings import Settings
from sqlora.sql import sandbox
from sqlora.sql.parsing import SqlError
from sqlora.sql.sandbox import QueryResult
from sqlora.sql.schema import Schema
from sqlora.sql.translation import as_sqlite
from sqlora.storage.row_files import SUFFIXES, is_file, kind, read_text
from sqlora.system import distributed
from sqlora.system.console import console, note, plain, print_csv, print_facts, print_json, progress_bar
from sqlora.system.errors import UserError, few

WRITER = "database"  # the journal's name for these queries, as base and adapter are for those to TEST_DATA
SHOWN_ROWS = 50
SHOWN_CHARACTERS = 500  # of a cell, in a table
COLUMN_WIDTH = 6  # characters that a column of a table needs at least


@dataclass(frozen=True)
class Asked:
    """A question, the tables that the model sees for it, their CREATE TABLE text, and values that it names."""

    question: str
    shown: Schema
    context: str
    values: str = ""

    @property
    def row(self) -> dict[str, str]:
        """What its prompt is made of."""
        return {"question": self.question, "context": self.context} | ({"values": self.values} if self.values else {})


@dataclass(frozen=True)
class LiveAnswer:
    """A question's SQL in the database's dialect, or as the model wrote it if it has a `fault`.

    `context` is what the model saw, `left_out` the tables that did not fit, `rejected` candidates with their faults,
    `written` the candidate that was taken, None if the user wrote the SQL.
    """

    question: str
    context: str
    sql: str
    fault: str | None
    left_out: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]
    written: Candidate | None = None


class Asker:
    """A model and a live database; `tables` is what the model sees, or is chosen from if not all of it fits.

    asker = Asker(live, model, tokenizer, settings)
    (answer,) = asker.ask(["How many albums are there?"])
    """

    def __init__(self, live: LiveDatabase, model, tokenizer, settings: Settings, style: str = "plain") -> None:
        """`style`: that in which the model sees the tables."""
        self.live = live
        self.style = style
        self.described, self.values = live.schema, ValueIndex({})
        if style == "full":
            sampled = live.sampled
            self.described, self.values = sampled.schema, ValueIndex(sampled.texts)
            if sampled.unread:
                note(f"no values are shown of {few(sampled.unread)}, whose rows were not read in time")
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.writer = answer_writer.SqlWriter(model, tokenizer, settings)
        self.see(settings.TABLES)

    def see(self, names: list[str]) -> None:
        """Shows the model these tables from now on, or all. Raises UserError for a table that does not exist."""
        self.is_picked = bool(names)
        self.tables = pick_tables(self.described, names) if names else self.described
        self.linker = Linker(self.tables, self._count, self.style)

    def ask(self, questions: list[str]) -> list[LiveAnswer]:
        """An answer to each question. All prompts are answered in one batch, which computes a shared schema once."""
        return self.answer(self.asked(questions))

    def asked(self, questions: list[str]) -> list[Asked]:
        """Each question with the tables that the model sees for it."""
        return [self._asked(question, self.values.lines(question)) for question in questions]

    def _asked(self, question: str, values: str) -> Asked:
        schema = self._choose(question, values)
        return Asked(question, schema, self.shown(schema), lines_of(values, schema))

    def shown(self, schema: Schema) -> str:
        """The text of tables that the model sees."""
        return schema.ddl(self.style)

    def answer(self, asked: list[Asked], journal: Journal | None = None) -> list[LiveAnswer]:
        """An answer to each of `asked`; queries that the journal has from an earlier run are not written again."""
        rows = [question.row for question in asked]
        earlier = journal.written if journal else {}
        written = {i: earlier[WRITER, i] for i in range(len(rows)) if (WRITER, i) in earlier}
        missing = [i for i in range(len(rows)) if i not in written]
        with progress_bar() as bar:
            task = bar.add_task("writing SQL", total=len(rows), completed=len(written))

            def ended(row_index: int, candidates: list[Candidate]) -> None:
                if journal:
                    journal.add(WRITER, missing[row_index], candidates)
                bar.advance(task)

            written |= zip(missing, self.writer.candidates([rows[i] for i in missing], ended, missing), strict=True)
        return [self._answer(question, written[i]) for i, question in enumerate(asked)]

    def _choose(self, question: str, values: str) -> Schema:
        if self.is_picked:
            return self.tables
        (empty,) = encoding.encode_prompts(
            self.tokenizer, [{"question": question, "context": "", "values": values}], self.settings.prompt_layout
        )
        free = architecture.longest_row(self.model.config) - self.settings.MAX_NEW_TOKENS - len(empty)
        return self.linker.choose(question, free)

    def _count(self, texts: list[str]) -> list[int]:
        return encoding.count_tokens(self.tokenizer, texts)

    def _answer(self, asked: Asked, candidates: list[Candidate]) -> LiveAnswer:
        """The candidate with most votes among those that the database accepts, or the likeliest with its fault."""
        texts: dict[str, str] = {}
        faults: dict[str, str] = {}
        for sql in dict.fromkeys(candidate.sql for candidate in candidates):
            try:
                texts[sql] = self._check(sql)
            except SqlError as error:
                faults[sql] = str(error)
        left_out = tuple(table.name for table in self.tables.tables if asked.shown.table(table.name) is None)
        accepted = [candidate for candidate in candidates if candidate.sql in texts]
        vote = self_consistency.vote(asked.context, accepted, self.settings.SQL_DIALECT)
        best = accepted[vote or 0] if accepted else candidates[0]
        fault = faults.pop(best.sql, None)
        sql = texts.get(best.sql, best.sql)
        return LiveAnswer(asked.question, asked.context, sql, fault, left_out, tuple(faults.items()), best)

    def _check(self, sql: str) -> str:
        """A candidate in the database's dialect. Raises SqlError, with the name of a missing table or column."""
        schema, reflected = self.live.schema, self.live.reflected
        if self.settings.SQL_DIALECT == reflected.dialect != "sqlite":
            self.live.check(sql)
            return sql
        query, text = sandbox.prepare(as_sqlite(sql, self.settings.SQL_DIALECT), schema)
        if reflected.dialect != "sqlite":
            text = dialect.translate(query, schema, reflected.dialect, reflected.quoted)
        self.live.check(text)
        return text


def connect(settings: Settings) -> LiveDatabase:
    """Opens DATABASE, and prints what it is. Raises UserError."""
    if not (settings.QUESTION or settings.QUESTIONS or settings.INTERACTIVE):
        raise UserError(
            "DATABASE (--database) is given without a question; add --question, --questions FILE or --interactive"
        )
    if distributed.is_distributed():
        raise UserError("DATABASE (--database) is answered by one process; start generate.py without a launcher")
    if settings.FORMAT != "table":
        console.stderr = True  # so that only rows are on standard output
    live = open_database(settings.DATABASE, settings.QUERY_SECONDS, settings.SCHEMAS, settings.SCHEMA_HIDE)
    reflected = live.reflected
    if settings.EXECUTE and not live.runs:
        raise UserError(
            f"EXECUTE (--execute) is set, and SQLoRA cannot open a {reflected.name} database for reading only; leave "
            f"it out, and run the SQL yourself"
        )
    pick_tables(reflected.schema, settings.TABLES)
    columns = sum(len(table.columns) for table in reflected.schema.tables)
    print_facts({"database": f"{reflected.shown_url}: {len(reflected.schema.tables):,} tables, {columns:,} columns"})
    for name, why in reflected.unreadable.items():
        note(f"{name} cannot be read and is left out: {why}")
    return live


def load_questions(question: str, file: str) -> list[dataset.Example]:
    """The `question`, or those of the `file` QUESTIONS: lines of text, or rows with a question. Raises UserError."""
    if not file:
        return [{"question": question}] if question else []
    where = f"QUESTIONS (--questions) ({file})"
    path = Path(file)
    if kind(path) != ".txt":
        if is_file(path, where) and kind(path) not in SUFFIXES:
            raise UserError(
                f"{where}: unknown kind of file; name a .txt file with a question per line, or a file of rows"
            )
        return dataset.load_rows(file, "QUESTIONS (--questions)", ("question",))
    if not is_file(path, where):
        raise UserError(f"{where}: no such file; name a .txt file with a question per line, or a file of rows")
    lines = read_text(path, where).split("\n")
    rows = [{"question": line.strip()} for line in lines if line.strip()]
    if not rows:
        raise UserError(f"{where}: there is no question in it")
    return rows


def answer_questions(
    asker: Asker,
    rows: list[dataset.Example],
    settings: Settings,
    open_journal: Callable[[list[tuple[str, ...]]], Journal],
) -> None:
    """Answers each row's question in OUTPUT, which is written first, and on standard output.

    The journal keeps the queries as they are written. Raises UserError if no question could be answered.
    """
    asked = asker.asked([row["question"] for row in rows])
    with open_journal([tuple(question.row.values()) for question in asked]) as journal:
        answers = asker.answer(asked, journal)
        records: Iterable[dict[str, Any]] = (_record(asker, answer, settings.EXECUTE) for answer in answers)
        if settings.OUTPUT:
            records = list(records)
            dataset.write_rows(Path(settings.OUTPUT), records)
        faults = []
        for answer, record in zip(answers, records, strict=True):
            _show(answer, record, settings.FORMAT)
            faults += [record] if "fault" in record else []
    journal.remove()
    if len(faults) == len(rows):
        raise UserError(
            f"the database accepted none of the queries: {faults[0]['fault']}: {faults[0]['sql']}; rephrase, or write "
            f"several queries with NUM_CANDIDATES (--num-candidates)"
        )


def _record(asker: Asker, answer: LiveAnswer, execute: bool) -> dict[str, Any]:
    """An answer as a row of OUTPUT: the SQL and, with `execute`, its rows, or its fault."""
    record: dict[str, Any] = {"question": answer.question, "context": answer.context, "sql": answer.sql}
    if answer.written:
        record["decoding"] = answer.written.decoding
    if answer.fault:
        return record | {"fault": answer.fault}
    if not execute:
        return record
    try:
        result, more = asker.live.run(answer.sql)
    except SqlError as error:
        return record | {"fault": str(error)}
    return record | {"columns": result.columns, "rows": result.rows, "more": more}


def _show(answer: LiveAnswer, record: dict[str, Any], form: str) -> None:
    """Prints an answer and the rows of its record in the format `form`, a value of FORMAT."""
    console.print(plain(answer.question, "bold"))
    print_answer(answer)
    if "rows" in record:
        print_rows(QueryResult(record["columns"], record["rows"]), record["more"], form)
    elif "fault" in record and not answer.fault:
        console.print(plain(f"  it did not run: {record['fault']}", "red"))
    if form == "json":
        print_json({name: value for name, value in record.items() if name != "context"})


def print_answer(answer: LiveAnswer) -> None:
    """Prints the SQL, its fault, the rejected candidates, and the tables that the model did not see."""
    console.print(plain(f"  {answer.sql or '(nothing)'}", "cyan"), soft_wrap=True)
    for sql, fault in answer.rejected:
        console.print(plain(f"  rejected: {fault}: {sql}", "dim"), soft_wrap=True)
    if answer.fault:
        console.print(plain(f"  the database does not accept it: {answer.fault}", "red"), soft_wrap=True)
    if answer.left_out:
        note(
            f"the whole schema does not fit into the prompt; {len(answer.left_out):,} tables were left out: "
            f"{few(answer.left_out)}; choose with TABLES (--tables)"
        )


def print_rows(result: QueryResult, more: bool, form: str) -> None:
    """Prints a result in the format `form`, a value of FORMAT; json is printed by the caller, with the question."""
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
        rest += "; FORMAT (--format) csv and json show everything"
    console.print(plain(f"{rest}; {cut}" if more else rest, "dim"))


def _cell(value: object) -> Text:
    if value is None:
        return Text("NULL", "dim")
    text = str(value)
    return plain(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
