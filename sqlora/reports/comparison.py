"""What a run shows to a person: the loss curve, and the answers in the terminal.

An answer is a dict of question, context, answer (the expected SQL), base and adapter (their SQL), each text, or None
where it is not known. Beside it stand the verdicts on base and adapter; see evaluation.judge_answers.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqlora.evaluation.judge import Answer, evaluation_report
from sqlora.evaluation.metrics import SHARES, WHOSE, Judgement, card, compare, metrics, of_each, tell
from sqlora.reports.model_card import public_name
from sqlora.storage.atomic import replace_file
from sqlora.system.console import plain

MARKS = {True: ("✓", "ok", "green"), False: ("✗", "no", "red"), None: ("", "", "")}
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"  # of Okabe and Ito: apart for every kind of colour vision


def plot_loss_curve(metrics_path: Path, png_path: Path, title: str) -> None:
    """Draws the losses of a metrics.jsonl, and the learning rate under them, into a PNG of 1600 x 1000 pixels.

    A line that a killed run left half written is passed over, and so is a figure that is missing or not finite; of a
    step that was logged twice, as by a resumed run, the later counts. Raises FileNotFoundError if there are no metrics.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive
    from matplotlib.ticker import MaxNLocator

    entries = _read_metrics(metrics_path)
    training, evaluation, rates = (_series(entries, key) for key in ("loss", "eval_loss", "learning_rate"))
    figure = Figure(figsize=(6.4, 4), dpi=250, layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(5, 1))
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium", fontweight="bold", parse_math=False)
    upper.plot(*training, color=BLUE, linewidth=1.6, marker="." if len(training[0]) < 3 else "", label="training loss")
    upper.plot(*evaluation, color=ORANGE, linewidth=1.1, marker="o", markersize=4, markerfacecolor="white",
               label="evaluation loss")
    last = max(training[0] + evaluation[0] + rates[0], default=0) or 1
    highest = max(training[1] + evaluation[1], default=0) or 1
    upper.set(ylabel="loss", xlim=(0, 1.02 * last), ylim=(0, 1.06 * highest))
    upper.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, frameon=False, fontsize="small", borderpad=0)
    if evaluation[0]:
        _annotate_best(upper, *evaluation)
    lower.plot(*rates, color=GREY, linewidth=1.2, marker="." if len(rates[0]) < 3 else "")
    fastest = max(rates[1], default=0) or 1
    lower.set(xlabel="step", ylabel="learning\nrate", ylim=(0, 1.15 * fastest))
    lower.set_yticks([0, fastest], ["0", f"{fastest:.2g}"])
    lower.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    for axes in (upper, lower):
        axes.grid(color="#e3e6ea", linewidth=0.7)
        axes.tick_params(labelsize="small", color=GREY)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    replace_file(png_path, lambda partial: figure.savefig(partial, format="png"))


def _annotate_best(axes, steps: list[int], values: list[float]) -> None:
    best = min(range(len(values)), key=values.__getitem__)
    point = steps[best], values[best]
    axes.plot(*point, color=ORANGE, marker="o", markersize=6)
    # The text goes to where there is room.
    left, low = (2 * at < end for at, (_, end) in zip(point, (axes.get_xlim(), axes.get_ylim()), strict=True))
    axes.annotate(f"best {values[best]:.4f}, step {steps[best]}", point, xytext=(6 if left else 0, 24 if low else -32),
                  textcoords="offset points", ha="left" if left else "right", fontsize="small",
                  bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
                  arrowprops={"arrowstyle": "-", "color": GREY, "shrinkB": 4})


def _read_metrics(path: Path) -> list[dict]:
    entries = []
    for line in path.read_bytes().splitlines():  # bytes: a cut may fall inside a character
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _series(entries: list[dict], key: str) -> tuple[list[int], list[float]]:
    def number(value: object) -> bool:
        return isinstance(value, int | float) and math.isfinite(value)

    known = {entry["step"]: entry[key] for entry in entries if number(entry.get("step")) and number(entry.get(key))}
    steps = sorted(known)
    return steps, [known[step] for step in steps]


def answer_facts(answers: list[Answer], judged: list[Judgement], base: str, adapter: Path | None) -> dict[str, str]:
    """What heads the before/after page: who answered, and how many answers are right, of those that can be judged."""
    facts = {"base model": public_name(base), "adapter": str(adapter or "none"), "questions": f"{len(answers):,}"}
    for who, verdicts in of_each(judged).items():
        key = "execution_match" if any(verdict.executed for verdict in verdicts) else "exact_match"
        facts[f"{SHARES[key]}, {who}"] = tell(metrics(verdicts)[key], " %")
    if len(of_each(judged)) == len(WHOSE):
        facts["adapter against base"] = tell_comparison(compare(*of_each(judged).values()))
    return facts


def tell_comparison(found: dict) -> str:
    """What `scorecard.compare` found, in one line."""
    p = "p < 0.0001" if found["p_value"] < 0.0001 else f"p = {found['p_value']:.4f}"
    return f"{found['only_adapter']:,} gained, {found['only_base']:,} lost of {found['n']:,} (McNemar, exact: {p})"


def print_card(judged: list[Judgement], console: Console) -> None:
    """The shares of base and adapter beside each other."""
    console.print(card({who: metrics(verdicts) for who, verdicts in of_each(judged).items()}))


def write_evaluation(path: Path, answers: list[Answer], judged: list[Judgement]) -> None:
    """What evaluation.evaluation_report tells, as JSON."""
    text = json.dumps(evaluation_report(answers, judged), ensure_ascii=False)
    replace_file(path, lambda partial: partial.write_text(text + "\n", encoding="utf-8", errors="replace"))


def print_comparison(answers: list[Answer], judged: list[Judgement], console: Console | None = None, limit: int = 20) -> None:
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
        for name in ("answer", *WHOSE):
            if row.get(name) is None:
                continue
            verdict = judgement.get(name)
            sign, ascii_sign, style = MARKS[verdict.is_right if verdict else None]
            table.add_row("expected" if name == "answer" else name, Text(sign if utf8 else ascii_sign, style),
                          shown(row[name] or "(nothing)"))
            if verdict and verdict.why:
                table.add_row("", "", shown(verdict.why, "dim"))
        console.print(table)
        console.print()
    if len(answers) > limit:
        console.print(f"and {len(answers) - limit:,} more", style="dim", highlight=False)
