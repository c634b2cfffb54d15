"""Questions to a live database, from the connection to the last answer."""

from __future__ import annotations

from collections.abc import Callable

from sqlora.ask import questions, shell
from sqlora.generation import answer_journal
from sqlora.generation.answer_writer import AnsweringModel
from sqlora.settings.settings import Settings


def run(settings: Settings, load_model: Callable[[Settings, int], AnsweringModel]) -> None:
    """Connects to DATABASE, loads the model for so many questions, and answers them, or asks at a prompt.

    The connection comes first: a wrong URL is reported before a model is loaded. Raises UserError.
    """
    live = questions.connect(settings)
    rows = questions.load_questions(settings.QUESTION, settings.QUESTIONS)
    loaded = load_model(settings, len(rows))
    style = "plain" if loaded.schema_style == "auto" else loaded.schema_style  # of a base alone
    asker = questions.Asker(live, loaded.model, loaded.tokenizer, settings, style)
    if settings.INTERACTIVE:
        shell.talk(asker, settings.EXECUTE, settings.FORMAT, settings.SAVE_FEEDBACK)
        return
    questions.answer_questions(
        asker,
        rows,
        settings,
        lambda asked: answer_journal.open_journal(asked, loaded.base, loaded.adapter_folder, settings),
    )
