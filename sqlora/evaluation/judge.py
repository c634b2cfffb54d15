"""Does a predicted query return the right rows? Judged by running it and the gold on synthetic databases."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlglot import exp

from sqlora.evaluation.gold_results import Allowed, Gold
from sqlora.evaluation.metrics import (
    VARIANTS,
    Difference,
    Judgement,
    Verdict,
    compare_scores,
    metrics_by_variant,
    query_kinds,
    verdicts_by_variant,
)
from sqlora.evaluation.rules import RULES, STRICT, Rule, without_distinct
from sqlora.evaluation.synthetic_databases import Rows, Synthesiser
from sqlora.sql.parsing import SqlError, exact_match, own_tables, parse_query, parse_schema, to_sqlite
from sqlora.sql.sandbox import Database, QueryResult, Value, prepare
from sqlora.sql.schema import Column, Schema
from sqlora.system.errors import error_with_location
from sqlora.system.process_pool import LOST, spread

AnsweredRow = dict[str, str | None]

DATABASES = 20  # for each row
FEWEST_DATABASES = 12  # where the gold has been told from all of its mutants by then
MOST_DATABASES = 40  # where it has not
FREE_DATABASES = 3  # that most wrong predictions do not pass, before mutants are tried
ATTEMPTS = 80  # databases that are made at most; some are skipped
MOST_EMPTY = 8  # databases on which the gold returns nothing, as long as there are attempts left
LEAST_DATABASES = 10  # on which the result of a gold that may depend on the order of storage must be determined
# a query as chat models write it, in Markdown
FENCE = re.compile(r"\A\s*```\w*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
PREDICTION_COLUMNS = ("context", "answer", "prediction")
PLAIN_TYPES = (int, str, type(None))


def score(
    rows: list[dict],
    prediction_key: str = "prediction",
    workers: int | None = None,
    rule: str = STRICT.name,
    keep_distinct: bool = False,
) -> list[Verdict]:
    """One verdict for each row of context, answer and `prediction_key` (SQL or None), in order, by a rule of rules.py.

    Runs on `workers` processes, by default all cores; a verdict depends only on its row.

        score([{"context": "CREATE TABLE t (a INTEGER)", "answer": "SELECT a FROM t", "prediction": "SELECT 1"}])
    """
    pairs = [(row["context"], row["answer"], row.get(prediction_key), keep_distinct) for row in rows]
    verdicts = spread(judge_prediction, pairs, workers, lost=Verdict("error", f"scoring failed: {LOST}"))
    return [verdict.by_rule(rule) for verdict in verdicts]


def judge_answers(answers: list[AnsweredRow], execute: bool) -> list[Judgement]:
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
        verdicts = score([answers[i] | {"prediction": answers[i][variant]} for i, variant in known])
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


def judge_prediction(context: str, answer: str, prediction: str | None, keep_distinct: bool = False) -> Verdict:
    """The verdict on one prediction. Never raises, whatever the texts hold.

    match: allowed by the gold on 20 databases; mismatch: not on one, which the verdict has; invalid: not a query that
    runs; unscorable: the gold does not run, or its result depends on the order in which rows are stored; error: scoring
    itself failed. That is the verdict under the rule strict; `rules` of the verdict has it under each of rules.RULES,
    for which `keep_distinct` is as in rules.py.
    """
    try:
        return _judge(context, answer, prediction, keep_distinct)
    except Exception as error:  # a bug, ours or a library's, costs one verdict and not the run
        return Verdict("error", f"scoring failed: {error_with_location(error)}")


def failures(verdicts: Iterable[Verdict]) -> str:
    """A line with the number of answers for which scoring itself failed, and the first reason; "" if there are none."""
    reasons = [verdict.why for verdict in verdicts if verdict.verdict == "error"]
    return f"{len(reasons):,} answers are not scored; the first: {reasons[0]}" if reasons else ""


def _judge(context: str, answer: str, prediction: str | None, keep_distinct: bool) -> Verdict:
    for name, text in (("context", context), ("gold", answer)):
        if not isinstance(text, str):
            return Verdict("unscorable", f"{name}: it is not a text but {text!r:.80}", "syntax")
    prediction = FENCE.sub(r"\1", prediction) if isinstance(prediction, str) else None
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
            outcome = Verdict("invalid", str(error), error.kind)
    pair = Pair(prepared, predicted, completed, f"{context}\n{answer}", facts, outcome)
    strict = pair.judge(STRICT)
    if strict.verdict != "mismatch":  # what matches strictly matches by the other rules
        return strict
    others = {rule.name: pair.judge(rule, keep_distinct) for rule in RULES if rule is not STRICT}
    return replace(strict, rules={STRICT.name: strict} | others)


@dataclass(frozen=True)
class Pair:
    """A gold and a prediction over a schema.

    `facts` is the verdict on a prediction that matches, `outcome` what is known of the prediction before it runs.
    """

    gold: Gold
    predicted: exp.Expr
    schema: Schema
    seed: str
    facts: Verdict
    outcome: Verdict | None

    def judge(self, rule: Rule, keep_distinct: bool = False) -> Verdict:
        """The verdict under a rule: on DATABASES databases, or on as many as show a difference."""
        gold, other, outcome = self.gold, self.predicted, self.outcome
        if rule.forgives_distinct and not keep_distinct:
            gold, other = Gold(without_distinct(gold.query), self.schema), without_distinct(other)
        predicted = to_sqlite(other)
        queries = [gold.query] if self.outcome else [gold.query, other]
        taken, empty, says_something = 0, 0, False
        alive: dict[str, str] | None = None  # mutants that no database has told from the gold, {SQL: kind}
        needed = LEAST_DATABASES if gold.may_be_undetermined else 1
        synthesiser = Synthesiser(self.schema, queries, self.seed, rule.nulls_anywhere)
        for attempt, rows in enumerate(itertools.islice(synthesiser, ATTEMPTS)):
            try:
                with Database(synthesiser.schema, rows) as database:
                    allowed = gold.allowed(database)
                    if allowed.is_empty and empty == MOST_EMPTY and attempt < ATTEMPTS - DATABASES:
                        continue
                    if not gold.is_determined(database, allowed, rows):
                        if rule is STRICT or taken > empty or attempt < DATABASES:
                            continue
                        allowed = gold.as_stored(database)  # the published evaluators know nothing else
                    taken += 1
                    empty += allowed.is_empty
                    says_something = says_something or allowed.says_something
                    if self.facts.exact:  # the same SQL returns the same rows, if it runs
                        gold.result(database)
                    else:
                        outcome = outcome or _try(predicted, gold, allowed, rule, database, rows)
                    if outcome is None and not self.facts.exact and taken > FREE_DATABASES:
                        alive = rule.mutants(gold.query, self.schema) if alive is None else alive
                        alive = {sql: kind for sql, kind in alive.items() if _passes(sql, allowed, rule, database)}
            except SqlError as error:
                return replace(self.facts, verdict="unscorable", why=f"gold: {error}", fault=error.kind)
            if outcome:
                if taken > empty and taken >= needed:
                    break
            elif taken >= (MOST_DATABASES if alive else FEWEST_DATABASES if says_something else DATABASES):
                break
        if taken < needed:
            why = "gold: its answer depends on the order in which rows are stored"
            return replace(self.facts, verdict="unscorable", why=why)
        facts = replace(self.facts, non_empty=taken > empty)
        if outcome:
            return replace(
                facts, verdict=outcome.verdict, why=outcome.why, fault=outcome.fault, difference=outcome.difference
            )
        if not says_something:
            return replace(facts, unproven="the gold gives nothing, 0 or NULL on every database")
        survivor = next(((kind, sql) for sql, kind in (alive or {}).items()), None)
        return replace(facts, unproven=f"another {survivor[0]} gives the same: {survivor[1]}" if survivor else "")


def _passes(mutant: str, allowed: Allowed, rule: Rule, database: Database) -> bool:
    """Whether a mutant's result is one that the gold allows, though not for want of rows."""
    try:
        result = database.run(mutant)
    except SqlError:
        return False
    return rule.accepts(allowed, result)


