"""From a question to the rows of a live database."""

import contextlib
import json
import sqlite3
import time
from dataclasses import replace

import pytest
import scholar
import servers

import generate
from sqlora.ask import questions as asking
from sqlora.data import dataset
from sqlora.databases.live import open_database
from sqlora.generation import answer_writer
from sqlora.generation.answer_journal import Journal
from sqlora.generation.candidate import Candidate
from sqlora.sql.parsing import SqlError
from sqlora.storage import outputs
from sqlora.system.console import console
from sqlora.system.errors import Interrupted, UserError


@pytest.fixture
def ask(make_settings, scholar_folder, monkeypatch):
    """Runs generate.py on a database."""
    monkeypatch.setattr(console, "stderr", False)  # and back again after the test

    def ask(url, *flags):
        generate.main(
            make_settings(
                "--base-model",
                str(scholar_folder),
                "--low-bit",
                "none",
                "--max-new-tokens",
                "60",
                "--database",
                url,
                "--tables",
                "song,singer",
                *flags,
                trains=False,
            )
        )

    return ask


@pytest.fixture
def asker(make_settings, llama_tokenizer, server, monkeypatch):
    """An Asker whose candidates the test writes: `asker.candidates`."""
    settings = make_settings("--database", server.reader, "--question", "x", "--tables", "Song,singer")
    with open_database(server.reader, 5) as live:
        asker = asking.Asker(live, None, llama_tokenizer, settings)
        monkeypatch.setattr(
            answer_writer.SqlWriter, "candidates", lambda *_: [[Candidate(sql) for sql in asker.candidates]]
        )
        yield asker


def test_the_model_sees_keys_where_it_was_trained_with_them(asker):
    (plain,) = asker.asked(["x"])
    asker.style = "described"
    asker.see(["Song", "singer"])
    (described,) = asker.asked(["x"])
    assert "KEY" not in plain.context
    assert "FOREIGN KEY (singer_id) REFERENCES singer (singer_id)" in described.context


def test_the_model_sees_values_and_those_that_the_question_names(make_settings, llama_tokenizer, server):
    settings = make_settings("--database", server.reader, "--question", "x", "--tables", "Song,singer")
    with open_database(server.reader, 5, hidden=["singer.fee"]) as live:
        asker = asking.Asker(live, None, llama_tokenizer, settings, "full")
        (plain, asked) = asker.asked(["x", "How old is Ann?"])
    assert "name VARCHAR" in asked.context
    assert "such as" in asked.context
    assert "fee" not in asked.context
    assert plain.row == {"question": "x", "context": plain.context}
    assert asked.row["values"] == "singer.name: 'Ann'"


def test_a_model_of_the_database_s_dialect_is_taken_at_its_word(asker, server):
    dialect = asker.live.reflected.dialect
    asker.settings = replace(asker.settings, SQL_DIALECT=dialect)
    asker.candidates = ["SELECT name FROM singer WHERE name LIKE 'An%'"]
    (answer,) = asker.answer(asker.asked(["x"]))
    assert (answer.sql, answer.fault) == (asker.candidates[0], None)
    other = "mysql" if dialect == "postgres" else "postgres"
    asker.settings = replace(asker.settings, SQL_DIALECT=other)
    asker.candidates = ["SELECT COUNT(*) FROM singer WHERE LEFT(name, 2) = 'An'"]
    (answer,) = asker.answer(asker.asked(["x"]))
    assert answer.fault is None
    assert asker.live.run(answer.sql)[0].rows == [(1,)]


def test_hidden_columns_cannot_be_asked_for(make_settings, llama_tokenizer, server, monkeypatch):
    settings = make_settings("--database", server.reader, "--question", "x", "--tables", "singer")
    with open_database(server.reader, 5, hidden=["singer.fee"]) as live:
        asker = asking.Asker(live, None, llama_tokenizer, settings)
        written = ["SELECT fee FROM singer", "SELECT * FROM singer"]
        monkeypatch.setattr(answer_writer.SqlWriter, "candidates", lambda *_: [[Candidate(sql)] for sql in written])
        refused, other = asker.answer(asker.asked(["x", "y"]))
        assert "no such column: fee" in refused.fault
        assert other.fault is None
        result, _ = live.run(other.sql)
        assert "fee" not in result.columns
        assert "name" in result.columns
        for sql in written:
            with contextlib.suppress(SqlError):
                assert "fee" not in live.run(sql)[0].columns
        with pytest.raises(UserError, match="did you mean singer.fee"):
            open_database(server.reader, 5, hidden=["singer.fees"])
        with pytest.raises(UserError, match="hides every table"):
            open_database(server.reader, 5, hidden=[table.name for table in live.schema.tables])


