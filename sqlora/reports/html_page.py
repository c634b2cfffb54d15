"""The before/after page: one HTML file with every question, its answers and what was found of them, to be filtered."""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlora.evaluation.judge import AnsweredRow
from sqlora.evaluation.metrics import (
    QUERY_KINDS,
    SHARES,
    UNSCORED,
    VARIANTS,
    Difference,
    Judgement,
    Verdict,
    format_share,
    metrics_by_variant,
)
from sqlora.sql.sandbox import Value
from sqlora.storage.atomic import replace_file

HEADINGS = {"answer": "Expected", "base": "Base model", "adapter": "With the adapter"}
# base right, adapter right, verdicts
PAGE_FILTERS: dict[str, tuple[str, Callable[[bool | None, bool | None, set[str]], bool]]] = {
    "all": ("All", lambda base, adapter, verdicts: True),
    "gained": ("Adapter right, base wrong", lambda base, adapter, verdicts: adapter is True and base is False),
    "lost": ("Base right, adapter wrong", lambda base, adapter, verdicts: base is True and adapter is False),
    "wrong": ("Adapter wrong", lambda base, adapter, verdicts: adapter is False),
    "differs": ("Other rows", lambda base, adapter, verdicts: "mismatch" in verdicts),
    "unscorable": ("Not scored", lambda base, adapter, verdicts: bool(verdicts & set(UNSCORED))),
}
NOTES = {
    False: "Right means the same as the expected SQL but for layout and letter case. A query that differs may still "
    "give "
    "the right result; --evaluate runs both.",
    True: "Right means the same rows as the expected SQL gives, on 20 or more synthetic databases of its own. A "
    "question whose expected SQL does not run, or leaves its rows to chance, is not scored.",
}
MOST_ROWS = 30  # of a table that is shown
SQL_WORDS = (
    "SELECT DISTINCT FROM LEFT RIGHT INNER OUTER CROSS JOIN ON AS WHERE AND OR NOT IN IS NULL LIKE BETWEEN "
    "EXISTS GROUP ORDER BY HAVING LIMIT OFFSET ASC DESC UNION ALL INTERSECT EXCEPT CASE WHEN THEN ELSE END CREATE "
    "TABLE PRIMARY FOREIGN KEY REFERENCES"
)
SQL_PIECE = re.compile(rf"""('(?:[^']|'')*'|"[^"]*")|\b(?:{SQL_WORDS.replace(" ", "|")})\b""", re.IGNORECASE)


def write_page(
    path: Path,
    rows: list[AnsweredRow],
    prompts: list[str],
    judged: list[Judgement],
    curve_png: Path | None,
    facts: dict[str, str],
) -> None:
    """One HTML file that needs no other: facts, the loss curve, the card, and every question with its prompt and its
    answers.
    """
    picture = ""
    if curve_png is not None:
        data = base64.b64encode(curve_png.read_bytes()).decode()
        picture = f'<img class="curve" alt="Training and evaluation loss by step" src="data:image/png;base64,{data}">'
    kinds = [_kinds(judgement) for judgement in judged]
    # Without runs, what differs is what is wrong.
    executed = any(verdict.executed for judgement in judged for verdict in judgement.values())
    buttons = [
        f'<button type="button" data-kind="{kind}" aria-pressed="{"true" if kind == "all" else "false"}">{label} '
        f"<span>{sum(kind in of_row for of_row in kinds):,}</span></button>"
        for kind, (label, _) in PAGE_FILTERS.items()
        if executed or kind not in ("differs", "unscorable")
    ]
    listed = [f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(fact))}</dd>" for name, fact in facts.items()]
    parts = {
        "FACTS": "".join(listed),
        "CURVE": picture,
        "CARD": _card(judged) if executed else "",
        "BUTTONS": "\n".join(buttons) if any(judged) else "",
        "NOTE": f'<p class="note">{html.escape(NOTES[executed])}</p>' if any(judged) else "",
        "ROWS": "\n".join(map(_article, range(1, len(rows) + 1), rows, prompts, judged, kinds)),
    }
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    # In one go: a question may spell a placeholder.
    text = re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], template)
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8", errors="replace"))


def _kinds(judgement: Judgement) -> list[str]:
    right = {who: verdict.is_right for who, verdict in judgement.items()}
    verdicts = {verdict.verdict for verdict in judgement.values() if verdict.executed}
    return [kind for kind, (_, fits) in PAGE_FILTERS.items() if fits(right.get("base"), right.get("adapter"), verdicts)]


def _card(judged: list[Judgement]) -> str:
    """The shares of base and adapter side by side, also of matches by kind of query."""
    metrics = metrics_by_variant(judged)
    shares = {label: [one[key] for one in metrics.values()] for key, label in SHARES.items()}
    shares |= {f"match, {kind}": [one["by_kind"][kind] for one in metrics.values()] for kind in QUERY_KINDS}
    lines = [[label, *map(format_share, row)] for label, row in shares.items() if any(share["of"] for share in row)]
    return f'<div class="wide">{_table(["share in %, 95 % interval", *metrics], lines)}</div>'


