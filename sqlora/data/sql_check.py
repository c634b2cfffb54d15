"""The data check: do the expected queries of a dataset run on their schemas? Others are counted, repaired or dropped.

A gold that uses a column missing from its context teaches the model to invent columns.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlglot
from sqlglot import exp

from sqlora.data import dataset
from sqlora.data.dataset import Example
from sqlora.evaluation.gold_quality import BLIND, EMPTY, UNSTABLE
from sqlora.sql import double_quotes, parsing, sandbox, translation
from sqlora.sql.schema import Schema
from sqlora.sql.translation import UntranslatableError, as_sqlite
from sqlora.storage import atomic
from sqlora.system.console import progress_bar
from sqlora.system.errors import UserError, error_with_location
from sqlora.system.process_pool import spread

BROKEN = {  # golds that cannot be used, by the kind of SqlError
    "schema": "context cannot be read",
    "no such table": "table not in the context",
    "no such column": "column not in the context",
    "ambiguous column": "ambiguous column",
    "syntax": "syntax error",
    "not read only": "not one SELECT",
    "several statements": "not one SELECT",
    "timeout": "does not run",
    "too large": "does not run",
    "other": "does not run",
    "error": "the check itself failed",
}
MERGED, QUOTES = "table created twice", "string in double quotes"  # are repaired
TEXT_NUMBER = "text compared with number"  # is kept: SQLite's databases here compare both as numbers
UNSAID = "SQLite has no words for it"  # is kept: of another dialect
SAID_ELSEWHERE = (BROKEN["syntax"], BROKEN["other"])
DUPLICATE, TOO_LONG = "duplicate row", "longer than MAX_LENGTH"
# the last three: golds that run and are not fit to score answers, for which python -m sqlora.data alone looks
KEPT = (TEXT_NUMBER, UNSAID, UNSTABLE, EMPTY, BLIND)
FINDINGS = (*dict.fromkeys(BROKEN.values()), DUPLICATE, TOO_LONG, MERGED, QUOTES, *KEPT)
DROPPED = {
    "off": set(),
    "warn": set(),
    # Golds that teach to invent names. Others that fail here may be right in their database's dialect.
    "drop": {BROKEN["no such table"], BROKEN["no such column"]},
    "fix": {*BROKEN.values(), DUPLICATE, TOO_LONG},
}

DEADLINE = 0.5  # seconds for a gold, on empty tables
ROWS_PER_TASK = 1000  # pairs of context and gold that a worker takes at a time
TYPED_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In)
# Parsing takes most of the time, and SQLite says whether a SELECT runs; but it takes an unknown "x" for a string, and
# does not report a number that is compared with text.
NEEDS_PARSING = re.compile(
    r'\A(?!\s*(select|with)\b)|"|[=<>(,]\s{0,9}-?\.?\d|\d\s{0,9}[<>=]|\bbetween\b', re.IGNORECASE
)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a row, {finding: why}, and its repaired context and answer, if they can be repaired."""

    faults: dict[str, str] = field(default_factory=dict)
    context: str | None = None
    answer: str | None = None

    def fatal(self, mode: str) -> str | None:
        """The first fault for which CHECK_DATA `mode` drops the row."""
        return next((fault for fault in self.faults if fault in DROPPED[mode]), None)


@dataclass(frozen=True)
class Checked:
    """The remaining rows, the number with each finding, the number dropped for each, and the number repaired."""

    rows: list[Example]
    counts: dict[str, int]
    dropped: dict[str, int]
    repaired: int = 0

    def __str__(self) -> str:
        summary = f"{sum(self.dropped.values()):,} rows dropped, {self.repaired:,} repaired"
        return summary + "".join(f"; {name}: {count:,}" for name, count in self.counts.items())


