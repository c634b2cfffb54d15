"""Questions to a live database: the tables that a model is shown, the SQL that the database takes, the rows that it gives."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from sqlora import architecture, data, dialect, generation, processes, prompt, sandbox, voting
from sqlora.console import console, note, plain, print_facts, progress_bar
from sqlora.database import LiveDatabase, open_database
from sqlora.errors import UserError
from sqlora.linking import Linker, few, pick_tables
from sqlora.sandbox import Result
from sqlora.schema import Schema
from sqlora.settings import Settings
from sqlora.sql import SqlError
from sqlora.voting import Candidate

SHOWN_ROWS = 50


@dataclass(frozen=True)
class Answer:
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
        self.writer = generation.SqlWriter(model, tokenizer, settings)
        self.see(settings.TABLES)

    def see(self, names: list[str]) -> None:
        """From now on the model is shown these tables, or with none all. Raises UserError for one that is not there."""
        self.is_picked = bool(names)
        self.tables = pick_tables(self.live.schema, names) if names else self.live.schema
        self.linker = Linker(self.tables, self.live.reflected.links, self._count)

    def ask(self, questions: list[str]) -> list[Answer]:
        """An answer to each. All prompts go through the model together, so that a schema that they share does so once."""
        shown = [self._choose(question) for question in questions]
        rows = [{"question": question, "context": schema.ddl()} for question, schema in zip(questions, shown, strict=True)]
        with progress_bar() as bar:
            task = bar.add_task("writing SQL", total=len(rows))
            written = self.writer.candidates(rows, lambda place, candidates: bar.advance(task))
        return [self._answer(row, schema, candidates) for row, schema, candidates in zip(rows, shown, written, strict=True)]

    def _choose(self, question: str) -> Schema:
        if self.is_picked:
            return self.tables
        (empty,) = prompt.encode_prompts(self.tokenizer, [{"question": question, "context": ""}], self.settings.PROMPT_ORDER)
        room = architecture.longest_row(self.model.config) - self.settings.MAX_NEW_TOKENS - len(empty)
        return self.linker.choose(question, room)

    def _count(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]]

    def _answer(self, row: data.Row, shown: Schema, candidates: list[Candidate]) -> Answer:
        """The candidate with most votes among those that the database would take, or the likeliest with its fault."""
        texts: dict[str, str] = {}
        faults: dict[str, str] = {}
        for sql in dict.fromkeys(candidate.sql for candidate in candidates):
            try:
                texts[sql] = self._check(sql)
            except SqlError as error:
                faults[sql] = str(error)
        left_out = tuple(table.name for table in self.tables.tables if shown.table(table.name) is None)
        taken = [candidate for candidate in candidates if candidate.sql in texts]
        best = taken[voting.vote(row["context"], taken) or 0].sql if taken else candidates[0].sql
        fault = faults.pop(best, None)
        return Answer(row["question"], row["context"], texts.get(best, best), fault, left_out, tuple(faults.items()))

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
        raise UserError("DATABASE (--database) is given without a question; add --question, --questions FILE or --interactive")
    if processes.several():
        raise UserError("DATABASE (--database) is answered by one process; start generate.py without a launcher")
    if settings.FORMAT != "table":
        console.stderr = True  # what is printed beside the rows must not stand among them
    live = open_database(settings.DATABASE, settings.QUERY_SECONDS)
    found = live.reflected
    if settings.EXECUTE and not live.runs:
        raise UserError(f"EXECUTE (--execute) is set, and SQLoRA cannot open a {found.name} database for reading only; leave it "
                        f"out, and run the SQL yourself")
    pick_tables(found.schema, settings.TABLES)
    columns = sum(len(table.columns) for table in found.schema.tables)
    print_facts({"database": f"{found.place}: {len(found.schema.tables):,} tables, {columns:,} columns"})
    for name, why in found.unreadable.items():
        note(f"{name} cannot be read and is left out: {why}")
    return live


def load_questions(settings: Settings) -> list[data.Row]:
    """QUESTION, or those of the file QUESTIONS: lines of text, or rows with a question. Raises UserError."""
    if not settings.QUESTIONS:
        return [{"question": settings.QUESTION}] if settings.QUESTION else []
    where = f"QUESTIONS (--questions) ({settings.QUESTIONS})"
    path = Path(settings.QUESTIONS).expanduser()
    if path.suffix != ".txt":
        return data.load_rows(settings.QUESTIONS, "QUESTIONS (--questions)", ("question",))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: it cannot be read as UTF-8 text: {error}") from None
    rows = [{"question": line.strip()} for line in lines if line.strip()]
    if not rows:
        raise UserError(f"{where}: there is no question in it")
    return rows


def answer_questions(asker: Asker, rows: list[data.Row], settings: Settings) -> None:
    """Answers each row's question on standard output, and in OUTPUT. Raises UserError if no question could be answered."""
    records: list[dict[str, object]] = []
    try:
        for answer in asker.ask([row["question"] for row in rows]):
            records.append(_show(asker, answer, settings))
    finally:  # what was answered is kept where the database breaks off
        if settings.OUTPUT:
            data.write_rows(Path(settings.OUTPUT), records)
    faults = [record for record in records if "fault" in record]
    if len(faults) == len(rows):
        raise UserError(f"no SQL that the database takes: {faults[0]['fault']}: {faults[0]['sql']}; ask in other words, or write "
                        f"several queries with NUM_CANDIDATES (--num-candidates)")


