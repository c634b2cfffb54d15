"""The round trip: a question stays if a model answers it with SQL that gives what the pair's own gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlora.ask.questions import Asker
from sqlora.databases.live import LiveDatabase
from sqlora.model import adapter, architecture, base_models, loading
from sqlora.settings.command_line import load_settings
from sqlora.sql.parsing import SqlError
from sqlora.sql.sandbox import Value
from sqlora.synthesis.from_database import MOST_ROWS, Pair, Synthesis


def open_asker(live: LiveDatabase, folder: Path) -> Asker:
    """The adapter in a folder, on its base and prompted as in its run, to ask a database. Raises UserError."""
    settings = load_settings(["--from-run", str(folder), "--lora-checkpoint", str(folder)], "", trains=False)
    device = loading.choose_device(settings)
    folder = adapter.find_adapter(settings) or folder
    base = base_models.find_base_model(settings.BASE_MODEL)
    loading.check_causal(base)
    tokenizer = loading.load_tokenizer(base, settings.prompt_layout)
    fingerprint = adapter.check_adapter(folder, base, tokenizer, settings.prompt_layout)
    adapter.check_dialect(folder, fingerprint, settings.SQL_DIALECT)
    model = loading.load_base(base, settings.LOW_BIT, device, training=False)
    architecture.check_tokens(model, tokenizer, settings.prompt_layout)
    style = adapter.schema_style(folder, fingerprint, settings.SCHEMA_STYLE)
    return Asker(live, adapter.load_adapter(model, folder), tokenizer, settings, style)


def answered(pairs: Sequence[Pair], synthesis: Synthesis, asker: Asker) -> list[Pair]:
    """The pairs that have a question to which the model's SQL gives the same rows, with these questions alone."""
    asked = [(i, question) for i, pair in enumerate(pairs) for question in pair.questions]
    right: dict[int, list[str]] = {}
    for (i, question), answer in zip(asked, asker.ask([question for _, question in asked]), strict=True):
        if not answer.fault and _gives_the_same(pairs[i], answer.sql, synthesis, asker.live):
            right.setdefault(i, []).append(question)
    return [replace(pair, questions=tuple(right[i])) for i, pair in enumerate(pairs) if i in right]


def _gives_the_same(pair: Pair, sql: str, synthesis: Synthesis, live: LiveDatabase) -> bool:
    """Whether both give the same rows, in one order where the pair's query sorts them; columns may change places."""
    try:
        given, has_more = live.run(sql, MOST_ROWS)
        expected, _ = synthesis.run(pair.sql)
    except SqlError:
        return False
    one, other = (list(map(_in_any_order, rows)) for rows in (given.rows, expected))
    return not has_more and (one == other if pair.query.order else Counter(one) == Counter(other))


def _in_any_order(row: tuple[Value, ...]) -> tuple[str, ...]:
    return tuple(sorted(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row))
