"""SQLite's functions of dates, with their modifiers, as PostgreSQL, MySQL and MariaDB have them; or refused by name.

https://sqlite.org/lang_datefunc.html
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp

from sqlora.sql.parsing import SqlError

STEP = re.compile(r"([+-]?)(\d+) (second|minute|hour|day|month|year)s?", re.IGNORECASE)
START = re.compile(r"start of (day|month|year)", re.IGNORECASE)
EPOCH = 2440587.5  # of Unix, as julianday has it
STARTS = {"year": "%Y-01-01", "month": "%Y-%m-01", "day": "%Y-%m-%d"}  # in MySQL's DATE_FORMAT
CALLS = ("DATE", "DATETIME", "JULIANDAY", "STRFTIME")


def function_name(node: exp.Expr) -> str:
    """DATE, DATETIME, JULIANDAY or STRFTIME for a call of theirs that the others do not know as it is, or ""."""
    if isinstance(node, exp.Date):
        return "DATE" if node.this is None or _is_now(node.this) else ""
    if isinstance(node, exp.TimeToStr):
        return "STRFTIME" if _is_now(_moment(node.this)) else ""
    name = node.name.upper() if isinstance(node, exp.Anonymous) else ""
    return name if name in CALLS else ""


def say(node: exp.Expr, is_postgres: bool) -> exp.Expr:
    """The call of `function_name` in PostgreSQL's, or else MySQL's words. Raises SqlError for a modifier that these
    have not.
    """
    name, given = function_name(node), list(node.expressions)
    form = None
    if isinstance(node, exp.TimeToStr):
        given, form = [_moment(node.this)], node.args["format"]
    elif isinstance(node, exp.Date):
        given = [node.this] if node.this is not None else []
    elif name == "STRFTIME" and given:
        form = given.pop(0)
    moment, modifiers = given[0] if given else exp.Literal.string("now"), given[1:]
    dialect = "postgres" if is_postgres else "mysql"
    text = "CURRENT_TIMESTAMP" if _is_now(moment) else "m"
    if name == "DATE" and not modifiers and text != "m":
        return exp.CurrentDate()
    text = f"CAST({text} AS {'TIMESTAMP' if is_postgres else 'DATETIME'})"
    is_start = False
    for modifier in modifiers:
        text, is_start = _modified(text, modifier, is_start, is_postgres)
    if name == "DATE":
        text = f"CAST({text} AS DATE)"
    elif name == "JULIANDAY":
        seconds = f"EXTRACT(EPOCH FROM {text})" if is_postgres else f"TIMESTAMPDIFF(SECOND, '1970-01-01', {text})"
        text = f"({seconds} / 86400.0 + {EPOCH})"
    said = sqlglot.parse_one(text, read=dialect)
    for place in [column for column in said.find_all(exp.Column) if column.name == "m"]:
        place.replace(moment.copy())
    return exp.TimeToStr(this=said, format=form.copy()) if form is not None else said


def _modified(text: str, modifier: exp.Expr, is_start: bool, is_postgres: bool) -> tuple[str, bool]:
    """A moment after a modifier, and whether it is the start of a month."""
    written = modifier.name if isinstance(modifier, exp.Literal) and modifier.is_string else ""
    if start := START.fullmatch(written):
        unit = start[1].lower()
        truncated = f"DATE_TRUNC('{unit}', {text})"
        if not is_postgres:
            truncated = f"CAST(DATE_FORMAT({text}, '{STARTS[unit]}') AS DATETIME)"
        return truncated, unit != "day"
    step = STEP.fullmatch(written)
    # from the 31st, SQLite goes a month on and then counts the days that are too many: March 3, not February 28
    if step is None or (step[3].lower() in ("month", "year") and not is_start):
        raise SqlError("syntax", f"the modifier {modifier.sql('sqlite')} of a date cannot be said in this database")
    amount = f"'{step[2]} {step[3]}'" if is_postgres else f"{step[2]} {step[3].upper()}"
    return f"({text} {step[1] or '+'} INTERVAL {amount})", is_start and step[3].lower() in ("month", "year")


def _moment(node: exp.Expr) -> exp.Expr:
    return node.this if isinstance(node, exp.TsOrDsToTimestamp) else node


def _is_now(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and node.name.lower() == "now"
