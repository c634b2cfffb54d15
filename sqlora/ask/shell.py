"""The prompt of --interactive: ask a live database, see the SQL, run it, correct it, ask further."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from sqlora.ask.questions import Asker, LiveAnswer, print_answer, print_rows
from sqlora.data import dataset
from sqlora.databases import dialect
from sqlora.settings.settings import Settings
from sqlora.sql import sandbox
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.schema import Schema, quote_name
from sqlora.storage.atomic import replace_file
from sqlora.system.console import console, note, plain, print_json
from sqlora.system.errors import UserError

HISTORY = Path("~/.sqlora_history")
HELP = {
    "\\tables": "the tables; \\tables a,b shows the model only these, \\tables all every one again",
    "\\schema": "the CREATE TABLE text of what the model may see; \\schema a of one table",
    "\\refine": "the question before, with more to it: \\refine only those from Canada; alone, to be edited",
    "\\edit": "correct the SQL before, and run it",
    "\\help": "this",
    "\\q": "the end, as Ctrl-D",
}


def talk(asker: Asker, settings: Settings) -> None:
    """Questions, one after the other, until \\q or the end of the input. Raises UserError where there is no
    terminal.
    """
    if not sys.stdin.isatty():
        raise UserError("INTERACTIVE (--interactive) needs a terminal; --questions FILE asks what stands in a file")
    Shell(asker, settings).loop()


class Shell:
    def __init__(self, asker: Asker, settings: Settings) -> None:
        self.asker = asker
        self.settings = settings
        self.feedback = _open_feedback(settings.SAVE_FEEDBACK)
        self.last: LiveAnswer | None = None
        names = {
            name
            for table in asker.live.schema.tables
            for name in (table.name, *(column.name for column in table.columns))
        }
        # Tab completes names and commands; quoted are those that hold more than letters.
        completer = WordCompleter(
            [*HELP, *sorted(map(quote_name, names))], ignore_case=True, pattern=re.compile(r"\\?\w+|\\")
        )
        self.questions: PromptSession = PromptSession(
            history=_open_history(), completer=completer, complete_while_typing=False
        )
        self.sql: PromptSession = PromptSession(completer=completer, complete_while_typing=False)
        self.confirmation: PromptSession = PromptSession()

    def loop(self) -> None:
        console.print(plain("ask in plain words; \\help lists the commands, \\q ends", "dim"))
        default = ""
        while True:
            try:
                # What was pasted over several lines is one question.
                line = " ".join(_whole(self.questions.prompt("question> ", default=default)).split())
            except KeyboardInterrupt:  # the line is thrown away
                default = ""
                continue
            except EOFError:
                return
            default = ""
            if line == "\\q":
                return
            try:
                default = self._obey(line) if line.startswith("\\") else self._ask(line) if line else ""
            except (SqlError, UserError) as error:
                console.print(plain(f"error: {error}", "red"), soft_wrap=True)
            except KeyboardInterrupt:
                console.print(plain("stopped", "dim"))

    def _obey(self, line: str) -> str:
        """Does what a command says; gives the text that the next prompt starts with."""
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command == "\\refine" and self.last:
            question = self.last.question
            if not rest:
                return question
            return self._ask(f"{question.rstrip(' ?.!')}, {rest}{question[len(question.rstrip(' ?.!')) :]}")
        if command == "\\edit" and self.last:
            self._edit(self.last)
        elif command in ("\\refine", "\\edit"):
            raise UserError(f"{command} needs a question before it")
        elif command == "\\tables":
            self._tables(rest)
        elif command == "\\schema":
            self._schema(rest)
        elif command == "\\help":
            for name, about in HELP.items():
                console.print(plain(f"  {name:<9} {about}"), soft_wrap=True)
        else:
            raise UserError(f"{command} is no command; \\help lists them")
        return ""

    def _ask(self, question: str) -> str:
        (self.last,) = self.asker.ask([question])
        print_answer(self.last)
        if self.asker.live.runs:
            self._offer(self.last)
        return ""

    def _offer(self, answer: LiveAnswer) -> None:
        """Runs an answer once the user has agreed to it; one that does not fit can only be corrected."""
        if self.settings.EXECUTE and not answer.fault:
            return self._run(answer.sql)
        asked = "edit it? [y/N] " if answer.fault else "run it? [Y/n/e(dit)] "
        try:
            said = self.confirmation.prompt(asked).strip().lower()
        except (EOFError, KeyboardInterrupt):
            said = "n"
        if said.startswith("e") or (answer.fault and said.startswith("y")):
            self._edit(answer)
        elif not answer.fault and said in ("", "y", "yes"):
            self._run(answer.sql)

    def _edit(self, answer: LiveAnswer) -> None:
        """What the user makes of the SQL is checked as the model's is, run, and kept as feedback where it differs."""
        try:
            sql = _whole(self.sql.prompt("sql> ", default=answer.sql)).strip().rstrip(";")
        except (EOFError, KeyboardInterrupt):
            return
        if not sql:
            return
        self.last = LiveAnswer(answer.question, answer.context, sql, None, answer.left_out, ())
        self.asker.live.check(sql)
        if self.asker.live.runs:
            self._run(sql)
        if self.feedback and sql != answer.sql:
            self._keep(answer, sql)

    def _run(self, sql: str) -> None:
        result, more = self.asker.live.run(sql)
        print_rows(result, more, self.settings.FORMAT)
        if self.settings.FORMAT == "json":
            print_json({"sql": sql, "columns": result.columns, "rows": result.rows, "more": more})

    def _keep(self, answer: LiveAnswer, sql: str) -> None:
        """Adds a correction to SAVE_FEEDBACK: the SQL as rows for fine-tuning have it, over a schema that holds its
        tables.

        It takes the place of an earlier one for the same question.
        """
        live = self.asker.live
        written = dialect.to_training_form(sql, live.reflected.dialect)
        seen = parse_schema(answer.context)
        tables = tuple(
            table for table in live.schema.tables if seen.table(table.name) or dialect.names_table(written, table.name)
        )
        row = {"question": answer.question, "context": Schema(tables).ddl(), "answer": written}
        try:
            sandbox.prepare(written, Schema(tables))
        except SqlError as error:
            note(f"kept for fine-tuning, where CHECK_DATA may drop it, since SQLite does not take it: {error}")
        # As bytes, and not by splitlines, which a U+2028 in a question would break: what is not replaced stays as it
        # is.
        lines = [line for line in self.feedback.read_bytes().split(b"\n") if line.strip() and not _asks(line, row)]
        lines.append(json.dumps(row, ensure_ascii=False).encode())
        replace_file(self.feedback, lambda partial: partial.write_bytes(b"\n".join(lines) + b"\n"))
        console.print(plain(f"kept in {self.feedback}", "dim"))

    def _tables(self, names: str) -> None:
        if names:
            self.asker.see([] if names == "all" else [name.strip() for name in names.split(",") if name.strip()])
        for table in self.asker.live.schema.tables:
            mark = " " if self.asker.tables.table(table.name) else "-"
            console.print(plain(f" {mark} {table.name} ({', '.join(column.name for column in table.columns)})"))
        if self.asker.is_picked:
            console.print(plain(" - the model is not shown; \\tables all shows it everything", "dim"))

    def _schema(self, name: str) -> None:
        schema = self.asker.tables
        if name:
            table = self.asker.live.schema.table(name)
            if table is None:
                raise UserError(f"there is no table {name!r}; \\tables lists them")
            schema = Schema((table,))
        for table in schema.tables:
            console.print(plain(Schema((table,)).ddl()), soft_wrap=True)


def _whole(text: str) -> str:
    """Text from the terminal, in which bytes that are not UTF-8 are read as Latin-1."""
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), text)


def _asks(line: bytes, row: dataset.Example) -> bool:
    """Whether a line of SAVE_FEEDBACK asks what `row` asks, of the same tables."""
    try:
        kept = json.loads(line)
        return all(kept[name] == row[name] for name in ("question", "context"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        super().store_string(_whole(string))


def _open_history() -> History:
    """Kept from one session to the next, readable to the user alone; or not at all where the file cannot be written."""
    try:
        path = HISTORY.expanduser()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return _History(path)
    except (OSError, RuntimeError):  # it is a folder, say; or there is no home folder
        return InMemoryHistory()


def _open_feedback(name: str) -> Path | None:
    if not name:
        return None
    path = Path(name)
    if path.suffix != ".jsonl":
        raise UserError(f"SAVE_FEEDBACK (--save-feedback) is {name!r}; name a .jsonl file")
    try:
        path.open("a").close()
    except OSError as error:
        raise UserError(
            f"SAVE_FEEDBACK (--save-feedback) is {name!r}, which cannot be written: {error.strerror}"
        ) from None
    return path
