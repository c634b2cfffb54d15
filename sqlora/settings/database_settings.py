"""Which settings of generate.py's one question, and of a live database, go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlora.system.errors import UserError

if TYPE_CHECKING:
    from sqlora.settings.command_line import Settings

WAYS = {"QUESTION": "--question", "QUESTIONS": "--questions", "INTERACTIVE": "--interactive"}  # in which a database is asked
NEED_DATABASE = {"QUESTIONS": "--questions", "TABLES": "--tables", "EXECUTE": "--execute", "INTERACTIVE": "--interactive",
                 "SAVE_FEEDBACK": "--save-feedback"}


def check(s: Settings) -> None:
    """Raises UserError for a question without a schema, and for settings that nothing would come of."""
    if s.DATABASE:
        _check_database(s)
        return
    if s.QUESTION and not s.CONTEXT:
        raise UserError(f"QUESTION (--question) is {s.QUESTION!r} without its schema; add --context with CREATE TABLE text "
                        f"or a .sql file, or --database with a live one")
    if s.CONTEXT and not s.QUESTION:
        raise UserError("CONTEXT (--context) is given without a question; add --question")
    for name, flag in NEED_DATABASE.items():
        if getattr(s, name):
            raise UserError(f"{name} ({flag}) needs a database; add --database with its URL, or with an SQLite file")


def _check_database(s: Settings) -> None:
    ways = [f"{name} ({flag})" for name, flag in WAYS.items() if getattr(s, name)]
    if len(ways) > 1:
        raise UserError(f"{' and '.join(ways)} are given; a database is asked in one way")
    if s.CONTEXT:
        raise UserError("CONTEXT (--context) and DATABASE (--database) are given, and both are the schema; leave one out")
    if s.FORMAT == "csv" and s.QUESTIONS:
        raise UserError("FORMAT (--format) is 'csv', which holds one table, and there are QUESTIONS (--questions); take json")
    if s.FORMAT == "csv" and not s.EXECUTE and not s.INTERACTIVE:
        raise UserError("FORMAT (--format) is 'csv', and no query is run that could give rows; add --execute")
    if s.SAVE_FEEDBACK and not s.INTERACTIVE:
        raise UserError("SAVE_FEEDBACK (--save-feedback) keeps what you correct at the prompt; add --interactive")
