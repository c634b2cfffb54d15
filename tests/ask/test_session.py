"""Questions to a live database, from the connection to the last answer."""

import pytest

import generate
from sqlora.ask import session
from sqlora.system.errors import UserError


@pytest.fixture
def settings_of(make_settings, scholar_folder):
    model = ["--base-model", str(scholar_folder), "--low-bit", "none", "--max-new-tokens", "60"]
    return lambda *flags: make_settings(*model, *flags, trains=False)


def test_a_wrong_database_is_reported_before_a_model_is_loaded(settings_of, tmp_path):
    (tmp_path / "no.sqlite").write_text("no database")
    settings = settings_of("--database", str(tmp_path / "no.sqlite"), "--question", "How many singers are there?")
    with pytest.raises(UserError, match="DATABASE"):
        session.run(settings, lambda *_: pytest.fail("a model is loaded"))


def test_the_model_is_loaded_for_so_many_questions(settings_of, sqlite_server, tmp_path, capsys):
    (tmp_path / "questions.txt").write_text("How many singers are there?\nWho is older than 20?\n")
    counts = []

    def load_model(settings, questions):
        counts.append(questions)
        return generate.load_model(settings, questions)

    flags = (
        "--database",
        sqlite_server.reader,
        "--questions",
        str(tmp_path / "questions.txt"),
        "--tables",
        "Song,singer",
    )
    session.run(settings_of(*flags, "--model", "base"), load_model)
    assert counts == [2]
    assert "SELECT COUNT(*) FROM singer" in capsys.readouterr().out
