"""The answers of base and adapter in the terminal, and evaluation.json.

An answer is a dict of question, context, answer (the expected SQL), base and adapter (their SQL), each a text, or None
where it is not known, and how they were written, `decoding`; its verdicts are those of judge.judge_answers.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqlora.evaluation.judge import AnsweredRow, evaluation_report
from sqlora.evaluation.metrics import (
    SHARES,
    VARIANTS,
    Judgement,
    card,
    compare_scores,
    compute_metrics,
    format_comparison,
    format_share,
    metrics_by_variant,
    verdicts_by_variant,
)
from sqlora.reports.model_card import public_name
from sqlora.storage.atomic import replace_file
from sqlora.system.console import plain

MARKS = {True: ("✓", "ok", "green"), False: ("✗", "no", "red"), None: ("", "", "")}


def answer_facts(
    answers: list[AnsweredRow], judged: list[Judgement], base: str, adapter: Path | None
) -> dict[str, str]:
    """What heads the before/after page: who answered, and how many answers are right, of those that can be judged."""
    facts = {"base model": public_name(base), "adapter": str(adapter or "none"), "questions": f"{len(answers):,}"}
    by_variant = verdicts_by_variant(judged)
    for who in VARIANTS:
        if changed := sum(bool(row.get("decoding", {}).get(who, {}).get("passed_over")) for row in answers):
            facts[f"changed by CONSTRAIN, {who}"] = f"{changed:,}"
    for who, verdicts in by_variant.items():
        key = "execution_match" if any(verdict.executed for verdict in verdicts) else "exact_match"
        facts[f"{SHARES[key]}, {who}"] = format_share(compute_metrics(verdicts)[key], " %")
    if len(by_variant) == len(VARIANTS):
        facts["adapter against base"] = format_comparison(compare_scores(*by_variant.values()))
    return facts


def print_card(judged: list[Judgement], console: Console) -> None:
    """Prints the shares of base and adapter side by side."""
    console.print(card(metrics_by_variant(judged)))


def write_evaluation(path: Path, answers: list[AnsweredRow], judged: list[Judgement]) -> None:
    """Writes judge.evaluation_report as JSON."""
    text = json.dumps(evaluation_report(answers, judged), ensure_ascii=False)
    replace_file(path, lambda partial: partial.write_text(text + "\n", encoding="utf-8", errors="replace"))


def print_comparison(
    answers: list[AnsweredRow], judged: list[Judgement], console: Console | None = None, limit: int = 20
) -> None:
    """The first `limit` questions, each with its answers line under line, marked where the right one is known."""
    console = console or Console()
    utf8 = console.encoding.lower().startswith("utf")

    shown = partial(plain, to=console)

    for number, (row, judgement) in enumerate(zip(answers[:limit], judged, strict=False), start=1):
        console.print(shown(f"{number}. {row.get('question') or ''}", "bold"))
        table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
        table.add_column(width=10, style="dim", justify="right")
        table.add_column(width=1 if utf8 else 2)
        table.add_column(overflow="fold")
        for name in ("answer", *VARIANTS):
            if row.get(name) is None:
                continue
            verdict = judgement.get(name)
            sign, ascii_sign, style = MARKS[verdict.is_right if verdict else None]
            table.add_row(
                "expected" if name == "answer" else name,
                Text(sign if utf8 else ascii_sign, style),
                shown(row[name] or "(nothing)"),
            )
            if verdict and verdict.why:
                table.add_row("", "", shown(verdict.why, "dim"))
        console.print(table)
        console.print()
    if len(answers) > limit:
        console.print(f"and {len(answers) - limit:,} more", style="dim", highlight=False)
