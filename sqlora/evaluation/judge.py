"""Does a predicted query return the right rows? Judged by running it and the gold on synthetic databases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlglot import exp

from sqlora.evaluation.alternatives import alternatives, best
from sqlora.evaluation.gold_results import Gold
from sqlora.evaluation.metrics import (
    VARIANTS,
    Judgement,
    Verdict,
    compare_scores,
    metrics_by_variant,
    query_kinds,
    verdicts_by_variant,
)
from sqlora.evaluation.pairs import UNDETERMINED, Pair, failure
from sqlora.evaluation.prediction_files import strip_fence
from sqlora.evaluation.published import judge_as_published
from sqlora.evaluation.real_databases import databases_of
from sqlora.evaluation.rules import PUBLISHED, STRICT
from sqlora.sql.parsing import SqlError, exact_match, own_tables, parse_query, parse_schema
from sqlora.sql.sandbox import prepare
from sqlora.sql.schema import Column, Schema
from sqlora.sql.translation import UntranslatableError, as_sqlite
from sqlora.system.errors import error_with_location
from sqlora.system.process_pool import LOST, spread

AnsweredRow = dict[str, Any]  # the texts question, context, answer, base and adapter, None where unknown; decoding


@dataclass(frozen=True)
class Scoring:
    """How answers are scored.

    rule: the name of a rule of rules.py, which says what counts as a match. keep_distinct: as in rules.py. folder: of
    real databases, db_id/*.sqlite, on which rows with a db_id are judged too. dialect: in which golds and predictions
    are written, by sqlglot's name.
    """

    rule: str = STRICT.name
    keep_distinct: bool = False
    folder: Path | None = None
    dialect: str = "sqlite"


def score(
    rows: list[dict],
    prediction_key: str = "prediction",
    workers: int | None = None,
    scoring: Scoring = Scoring(),
) -> list[Verdict]:
    """One verdict for each row of context, answer and `prediction_key` (SQL or None), in order.

    Runs on `workers` processes, by default all cores; a verdict depends only on its row.

        score([{"context": "CREATE TABLE t (a INTEGER)", "answer": "SELECT a FROM t", "prediction": "SELECT 1"}])
    """
    return list(verdicts(rows, prediction_key, workers, scoring))


def verdicts(
    rows: list[dict], prediction_key: str = "prediction", workers: int | None = None, scoring: Scoring = Scoring()
) -> Iterator[Verdict]:
    """The same, one after the other, as they are reached."""
    calls = [
        (row["context"], row["answer"], row.get(prediction_key), scoring, str(row.get("db_id") or "")) for row in rows
    ]
    yield from spread(judge_prediction, calls, workers, lost=Verdict("error", f"scoring failed: {LOST}"))


def judge_answers(answers: list[AnsweredRow], execute: bool, scoring: Scoring = Scoring()) -> list[Judgement]:
    """The verdicts on base and adapter of each answer (question, context, answer, base, adapter), in order.

    With `execute` they are those of `score`; otherwise they say whether the SQL has the gold's normal form.
    """
    known = [
        (i, variant)
        for i, row in enumerate(answers)
        for variant in VARIANTS
        if None not in (row.get("answer"), row.get(variant))
    ]
    if execute:
        verdicts = score([answers[i] | {"prediction": answers[i][variant]} for i, variant in known], scoring=scoring)
    else:
        same = [exact_match(answers[i][variant], answers[i]["answer"]) for i, variant in known]
        verdicts = [Verdict("match" if exact else "mismatch", exact=exact, executed=False) for exact in same]
    judged: list[Judgement] = [{} for _ in answers]
    for (i, variant), verdict in zip(known, verdicts, strict=True):
        judged[i][variant] = verdict
    return judged


def evaluation_report(answers: list[AnsweredRow], judged: list[Judgement]) -> dict:
    """The content of evaluation.json: metrics of base and adapter, their comparison, and every row's verdicts."""
    by_variant = verdicts_by_variant(judged)
    report = {"metrics": metrics_by_variant(judged)}
    if len(by_variant) == len(VARIANTS):
        report["adapter_against_base"] = compare_scores(*by_variant.values())
    rows = [
        dict(row) | {"verdicts": {variant: verdict.as_dict() for variant, verdict in judgement.items()}}
        for row, judgement in zip(answers, judged, strict=True)
    ]
    return {**report, "rows": rows}


def judge_prediction(
    context: str, answer: str, prediction: str | None, scoring: Scoring = Scoring(), db_id: str = ""
) -> Verdict:
    """The verdict on one prediction. Never raises, whatever the texts hold.

    match: allowed by the gold on 20 to 40 databases; mismatch: not on one, which the verdict has; invalid: not a query
    that runs; unscorable: the gold does not run, or its result depends on the order in which rows are stored; error:
    scoring itself failed. Of a gold with alternatives any may match. That is the verdict under the rule of `scoring`;
    `rules` of the verdict has it under each of rules.RULES, where they differ. Real databases of `db_id` come first;
    the published rules know no others there.
    """
    try:
        golds = alternatives(answer) if isinstance(answer, str) else [answer]
        found = best([_judge(context, gold, prediction, scoring, db_id) for gold in golds])
        return found.by_rule(scoring.rule)
    except Exception as error:  # a bug, ours or a library's, costs one verdict and not the run
        return Verdict("error", f"scoring failed: {error_with_location(error)}")


def failures(verdicts: Iterable[Verdict]) -> str:
    """A line with the number of answers for which scoring itself failed, and the first reason; "" if there are none."""
    reasons = [verdict.why for verdict in verdicts if verdict.verdict == "error"]
    return f"{len(reasons):,} answers are not scored; the first: {reasons[0]}" if reasons else ""


def _judge(context: str, answer: str, prediction: str | None, scoring: Scoring, db_id: str) -> Verdict:
    for name, text in (("context", context), ("gold", answer)):
        if not isinstance(text, str):
            return Verdict("unscorable", f"{name}: it is not a text but {text!r:.80}", "syntax")
    prediction = strip_fence(prediction)
    if scoring.dialect != "sqlite":
        return _judge_translated(context, answer, prediction or "", scoring, db_id)
    files = databases_of(scoring.folder, db_id) if scoring.folder else []
    strict = _judge_pair(context, answer, prediction, scoring, files)
    if not files:
        return strict
    published = {
        rule.name: judge_as_published(answer, prediction, rule, files, scoring.keep_distinct) for rule in PUBLISHED
    }
    return replace(strict, rules={STRICT.name: strict} | {name: v.about(strict) for name, v in published.items()})


def _judge_translated(context: str, answer: str, prediction: str, scoring: Scoring, db_id: str) -> Verdict:
    """The verdict on what gold and prediction are in SQLite's dialect; unscorable where that cannot be said there."""
    try:
        answer = as_sqlite(answer, scoring.dialect)
    except SqlError as error:
        return Verdict("unscorable", f"gold: {error}", error.kind)
    try:
        prediction = as_sqlite(prediction, scoring.dialect)
    except UntranslatableError as error:
        return Verdict("unscorable", f"prediction: {error}", error.kind)
    except SqlError as error:
        return failure(error)
    verdict = _judge(context, answer, prediction, replace(scoring, dialect="sqlite"), db_id)
    if verdict.verdict == "invalid" and verdict.fault in ("syntax", "other"):  # it was parsed in its own dialect
        return Verdict("unscorable", f"prediction: SQLite has no words for it: {verdict.why}", verdict.fault)
    return verdict


def _judge_pair(context: str, answer: str, prediction: str | None, scoring: Scoring, files: list[Path]) -> Verdict:
    """The verdict under the rule strict; without `files`, with those under the others on synthetic databases."""
    exact = exact_match(prediction, answer)
    try:
        schema = parse_schema(context)
        gold = parse_query(answer, schema)
        completed = complete_schema(schema, gold)
        prepared = Gold(gold, completed)
    except SqlError as error:
        return Verdict("unscorable", f"gold: {error}", error.kind, exact)
    facts = Verdict("match", exact=exact, kinds=query_kinds(gold), completed=_added(schema, completed))
    predicted: exp.Expr = gold
    outcome = None
    if not exact:
        try:
            predicted, _ = prepare(prediction or "", completed)
        except SqlError as error:
            outcome = failure(error)
    pair = Pair(prepared, predicted, completed, f"{context}\n{answer}", facts, outcome, files)
    strict = pair.judge(STRICT, shrinks=scoring.rule == STRICT.name)
    is_open = strict.verdict == "mismatch" or strict.why == UNDETERMINED
    if files or not is_open:  # what matches strictly matches by the other rules
        return strict
    others = {
        rule.name: pair.judge(rule, scoring.keep_distinct, shrinks=scoring.rule == rule.name) for rule in PUBLISHED
    }
    return replace(strict, rules={STRICT.name: strict} | others)


def complete_schema(schema: Schema, query: exp.Expr) -> Schema:
    """The schema with the columns that the gold names with their table and the context lacks.

    `T2.nationality` says where the column belongs; a bare name in a join would be a guess, and is not added.
    """
    added: dict[str, dict[str, Column]] = {}
    for column in query.find_all(exp.Column):
        if not column.table or isinstance(column.this, exp.Star):
            continue
        scope = column.parent_select
        while scope is not None:
            sources = {table.alias_or_name.lower(): table.name for table in own_tables(scope)}
            if column.table.lower() in sources:
                table = schema.table(sources[column.table.lower()])
                if table and column.name.lower() not in {known.name.lower() for known in table.columns}:
                    added.setdefault(table.name, {}).setdefault(column.name.lower(), Column(column.name, "text"))
                break
            scope = scope.parent_select
    if not added:
        return schema
    tables = (replace(table, columns=(*table.columns, *added.get(table.name, {}).values())) for table in schema.tables)
    return Schema(tuple(tables), schema.merged)


def _added(schema: Schema, completed: Schema) -> tuple[str, ...]:
    return tuple(
        f"{new.name}.{column.name}"
        for old, new in zip(schema.tables, completed.tables, strict=True)
        for column in new.columns[len(old.columns) :]
    )