def check_rows(rows: list[Example], mode: str, folder: str | Path, dialect: str = "sqlite") -> Checked:
    """The rows that `mode`, a value of CHECK_DATA, keeps.

    These are all (off, warn), those whose golds, of a dialect, invent no names (drop), or repaired ones (fix). The
    findings are cached in .lint of `folder` under the hash of the data. Raises UserError if no row is left.
    """
    if mode == "off":
        return Checked(rows, {}, {})
    cache = Path(folder, ".lint", f"{dataset.data_hash(rows)}-{_rules(dialect)}.json")
    try:
        cached = {row: Finding(*finding) for row, *finding in json.loads(cache.read_text(encoding="utf-8"))}
        findings = [cached.get(row, Finding()) for row in range(len(rows))]
    except (OSError, ValueError, TypeError):  # missing or damaged
        findings = inspect_rows(rows, dialect)
        text = json.dumps([(row, f.faults, f.context, f.answer) for row, f in enumerate(findings) if f.faults])
        cache.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(cache, lambda partial: partial.write_text(text, encoding="utf-8"))
    checked = apply_findings(rows, findings, mode)
    if not checked.rows:
        raise UserError(
            f"CHECK_DATA (--check-data) is {mode!r}, and it dropped every row ({checked}); correct the "
            f"data, or set CHECK_DATA to warn"
        )
    return checked


def apply_findings(rows: list[Example], findings: list[Finding], mode: str) -> Checked:
    """Drops and repairs rows as `mode`, a value of CHECK_DATA, says."""
    kept: list[Example] = []
    dropped: Counter[str] = Counter()
    repaired = 0
    for row, finding in zip(rows, findings, strict=True):
        if reason := finding.fatal(mode):
            dropped[reason] += 1
        elif mode == "fix" and (finding.context or finding.answer):
            kept.append(row | {"context": finding.context or row["context"], "answer": finding.answer or row["answer"]})
            repaired += 1
        else:
            kept.append(row)
    counts = Counter(fault for finding in findings for fault in finding.faults)
    return Checked(kept, {name: counts[name] for name in FINDINGS if counts[name]}, dict(dropped), repaired)


def inspect_rows(rows: list[Example], dialect: str = "sqlite") -> list[Finding]:
    """One finding per row, computed in several processes if there are many rows.

    They are spawned, so a script must call this under `if __name__ == "__main__"`.
    """
    pairs = sorted({(row["context"], row["answer"]) for row in rows})
    chunks = [pairs[start : start + ROWS_PER_TASK] for start in range(0, len(pairs), ROWS_PER_TASK)]
    results: list[Finding] = []
    with progress_bar() as bar:
        task = bar.add_task("checking the data", total=len(pairs))
        with contextlib.closing(
            spread(_inspect_chunk, [(chunk, dialect) for chunk in chunks], least=2, chunk=1)
        ) as parts:
            for part in parts:
                results += part
                bar.update(task, completed=len(results))
    by_pair = dict(zip(pairs, results, strict=True))
    seen: dict[tuple[str, ...], int] = {}
    findings = []
    for number, row in enumerate(rows, start=1):
        finding = by_pair[row["context"], row["answer"]]
        # Once repaired, rows that differ in their quotes are the same.
        texts = (row["question"], finding.context or row["context"], finding.answer or row["answer"])
        first = seen.setdefault(tuple(" ".join(text.split()) for text in texts), number)
        repeats = {} if first == number else {DUPLICATE: f"of row {first}"}
        findings.append(replace(finding, faults=finding.faults | repeats) if repeats else finding)
    return findings


def inspect_few(rows: list[Example], dialect: str = "sqlite") -> list[Finding]:
    """One finding per row, in this process, without looking for duplicates."""
    pairs = sorted({(row["context"], row["answer"]) for row in rows})
    findings = dict(zip(pairs, _inspect_chunk(pairs, dialect), strict=True))
    return [findings[row["context"], row["answer"]] for row in rows]


def _inspect_chunk(pairs: list[tuple[str, str]], dialect: str) -> list[Finding]:
    """Findings of sorted pairs of context and answer; a context's golds run on one database."""
    findings = []
    for context, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        answers = [answer for _, answer in group]
        try:
            schema = parsing.parse_schema(context)
            with sandbox.Database(schema) as database:
                findings += [_safe_inspect(answer, schema, database, dialect) for answer in answers]
        except parsing.SqlError as error:
            findings += [Finding({BROKEN[error.kind]: str(error)})] * len(answers)
    return findings


