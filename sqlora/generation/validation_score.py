"""The share of validation rows that a model in training answers rightly: what BEST_BY execution chooses by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from sqlora.data import fitting
from sqlora.data.dataset import Example, reading_of
from sqlora.evaluation import judge
from sqlora.evaluation.metrics import UNSCORED
from sqlora.generation.answer_writer import SqlWriter
from sqlora.settings.settings import Settings
from sqlora.system import distributed
from sqlora.system.console import note


class ValidationScorer:
    """Answers rows with the model as it is, greedily, and scores the answers as generate.py --evaluate does.

    The processes of a distributed run share the rows. `rows` must have golds that can be scored.
    """

    def __init__(self, model, tokenizer, rows: list[Example], settings: Settings) -> None:
        rank, world = distributed.rank_and_world()
        self.rows = rows[rank::world]
        self.shown = fitting.shown_rows(self.rows, tokenizer, settings.SCHEMA_STYLE, settings)
        self.scoring = scoring_of(settings)
        self.device = model.device
        greedy = replace(settings, NUM_BEAMS=1, NUM_CANDIDATES=1, CONSTRAIN="off", COMPILE="off")
        self.writer = SqlWriter(model, tokenizer, greedy)

    def __call__(self) -> float:
        """The share of right answers, from 0 to 1, over the rows of all processes."""
        written = self.writer.write(self.shown)
        self.writer.free_memory()
        answered = [row | {"prediction": sql} for row, sql in zip(self.rows, written, strict=True)]
        verdicts = [verdict.verdict for verdict in judge.score(answered, scoring=self.scoring)]
        counts = [verdicts.count("match"), sum(verdict not in UNSCORED for verdict in verdicts)]
        total = torch.tensor(counts, dtype=torch.float32, device=self.device)
        distributed.all_reduce_sum([total])
        right, scored = total.tolist()
        return right / max(scored, 1)


def make_scorer(model, tokenizer, rows: list[Example], settings: Settings) -> Callable[[], float] | None:
    """The scorer of a run over its validation `rows`; None if BEST_BY is loss, or with a note if no row can be scored
    or the base is sharded, so that no process can answer by itself.
    """
    if settings.BEST_BY == "loss":
        return None
    if distributed.rank_info().sharded:
        note("the base is sharded over processes, which cannot answer rows then, so BEST_BY is loss")
        return None
    golds = [row | {"prediction": row["answer"]} for row in rows]
    verdicts = judge.score(golds, scoring=scoring_of(settings))
    scorable = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict.verdict not in UNSCORED]
    if not scorable:
        note("no validation row's SQL can be run on its context, so BEST_BY is loss")
        return None
    return ValidationScorer(model, tokenizer, scorable, settings)


def scoring_of(settings: Settings) -> judge.Scoring:
    """How the settings say that answers are scored."""
    return judge.Scoring(settings.RULE, folder=reading_of(settings).database_folder, dialect=settings.SQL_DIALECT)
