"""The prompt of --interactive: ask a live database, see the SQL, run it, correct it, ask again."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from sqlora.ask.questions import Asker, LiveAnswer, print_answer, print_rows
from sqlora.data import dataset
from sqlora.databases import dialect
from sqlora.sql import sandbox
from sqlora.sql.parsing import SqlError
from sqlora.sql.schema import Schema, quote_name
from sqlora.sql.translation import as_sqlite
from sqlora.storage.atomic import replace_file
from sqlora.system.console import console, note, plain, print_json
from sqlora.system.errors import UserError

HISTORY = Path("~/.sqlora_history")
HELP = {
    "\\tables": "list the tables; \\tables a,b shows the model only these, \\tables all every table again",
    "\\schema": "print the CREATE TABLE text that the model sees; \\schema a for one table",
    "\\refine": "refine the previous question: \\refine only those from Canada. Without text: edit it",
    "\\edit": "correct the previous SQL, and run it",
    "\\help": "list the commands",
    "\\q": "quit, as Ctrl-D does",
}


def talk(asker: Asker, execute: bool, form: str, feedback: str) -> None:
    """Asks for questions and answers them until \\q or the end of the input.

    With `execute` the queries run, and their rows are shown in the format `form`; corrections go to the file
    `feedback`, if one is named. Raises UserError without a terminal.
    """
    if sys.stdin is None or not sys.stdin.isatty():  # None: it was closed
        raise UserError(
            "INTERACTIVE (--interactive) needs a terminal; --questions FILE reads the questions from a file"
        )
    Shell(asker, execute, form, feedback).loop()


class Shell:
    """The state of a session: the last answer, the tables that the model sees, the file of corrections."""

    def __init__(self, asker: Asker, execute: bool, form: str, feedback: str) -> None:
        self.asker = asker
        self.execute, self.form = execute, form
        self.feedback = _open_feedback(feedback)
        self.last: LiveAnswer | None = None
        names = {
            name
            for table in asker.live.schema.tables
            for name in (table.name, *(column.name for column in table.columns))
        }
        # Tab completes names and commands; names that need quotes come with them.
        completer = WordCompleter(
            [*HELP, *sorted(map(quote_name, names))], ignore_case=True, pattern=re.compile(r"\\?\w+|\\")
        )
        self.questions: PromptSession = PromptSession(
            history=_open_history(), completer=completer, complete_while_typing=False
        )
        self.sql: PromptSession = PromptSession(completer=completer, complete_while_typing=False)
        self.confirmation: PromptSession = PromptSession()

    def loop(self) -> None:
        """Reads questions and commands until the end."""
        console.print(plain("ask a question in plain English; \\help lists the commands, \\q quits", "dim"))
        default = ""
        while True:
            try:
                # Several pasted lines are one question.
                line = " ".join(_whole(self.questions.prompt("question> ", default=default)).split())
            except KeyboardInterrupt as error:  # discards the line
                if _ends(error):
                    raise
                default = ""
                continue
            except EOFError:
                return
            default = ""
            if line.split()[:1] == ["\\q"]:
                return
            try:
                default = self._execute(line) if line.startswith("\\") else self._ask(line) if line else ""
            except (SqlError, UserError) as error:
                console.print(plain(f"error: {error}", "red"), soft_wrap=True)
            except KeyboardInterrupt as error:
                if _ends(error):
                    raise
                console.print(plain("stopped", "dim"))

    def _execute(self, line: str) -> str:
        """Executes a command; returns the text that the next prompt starts with."""
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
            raise UserError(f"{command} needs a previous question")
        elif command == "\\tables":
            self._tables(rest)
        elif command == "\\schema":
            self._schema(rest)
        elif command == "\\help":
            for name, about in HELP.items():
                console.print(plain(f"  {name:<9} {about}"), soft_wrap=True)
        else:
            raise UserError(f"{command} is not a command; \\help lists them")
        return ""

    def _ask(self, question: str) -> str:
        (self.last,) = self.asker.ask([question])
        print_answer(self.last)
        if self.asker.live.runs:
            self._offer(self.last)
        return ""

    def _offer(self, answer: LiveAnswer) -> None:
        """Runs an answer after the user has agreed; one that the database refuses can only be corrected."""
        if self.execute and not answer.fault:
            return self._run(answer.sql)
        asked = "edit it? [y/N] " if answer.fault else "run it? [Y/n/e(dit)] "
        try:
            reply = self.confirmation.prompt(asked).strip().lower()
        except (EOFError, KeyboardInterrupt) as error:
            if _ends(error):
                raise
            reply = "n"
        if reply.startswith("e") or (answer.fault and reply.startswith("y")):
            self._edit(answer)
        elif not answer.fault and reply in ("", "y", "yes"):
            self._run(answer.sql)

    def _edit(self, answer: LiveAnswer) -> None:
        """Lets the user correct the SQL, checks and runs it, and keeps it as feedback if it differs."""
        try:
            sql = _whole(self.sql.prompt("sql> ", default=answer.sql)).strip().rstrip(";")
        except (EOFError, KeyboardInterrupt) as error:
            if _ends(error):
                raise
            return
        if not sql:
            return
        self.last = LiveAnswer(answer.question, answer.context, sql, None, answer.left_out, ())
        self.asker.live.check(sql)
        if self.asker.live.runs:
            self._run(sql)
        if self.feedback and sql != answer.sql:
            self._keep(answer, sql, self.feedback)

    def _run(self, sql: str) -> None:
        result, more = self.asker.live.run(sql)
        print_rows(result, more, self.form)
        if self.form == "json":
            print_json({"sql": sql, "columns": result.columns, "rows": result.rows, "more": more})

    def _keep(self, answer: LiveAnswer, sql: str, file: Path) -> None:
        """Adds a correction to the file as a training row, over a schema with its tables.

        It replaces an earlier correction for the same question.
        """
        live = self.asker.live
        written = as_sqlite(sql, live.reflected.dialect)
        tables = tuple(
            table
            for table in self.asker.described.tables
            if f"CREATE TABLE {table} " in answer.context or dialect.names_table(written, table.name)
        )
        row = {"question": answer.question, "context": self.asker.shown(Schema(tables)), "answer": written}
        try:
            sandbox.prepare(written, Schema(tables))
        except SqlError as error:
            note(f"saved for fine-tuning, where CHECK_DATA may drop it, since SQLite does not accept it: {error}")
        # As bytes, and not by splitlines, which would split at a U+2028 in a question: other lines do not change.
        try:
            file.parent.mkdir(parents=True, exist_ok=True)  # it may have been removed since
            kept = file.read_bytes() if file.is_file() else b""
            lines = [line for line in kept.split(b"\n") if line.strip() and not _asks(line, row)]
            lines.append(json.dumps(row, ensure_ascii=False).encode())
            replace_file(file, lambda partial: partial.write_bytes(b"\n".join(lines) + b"\n"))
        except OSError as error:
            raise UserError(f"the correction is not saved: {file}: {error.strerror}; {row['answer']}") from None
        console.print(plain(f"saved in {file}", "dim"))

    def _tables(self, names: str) -> None:
        if names:
            self.asker.see([] if names == "all" else [name.strip() for name in names.split(",") if name.strip()])
        for table in self.asker.live.schema.tables:
            mark = " " if self.asker.tables.table(table.name) else "-"
            console.print(plain(f" {mark} {table.name} ({', '.join(column.name for column in table.columns)})"))
        if self.asker.is_picked:
            console.print(
                plain("tables marked - are hidden from the model; \\tables all shows every table again", "dim")
            )

    def _schema(self, name: str) -> None:
        schema = self.asker.tables
        if name:
            table = self.asker.described.table(name)
            if table is None:
                raise UserError(f"there is no table {name!r}; \\tables lists them")
            schema = Schema((table,))
        for table in schema.tables:
            console.print(plain(self.asker.shown(Schema((table,)))), soft_wrap=True)


def _ends(error: BaseException) -> bool:
    """Whether it is a signal that ends the program, and not Ctrl-C or Ctrl-D."""
    return getattr(error, "number", signal.SIGINT) != signal.SIGINT


def _whole(text: str) -> str:
    """Text from the terminal, with bytes that are not UTF-8 read as Latin-1."""
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), text)


def _asks(line: bytes, row: dataset.Example) -> bool:
    """Whether a line of SAVE_FEEDBACK has the question and the tables of `row`."""
    try:
        saved = json.loads(line)
        return all(saved[name] == row[name] for name in ("question", "context"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        super().store_string(_whole(string))


def _open_history() -> History:
    """A history that lasts from session to session, readable only by the user; in memory if the file is not
    writable.
    """
    try:
        path = HISTORY.expanduser()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return _History(path)
    except (OSError, RuntimeError):  # such as a folder of that name, or no home folder
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