def _safe_inspect(answer: str, schema: Schema, database: sandbox.Database, dialect: str) -> Finding:
    try:
        return (
            inspect(answer, schema, database)
            if dialect == "sqlite"
            else _inspect_translated(answer, schema, database, dialect)
        )
    except Exception as error:  # a fault of our own, or of a library's, is a finding and does not end the run
        return Finding({BROKEN["error"]: error_with_location(error)})


def _inspect_translated(answer: str, schema: Schema, database: sandbox.Database, dialect: str) -> Finding:
    """The same for a gold of another dialect, by what SQLite makes of it; that is not repaired."""
    try:
        said = as_sqlite(answer, dialect)
    except UntranslatableError as error:
        return Finding({UNSAID: str(error)})
    except parsing.SqlError as error:
        return Finding({BROKEN[error.kind]: str(error)})
    faults = inspect(said, schema, database).faults
    # it was parsed in its own dialect, in which it may well run
    return Finding({UNSAID if fault in SAID_ELSEWHERE else fault: why for fault, why in faults.items()})


def inspect(answer: str, schema: Schema, database: sandbox.Database) -> Finding:
    """What is wrong with a gold over `schema`, whose empty database this is."""
    faults, query, text = {}, None, answer
    if schema.merged:
        faults[MERGED] = ", ".join(schema.merged)
    try:
        if NEEDS_PARSING.search(answer):
            query = parsing.parse_query(answer, schema)
            text = _requote(answer, query)
            if text != answer:
                faults[QUOTES] = ""
            if column := _text_compared_with_number(query, schema):
                faults[TEXT_NUMBER] = f"{column} is text"
        if '"' in text or not _runs(text, database):
            database.run(parsing.to_sqlite(query or parsing.parse_query(answer, schema)), DEADLINE)
    except parsing.SqlError as error:
        return Finding(faults | {BROKEN[error.kind]: str(error)})
    return Finding(faults, schema.ddl() if schema.merged else None, text if text != answer else None)


def _runs(text: str, database: sandbox.Database) -> bool:
    try:
        return bool(database.run(text, DEADLINE))
    except parsing.SqlError:
        return False  # as SQLite alone reads it; parse_query and to_sqlite have the last word


def _requote(answer: str, query: exp.Expr) -> str:
    """`answer` with 'x' for every "x" that `query`, its parsed form, has as a string; otherwise as it was written."""
    if '"' not in answer:
        return answer
    names = {node.meta.get("start") for node in query.find_all(exp.Identifier)}
    pieces, end = [], 0
    for token in sqlglot.tokenize(answer, read="sqlite"):
        if answer[token.start] == '"' and token.start not in names:
            pieces += [answer[end : token.start], "'" + token.text.replace("'", "''") + "'"]
            end = token.end + 1
    return "".join(pieces) + answer[end:]


def _text_compared_with_number(query: exp.Expr, schema: Schema) -> str | None:
    """The first column compared with a number that is text in every table that has it."""
    types: dict[str, set[str]] = {}
    for column in (column for table in schema.tables for column in table.columns):
        types.setdefault(column.name.lower(), set()).add(column.type)
    for node in query.find_all(*TYPED_COMPARISONS):
        sides = [side.unnest() for side in node.iter_expressions()]
        texts = (
            side.name for side in sides if isinstance(side, exp.Column) and types.get(side.name.lower()) == {"text"}
        )
        if any(side.is_number for side in sides) and (name := next(texts, None)):
            return name
    return None


def _rules(dialect: str) -> str:
    """Changes with what could make the same data give other findings."""
    digest = hashlib.sha256(f"{sqlglot.__version__} {sqlite3.sqlite_version} {dialect}".encode())
    for file in (__file__, parsing.__file__, double_quotes.__file__, sandbox.__file__, translation.__file__):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:8]