def test_questions_of_a_file(ask, server, tmp_path, capsys):
    questions, output = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    questions.write_text("\n".join([*scholar.LEARNED, "", ""]), encoding="utf-8")
    before = server.dump()
    ask(server.reader, "--questions", str(questions), "--execute", "--output", str(output))
    printed = capsys.readouterr()
    rows = {row["question"]: row for row in dataset.load_rows(str(output), "", ("question", "context"))}
    records = {
        record["question"]: record for record in map(json.loads, output.read_text(encoding="utf-8").splitlines())
    }
    assert outputs.DATABASE_ANSWERS.fits(output)
    assert list(rows) == list(scholar.LEARNED)
    assert all(row["context"] == scholar.CONTEXT for row in rows.values())
    one, two, three, four, five = records.values()
    assert (one["rows"], two["rows"], four["rows"]) == ([[3]], [["Ann"]], [["Ann"]])
    assert three["rows"] == [["One"], ["It's"], ['Drei \\ "x"']]
    assert "height" in five["fault"]
    for text in ("Ann", "1 row", "3 rows", "the database does not accept it", "height"):
        assert text in printed.out
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (servers.PASSWORD, servers.QUOTED):
        assert secret not in printed.out + printed.err
        assert not any(secret.encode() in content for content in written)
    assert server.dump() == before


def test_csv_and_json_are_alone_on_standard_output(ask, server, capsys):
    ask(server.reader, "--question", "Which songs were played most?", "--execute", "--format", "csv")
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1:] == ["One", "It's", '"Drei \\ ""x"""']
    assert "SELECT" in printed.err
    ask(server.reader, "--question", "Who is older than 20?", "--execute", "--format", "json")
    record = json.loads(capsys.readouterr().out)
    assert (record["rows"], record["more"]) == ([["Ann"]], False)
    assert "context" not in record


def test_without_execute_nothing_is_run(ask, server, capsys):
    ask(server.reader, "--question", "Who is older than 20?")
    printed = capsys.readouterr().out
    assert "WHERE age > 20" in printed
    assert "Ann" not in printed


def test_a_question_that_nothing_answers_is_an_error(ask, server):
    with pytest.raises(UserError, match="no such column: height"):
        ask(server.reader, "--question", "How tall is Ann?")


def test_a_candidate_that_does_not_fit_gives_way_to_the_next(asker):
    asker.candidates = ["SELECT height FROM singer", "SELECT name FROM dancer", "SELECT name FROM singer WHERE"]
    (answer,) = asker.ask(["Who?"])
    assert (answer.sql, "height" in answer.fault) == ("SELECT height FROM singer", True)
    assert [("dancer" in fault) for _, fault in answer.rejected] == [True, False]
    asker.candidates.append("SELECT NAME FROM singer")
    (answer,) = asker.ask(["Who?"])
    assert answer.fault is None
    assert asker.live.run(answer.sql)[0].rows == [("Ann",), ("Bo",), ("Cy",)]
    assert len(answer.rejected) == 3


def test_the_candidate_with_most_votes_is_taken(asker):
    asker.candidates = ["SELECT COUNT(name) FROM singer", "SELECT age FROM singer", "SELECT singer.age FROM singer"]
    (answer,) = asker.ask(["How old?"])
    assert "age" in answer.sql


def test_tables_that_do_not_fit_are_named(make_settings, llama_tokenizer, scholar_folder, tmp_path, capsys):
    from transformers import AutoModelForCausalLM

    with sqlite3.connect(tmp_path / "large.sqlite") as connection:
        for number in range(80):
            connection.execute(f"CREATE TABLE archive_{number} (first_thing TEXT, second_thing TEXT, third_thing TEXT)")
        connection.execute(
            "CREATE TABLE gardener (gardener_name TEXT, garden_id INTEGER REFERENCES garden (garden_id))"
        )
        connection.execute("CREATE TABLE garden (garden_id INTEGER PRIMARY KEY, city TEXT)")
    settings = make_settings("--database", str(tmp_path / "large.sqlite"), "--question", "x")
    model = AutoModelForCausalLM.from_pretrained(scholar_folder)
    with open_database(settings.DATABASE, 5) as live:
        (answer,) = asking.Asker(live, model, llama_tokenizer, settings).ask(["Which gardeners work in which garden?"])
    assert "CREATE TABLE gardener " in answer.context
    assert "CREATE TABLE garden " in answer.context
    assert len(answer.left_out) == 80
    asking.print_answer(answer)
    assert "80 tables were left out: archive_0, archive_1" in capsys.readouterr().out


def test_long_results_are_cut_and_counted(capsys):
    from sqlora.sql.sandbox import QueryResult

    rows = [(number, None, "\x1b[31mred") for number in range(70)]
    asking.print_rows(QueryResult(("a", "b", "c"), rows), True, "table")
    printed = capsys.readouterr().out
    assert "and 20 more; there are more than 70 rows" in printed
    assert "NULL" in printed
    assert "\x1b[31m" not in printed
    assert "50 " not in printed