def _try(predicted: str, gold: Gold, allowed: Allowed, rule: Rule, database: Database, rows: Rows) -> Verdict | None:
    """The verdict that one database gives against a prediction, if any."""
    try:
        result = database.run(predicted)
    except SqlError as error:
        return Verdict("timeout" if error.kind == "timeout" else "invalid", str(error), error.kind)
    is_accepted = rule.accepts(allowed, result)
    if is_accepted and result.rows:
        return None
    expected = gold.result(database)
    if is_accepted and len(expected.columns) == len(result.columns):
        return None
    shown: dict[str, dict[str, list]] = {
        table.name: {"columns": [column.name for column in table.columns], "rows": _plain(rows[table.name])}
        for table in database.schema.tables
    }
    difference = Difference(shown, _plain(expected.rows), _plain(result.rows))
    return Verdict("mismatch", _explain(expected, result), difference=difference)


def _explain(expected: QueryResult, predicted: QueryResult) -> str:
    if len(expected.columns) != len(predicted.columns):
        return f"it returns {len(predicted.columns)} columns instead of {len(expected.columns)}"
    if len(expected.rows) != len(predicted.rows):
        return f"on a synthetic database it returns {len(predicted.rows)} rows instead of {len(expected.rows)}"
    if Counter(expected.rows) == Counter(predicted.rows):
        return "on a synthetic database it returns the right rows in the wrong order"
    return "on a synthetic database it returns other rows"


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


def _plain(rows: list[tuple[Value, ...]]) -> list[tuple[Value, ...]]:
    """The rows with values that JSON can hold."""
    return [
        tuple(
            value
            if isinstance(value, PLAIN_TYPES) or (isinstance(value, float) and math.isfinite(value))
            else str(value)
            for value in row
        )
        for row in rows
    ]