def _article(number: int, row: AnsweredRow, prompt: str, judgement: Judgement, kinds: list[str]) -> str:
    def block(name: str) -> str:
        verdict, sql = judgement.get(name), row.get(name)
        if sql is None:
            return ""
        decoding = row.get("decoding", {}).get(name, {})
        shown = _coloured(sql, decoding.get("passed_over", [])) if sql.strip() else "<i>(nothing)</i>"
        heading = f"{HEADINGS[name]} {_mark(verdict)}{_certainty(decoding)}"
        return f"<div><h3>{heading}</h3><pre>{shown}</pre>{_reason(verdict)}</div>"

    context = re.sub(r";\s*(?=CREATE\b)", ";\n", row.get("context") or "", flags=re.IGNORECASE)
    schema = f"<details><summary>Schema</summary><pre>{_coloured(context)}</pre></details>" if context else ""
    shown = f"<details><summary>Prompt</summary><pre>{html.escape(prompt)}</pre></details>"
    hint = f'<p class="why">hint: {html.escape(evidence)}</p>' if (evidence := row.get("evidence")) else ""
    pair = "".join(map(block, VARIANTS))
    return (
        f'<article data-kinds="{" ".join(kinds)}"><h2><small>{number}</small> '
        f"{html.escape(row.get('question') or '')}</h2>"
        f'{hint}{schema}{shown}{block("answer")}<div class="pair">{pair}</div></article>'
    )


def _mark(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    if verdict.is_right:
        return f'<b class="right">✓ {"as expected" if verdict.exact else "the same rows"}</b>'
    words = {
        "mismatch": "✗ other rows" if verdict.executed else "✗ differs",
        "invalid": "✗ does not run",
        "timeout": "✗ takes too long",
        "unscorable": "not scorable",
        "error": "not scored",
    }
    return f'<b class="{"" if verdict.is_right is None else "wrong"}">{words[verdict.verdict]}</b>'


def _certainty(decoding: dict[str, Any]) -> str:
    """How likely the model found the answer, and how much of its probability CONSTRAIN took away."""
    if not decoding:
        return ""
    title = "the mean log-probability of its tokens"
    text = f' <small title="{title}">log p {decoding["log_probability"]:.3f}</small>'
    if share := decoding["forbidden_probability"]:
        text += f" <small>{100 * share:.0f} % was forbidden</small>"
    return text


def _reason(verdict: Verdict | None) -> str:
    """Why an answer is not right, and the database that shows it; or why a match is not proven."""
    if verdict is not None and verdict.unproven:
        return f'<p class="why">not proven: {html.escape(verdict.unproven)}</p>'
    if verdict is None or not verdict.why:
        return ""
    reason = f'<p class="why">{html.escape(verdict.why)}</p>'
    return reason + _difference(verdict.difference) if verdict.difference else reason


def _difference(difference: Difference) -> str:
    results = "".join(
        f"<h4>{name}</h4>{_table([], rows)}"
        for name, rows in (("expected rows", difference.expected), ("rows of this answer", difference.predicted))
    )
    tables = "".join(
        f"<h4>{html.escape(name)}</h4>{_table(table['columns'], table['rows'])}"
        for name, table in difference.database.items()
    )
    script = f"<h4>as SQL</h4><pre>{html.escape(difference.script)}</pre>" if difference.script else ""
    title = "The fewest rows on which they differ" if difference.database else "What each returns"
    return f'<details><summary>{title}</summary><div class="wide">{results}{tables}{script}</div></details>'


def _table(columns: list[str], rows: list) -> str:
    if not rows:
        return "<p><i>(no rows)</i></p>"
    head = f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in columns)}</tr>" if columns else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows[:MOST_ROWS])
    more = f"<p><i>and {len(rows) - MOST_ROWS:,} more</i></p>" if len(rows) > MOST_ROWS else ""
    return f"<table>{head}{body}</table>{more}"


def _cell(value: Value) -> str:
    return "<td><i>NULL</i></td>" if value is None else f"<td>{html.escape(str(value))}</td>"


def _coloured(sql: str, passed_over: Sequence[dict[str, Any]] = ()) -> str:
    """SQL as HTML, escaped, its keywords and quoted text marked, and what was passed over struck out at its place."""
    struck = {min(one["at"], len(sql)): one for one in passed_over}
    kinds = {piece.start(): (piece.end(), "q" if piece[1] else "k") for piece in SQL_PIECE.finditer(sql)}
    pieces, kind, kind_ends = [], "", 0
    places = sorted({0, len(sql), *struck, *kinds, *(end for end, _ in kinds.values())})
    for start, end in itertools.pairwise([*places, len(sql)]):
        if start in struck:
            pieces.append(_struck(**struck[start]))
        kind_ends, kind = kinds.get(start, (kind_ends, kind))
        text = html.escape(sql[start:end])
        pieces.append(f'<span class="{kind}">{text}</span>' if text and start < kind_ends else text)
    return "".join(pieces)


def _struck(at: int, text: str, probability: float) -> str:
    shown = html.escape(text) or "(end)"
    return f'<del title="forbidden here: {100 * probability:.0f} % of the probability">{shown}</del>'
