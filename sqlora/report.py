"""What a run shows to a person: the loss curve, and the answers before and after.

An answer is a dict of question, context, answer (the expected SQL), base and adapter (their SQL), each text, or None
where it is not known. "Right" means equal to the expected SQL in normal form; see sql.py.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqlora.model_card import public_name
from sqlora.run_folder import replace_file
from sqlora.sql import exact_match

Answer = dict[str, str | None]
Verdicts = dict[str, bool | None]  # of base and adapter: right, wrong, or None where it cannot be told
WHOSE = ("base", "adapter")
PAGE_MARKS = {True: "✓ as expected", False: "✗ differs"}
HEADINGS = {"answer": "Expected", "base": "Base model", "adapter": "With the adapter"}
KINDS: dict[str, tuple[str, Callable[[Verdicts], bool]]] = {
    "all": ("All", lambda found: True),
    "gained": ("Adapter right, base wrong", lambda found: found["adapter"] is True and found["base"] is False),
    "lost": ("Base right, adapter wrong", lambda found: found["base"] is True and found["adapter"] is False),
    "wrong": ("Adapter wrong", lambda found: found["adapter"] is False),
}
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"  # of Okabe and Ito: apart for every kind of colour vision
SQL_WORDS = (
    "SELECT DISTINCT FROM LEFT RIGHT INNER OUTER CROSS JOIN ON AS WHERE AND OR NOT IN IS NULL LIKE BETWEEN "
    "EXISTS GROUP ORDER BY HAVING LIMIT OFFSET ASC DESC UNION ALL INTERSECT EXCEPT CASE WHEN THEN ELSE END CREATE "
    "TABLE PRIMARY FOREIGN KEY REFERENCES"
)
SQL_PIECE = re.compile(rf"""('(?:[^']|'')*'|"[^"]*")|\b(?:{SQL_WORDS.replace(" ", "|")})\b""", re.IGNORECASE)


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


def _verdicts(row: Answer) -> Verdicts:
    known = row.get("answer") is not None
    return {who: exact_match(row[who], row["answer"]) if known and row.get(who) is not None else None for who in WHOSE}


def answer_facts(answers: list[Answer], base: str, adapter: Path | None) -> dict[str, str]:
    """What heads the before/after page: who answered, and how many answers are right, of those that can be judged."""
    facts = {"base model": public_name(base), "adapter": str(adapter or "none"), "questions": f"{len(answers):,}"}
    verdicts = [_verdicts(row) for row in answers]
    for who in WHOSE:
        known = [found[who] for found in verdicts if found[who] is not None]
        if known:
            facts[f"exact match, {who}"] = f"{sum(known) / len(known):.1%} ({sum(known)} of {len(known)})"
    return facts


def print_comparison(answers: list[Answer], console: Console | None = None, limit: int = 20) -> None:
    """The first `limit` questions, each with its answers line under line, marked where the right one is known."""
    console = console or Console()
    utf8 = console.encoding.lower().startswith("utf")
    marks = {True: ("✓" if utf8 else "ok", "green"), False: ("✗" if utf8 else "no", "red"), None: ("", "")}

    def plain(text: str, style: str = "") -> Text:
        # A model may write anything: no escape sequence reaches the terminal, nor a character that it cannot encode.
        text = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
        return Text(text.encode(console.encoding, "replace").decode(console.encoding), style)

    for number, row in enumerate(answers[:limit], start=1):
        console.print(plain(f"{number}. {row.get('question') or ''}", "bold"))
        table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
        table.add_column(width=10, style="dim", justify="right")
        table.add_column(width=max(len(mark) for mark, _ in marks.values()))
        table.add_column(overflow="fold")
        verdicts = _verdicts(row)
        for name in ("answer", *WHOSE):
            if row.get(name) is not None:
                mark = marks[verdicts.get(name)]
                table.add_row("expected" if name == "answer" else name, Text(*mark), plain(row[name] or "(nothing)"))
        console.print(table)
        console.print()
    if len(answers) > limit:
        console.print(f"and {len(answers) - limit:,} more", style="dim", highlight=False)


def write_page(path: Path, rows: list[Answer], curve_png: Path | None, facts: dict[str, str]) -> None:
    """One HTML file that needs no other: facts, the loss curve, and every question with its answers, to be filtered."""
    verdicts = [_verdicts(row) for row in rows]
    picture = ""
    if curve_png is not None:
        data = base64.b64encode(curve_png.read_bytes()).decode()
        picture = f'<img class="curve" alt="Training and evaluation loss by step" src="data:image/png;base64,{data}">'
    judged = any(right is not None for found in verdicts for right in found.values())
    buttons = [
        f'<button type="button" data-kind="{kind}" aria-pressed="{"true" if kind == "all" else "false"}">{label} '
        f"<span>{sum(map(fits, verdicts)):,}</span></button>"
        for kind, (label, fits) in KINDS.items()
    ]
    told = [f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(fact))}</dd>" for name, fact in facts.items()]
    parts = {
        "FACTS": "".join(told),
        "CURVE": picture,
        "BUTTONS": "\n".join(buttons) if judged else "",
        "NOTE": '<p class="note">Right means the same as the expected SQL but for layout and letter case. '
                "A query that differs may still give the right result.</p>" if judged else "",
        "ROWS": "\n".join(map(_article, range(1, len(rows) + 1), rows, verdicts)),
    }
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    # In one go: a question may spell a placeholder.
    text = re.sub(r"{{(\w+)}}", lambda place: parts[place[1]], template)
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8", errors="replace"))


def _article(number: int, row: Answer, verdicts: Verdicts) -> str:
    def block(name: str) -> str:
        right, sql = verdicts.get(name), row.get(name)
        if sql is None:
            return ""
        mark = "" if right is None else f'<b class="{"right" if right else "wrong"}">{PAGE_MARKS[right]}</b>'
        shown = _coloured(sql) if sql.strip() else "<i>(nothing)</i>"
        return f'<div><h3>{HEADINGS[name]} {mark}</h3><pre>{shown}</pre></div>'

    kinds = " ".join(kind for kind, (_, fits) in KINDS.items() if fits(verdicts))
    context = re.sub(r";\s*(?=CREATE\b)", ";\n", row.get("context") or "", flags=re.IGNORECASE)
    schema = f"<details><summary>Schema</summary><pre>{_coloured(context)}</pre></details>" if context else ""
    pair = "".join(map(block, WHOSE))
    return (f'<article data-kinds="{kinds}"><h2><small>{number}</small> {html.escape(row.get("question") or "")}</h2>'
            f'{schema}{block("answer")}<div class="pair">{pair}</div></article>')


def _coloured(sql: str) -> str:
    """SQL as HTML, escaped, its keywords and quoted text marked."""
    pieces, end = [], 0
    for found in SQL_PIECE.finditer(sql):
        tag = "q" if found[1] else "k"
        pieces += [html.escape(sql[end : found.start()]), f'<span class="{tag}">{html.escape(found[0])}</span>']
        end = found.end()
    return "".join(pieces) + html.escape(sql[end:])