def _show(asker: Asker, answer: Answer, settings: Settings) -> dict[str, object]:
    """Prints an answer and, with EXECUTE, its rows; gives both as a record for OUTPUT."""
    console.print(plain(answer.question, "bold"))
    print_answer(answer)
    record: dict[str, object] = {"question": answer.question, "context": answer.context, "sql": answer.sql}
    if answer.fault:
        record["fault"] = answer.fault
    elif settings.EXECUTE:
        try:
            result, more = asker.live.run(answer.sql)
            record |= {"columns": result.columns, "rows": result.rows, "more": more}
            print_rows(result, more, settings.FORMAT)
        except SqlError as error:
            record["fault"] = str(error)
            console.print(plain(f"  it did not run: {error}", "red"))
    if settings.FORMAT == "json":
        shown = {name: value for name, value in record.items() if name != "context"}
        print(json.dumps(shown, ensure_ascii=False, default=str), flush=True)
    return record


def print_answer(answer: Answer) -> None:
    """The SQL, its fault, and what the model could not see or wrote in vain."""
    console.print(plain(f"  {answer.sql or '(nothing)'}", "cyan"), soft_wrap=True)
    for sql, fault in answer.passed_over:
        console.print(plain(f"  passed over: {fault}: {sql}", "dim"), soft_wrap=True)
    if answer.fault:
        console.print(plain(f"  it does not fit the database: {answer.fault}", "red"), soft_wrap=True)
    if answer.left_out:
        note(f"the whole schema does not fit into the prompt; left out are {len(answer.left_out):,} tables: "
             f"{few(answer.left_out)}; TABLES (--tables) chooses")


def print_rows(result: Result, more: bool, form: str) -> None:
    """A result as `form`, a value of FORMAT, says; json is left to the caller, who knows more of it."""
    count = len(result.rows)
    cut = f"there are more than {count:,} rows; the others were not fetched"
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows(result.rows)
        sys.stdout.flush()
    if form != "table":
        if more:
            note(cut)
        return
    table = Table(show_edge=False, header_style="bold", pad_edge=False)
    for name in result.columns:
        table.add_column(plain(name), overflow="fold")
    for row in result.rows[:SHOWN_ROWS]:
        table.add_row(*(Text("NULL", "dim") if value is None else plain(str(value)) for value in row))
    console.print(table)
    rest = f"and {count - SHOWN_ROWS:,} more" if count > SHOWN_ROWS else f"{count:,} row{'s' if count != 1 else ''}"
    console.print(plain(f"{rest}; {cut}" if more else rest, "dim"))