HOSTILE = (
    "\x1b]0;pwned\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "a\u2028b\rc",
    "[red]x[/red] [link=http://x]y[/link]",
    "\ud800",
    "\u2067x",
    "\U000e0041",
)


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_names_and_cells_of_a_database_reach_the_terminal_without_what_it_obeys(form, capsys):
    from sqlora.sql.sandbox import QueryResult
    from sqlora.system.console import UNSAFE, note, print_facts, print_json

    for text in HOSTILE:
        note(f"{text} cannot be read")
        print_facts({"database": text})
        asking.print_rows(QueryResult((text,), [(text,), (None,)]), False, form)
        if form == "json":
            print_json({"columns": [text], "rows": [[text]]})
            printed = capsys.readouterr().out
            assert json.loads(printed.splitlines()[-1]) == {"columns": [text], "rows": [[text]]}
        else:
            printed = capsys.readouterr().out
            assert "[red]" not in text or "[red]x[/red]" in printed
        assert not UNSAFE.search(printed)


def test_names_of_a_database_file_in_notes_and_errors(ask, tmp_path, capsys):
    evil = "\x1b]0;pwned\x07\x9b2J"
    with sqlite3.connect(tmp_path / "evil.db") as connection:
        connection.execute("CREATE TABLE singer (name TEXT)")
        connection.execute("CREATE TABLE song (title TEXT)")
        connection.execute(f'CREATE VIEW "{evil}" AS SELECT x FROM nowhere')
        connection.execute("INSERT INTO singer VALUES (?)", (evil,))
    connection.close()
    for form in ("table", "csv", "json"):
        with pytest.raises(UserError) as caught:
            ask(str(tmp_path / "evil.db"), "--question", "How tall is Ann?", "--execute", "--format", form)
        printed = capsys.readouterr()
        assert "cannot be read" in printed.out + printed.err
        for text in (printed.out, printed.err, str(caught.value)):
            assert not any(char in text for char in "\x1b\x07\x9b")


def test_large_cells_and_many_columns_are_cut_for_the_terminal_alone(capsys):
    from sqlora.sql.sandbox import QueryResult

    cells = QueryResult(("id", "text"), [(1, "x" * 9_000_000), (2, "y" * 9_000_000)])
    columns = QueryResult(tuple(f"c{i}" for i in range(400)), [tuple(range(400))] * 50)
    start = time.process_time()
    asking.print_rows(cells, False, "table")
    asking.print_rows(columns, False, "table")
    assert time.process_time() - start < 5
    printed = capsys.readouterr().out
    assert len(printed) < 50_000
    assert "x" * 20 in printed
    assert "the first 500 characters of a cell" in printed
    assert "of 400 columns" in printed
    assert "csv and json show everything" in printed
    asking.print_rows(cells, False, "csv")
    assert len(capsys.readouterr().out) > 18_000_000


def test_questions_in_files(make_settings, tmp_path):
    rows = tmp_path / "questions.jsonl"
    rows.write_text('{"question": "How many?"}\n')
    settings = make_settings("--database", "x.sqlite", "--questions", str(rows))
    assert asking.load_questions("", settings.QUESTIONS) == [{"question": "How many?"}]
    (tmp_path / "none.txt").write_text("\n \n")
    for name, message in (("none.txt", "no question"), ("missing.txt", "no such file")):
        with pytest.raises(UserError, match=message):
            asking.load_questions("", str(tmp_path / name))
    with pytest.raises(UserError, match="--question"):
        asking.connect(make_settings("--database", "x.sqlite"))


@pytest.fixture
def many(ask, sqlite_server, tmp_path):
    """Asks 30 questions with --output out.jsonl."""
    (tmp_path / "q.txt").write_text("".join(f"Who is older than {number}?\u2028Really?\n" for number in range(30)))
    return lambda *flags: ask(
        sqlite_server.reader,
        "--questions",
        str(tmp_path / "q.txt"),
        "--execute",
        "--output",
        str(tmp_path / "out.jsonl"),
        *flags,
    )


def test_an_interrupt_keeps_yesterdays_file_and_the_answers_so_far(many, tmp_path, monkeypatch):
    many()
    yesterday = (tmp_path / "out.jsonl").read_text()
    assert yesterday.count("\n") == 30
    add, asked, write = Journal.add, [], answer_writer.SqlWriter.candidates

    def interrupted(self, *arguments):
        add(self, *arguments)
        if len(self.written) == 12:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", interrupted)
        with pytest.raises(Interrupted, match="interrupted after 12 answers. Resume with"):
            many()
    assert (tmp_path / "out.jsonl").read_text() == yesterday
    monkeypatch.setattr(
        answer_writer.SqlWriter, "candidates", lambda self, rows, *more: asked.extend(rows) or write(self, rows, *more)
    )
    many("--resume")
    assert len(asked) == 18
    assert (tmp_path / "out.jsonl").read_text() == yesterday
    with pytest.raises(UserError, match="--resume.*no answers"):
        many("--resume")


def test_an_interrupt_while_queries_run_keeps_what_was_written(many, tmp_path, monkeypatch):
    (tmp_path / "out.jsonl").touch()
    with monkeypatch.context() as patch:
        patch.setattr(asking, "_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(Interrupted, match="interrupted after 30 answers"):
            many()
    assert (tmp_path / "out.jsonl").read_text() == ""
    monkeypatch.setattr(
        answer_writer.SqlWriter, "candidates", lambda self, rows, *more: [] if not rows else pytest.fail("asked")
    )
    many("--resume")
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 30
