"""A gold and a prediction, judged by running both on databases: real ones, if there are some, and synthetic ones."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlglot import exp

from sqlora.evaluation import differences
from sqlora.evaluation.gold_results import Allowed, Gold
from sqlora.evaluation.metrics import Verdict
from sqlora.evaluation.real_databases import open_file
from sqlora.evaluation.rules import STRICT, Rule, without_distinct
from sqlora.evaluation.synthetic_databases import Rows, Synthesiser
from sqlora.sql.parsing import SqlError, to_sqlite
from sqlora.sql.sandbox import Database
from sqlora.sql.schema import Schema

DATABASES = 20  # for each row
MOST_DATABASES = 40  # where the gold has not been told from all of its mutants by then
FREE_DATABASES = 3  # that most wrong predictions do not pass, before mutants are tried
ATTEMPTS = 80  # databases that are made at most; some are skipped
MOST_UNDETERMINED = 20  # databases on which a prediction is tried against all that the gold may give
MOST_EMPTY = 8  # databases on which the gold returns nothing, as long as there are attempts left
LEAST_DATABASES = 10  # on which the result of a gold that may depend on the order of storage must be determined
UNDETERMINED = "gold: its answer depends on the order in which rows are stored"
NOTHING = "the gold gives nothing, 0 or NULL on every database"


@dataclass(frozen=True)
class Pair:
    """A gold and a prediction over a schema.

    facts: the verdict on a prediction that matches. outcome: what is known of the prediction before it runs. files:
    real databases of the schema.
    """

    gold: Gold
    predicted: exp.Expr
    schema: Schema
    seed: str
    facts: Verdict
    outcome: Verdict | None
    files: Sequence[Path] = ()

    @functools.cached_property
    def _text(self) -> str:
        return to_sqlite(self.predicted)

    def judge(self, rule: Rule, keep_distinct: bool = False, shrinks: bool = True) -> Verdict:
        """The verdict under a rule: on real databases, then on DATABASES synthetic ones, or as many as show a
        difference, which is then shown with as few rows as can be, if it `shrinks`.
        """
        if rule.forgives_distinct and not keep_distinct:
            gold = Gold(without_distinct(self.gold.query), self.schema)
            pair = replace(self, gold=gold, predicted=without_distinct(self.predicted))
        else:
            pair = self
        try:
            return pair._judge_on_files() or pair._judge_on_synthetic(rule, shrinks)
        except SqlError as error:
            return replace(self.facts, verdict="unscorable", why=f"gold: {error}", fault=error.kind)

    def _judge_on_files(self) -> Verdict | None:
        """The verdict that a real database gives, under the rule strict. Raises SqlError if the gold fails there."""
        for path in self.files:
            database = open_file(path)
            allowed = self.gold.allowed(database)
            if self.outcome or self.facts.exact or not self.gold.is_determined(database, allowed):
                continue
            if found := self._try(database, allowed, STRICT):
                facts = replace(self.facts, non_empty=not allowed.is_empty)
                return replace(found, database=path.name).about(facts)
        return None

    def _judge_on_synthetic(self, rule: Rule, shrinks: bool) -> Verdict:
        """Raises SqlError if the gold fails."""
        gold, outcome, exact = self.gold, self.outcome, self.facts.exact
        queries = [gold.query] if outcome else [gold.query, self.predicted]
        samples = open_file(self.files[0]).samples if self.files else {}
        synthesiser = Synthesiser(self.schema, queries, self.seed, rule.nulls_anywhere, samples)
        tally = Tally(gold)
        alive: dict[str, str] | None = None  # mutants that no database has told from the gold, {SQL: kind}
        for database, rows, allowed in usable(synthesiser, gold, rule):
            tally.add(allowed)
            if not (exact or outcome) and (allowed is not None or tally.undetermined <= MOST_UNDETERMINED):
                outcome = self._try(database, allowed, rule, rows)
                if shrinks and outcome and outcome.verdict == "mismatch":
                    outcome = self._shrunk(rows, synthesiser.schema, rule) or outcome
            if allowed is None:
                continue
            if exact:  # the same SQL returns the same rows, if it runs
                gold.result(database)
            elif outcome is None and tally.taken > FREE_DATABASES:
                alive = rule.mutants(gold.query, self.schema) if alive is None else alive
                alive = {sql: kind for sql, kind in alive.items() if rule.passes(sql, allowed, database)}
            most = MOST_DATABASES if alive else DATABASES
            if tally.taken >= most if outcome is None else tally.is_settled:
                break
        facts = replace(self.facts, non_empty=tally.non_empty)
        if tally.depends_on_storage:
            return replace(facts, verdict="unscorable", why=UNDETERMINED)
        if outcome:
            return outcome.about(facts)
        if not tally.says_something:
            return replace(facts, unproven=NOTHING)
        survivor = next(((kind, sql) for sql, kind in (alive or {}).items()), None)
        return replace(facts, unproven=f"another {survivor[0]} gives the same: {survivor[1]}" if survivor else "")

    def _try(self, database: Database, allowed: Allowed | None, rule: Rule, rows: Rows | None = None) -> Verdict | None:
        """The verdict that one database, of `rows` if it is synthetic, gives against the prediction, if any.

        Where the order of its rows decides what the gold gives, and so nothing is `allowed`, it must be wrong in any.
        """
        try:
            result = database.run(self._text)
        except SqlError as error:
            return failure(error)
        if allowed is None:
            is_accepted = self.gold.may_give(database, rows or {}, lambda some: rule.accepts(some, result))
        else:
            is_accepted = rule.accepts(allowed, result)
        if is_accepted and result.rows:
            return None
        expected = self.gold.result(database)
        if is_accepted and len(expected.columns) == len(result.columns):
            return None
        where = "a synthetic database" if rows is not None else "a real database"
        return differences.mismatch(expected, result, where, database.schema, rows)

    def _shrunk(self, rows: Rows, schema: Schema, rule: Rule) -> Verdict | None:
        """The mismatch on the fewest of the rows."""

        def tried(fewer: Rows) -> Verdict | None:
            database.refill(fewer)
            with contextlib.suppress(SqlError):
                allowed = self.gold.allowed(database)
                is_determined = self.gold.is_determined(database, allowed, fewer)
                return self._try(database, allowed if is_determined else None, rule, fewer)
            return None

        def differs(fewer: Rows) -> bool:
            verdict = tried(fewer)
            return verdict is not None and verdict.verdict == "mismatch"

        with Database(schema) as database:
            return tried(differences.shrink(rows, schema, differs))


class Tally:
    """What a gold gave on the databases of `usable`: how many were taken, and what was seen on any of them."""

    def __init__(self, gold: Gold) -> None:
        self.taken = 0
        self.non_empty = self.says_something = False
        self.undetermined = 0
        self._needed = LEAST_DATABASES if gold.may_be_undetermined else 1

    def add(self, allowed: Allowed | None) -> None:
        if allowed is None:
            self.undetermined += 1
            return
        self.taken += 1
        self.non_empty = self.non_empty or not allowed.is_empty
        self.says_something = self.says_something or allowed.says_something

    @property
    def is_settled(self) -> bool:
        """Whether the gold has given rows, and does not depend on the order of storage."""
        return self.non_empty and self.taken >= self._needed

    @property
    def depends_on_storage(self) -> bool:
        """To be asked at the end."""
        return self.taken < self._needed or (self.undetermined > 0 and not self.non_empty)


def failure(error: SqlError) -> Verdict:
    """The verdict on a prediction that does not run."""
    return Verdict("timeout" if error.kind == "timeout" else "invalid", str(error), error.kind)


def usable(synthesiser: Synthesiser, gold: Gold, rule: Rule) -> Iterator[tuple[Database, Rows, Allowed | None]]:
    """Databases that can tell answers apart, with their rows and what the gold allows there; on some it gives no row.

    None instead where that depends on the order in which rows are stored. The published evaluators, which do not look
    at that, take such a database as it is; here only if the gold gives no rows on others. Raises SqlError if the gold
    fails.
    """
    empty, non_empty = 0, False
    with Database(synthesiser.schema) as database:
        for attempt, rows in enumerate(itertools.islice(synthesiser, ATTEMPTS)):
            database.refill(rows)
            allowed = gold.allowed(database)
            if allowed.is_empty and empty == MOST_EMPTY and attempt < ATTEMPTS - DATABASES:
                continue
            if not gold.is_determined(database, allowed, rows):
                is_taken = rule is not STRICT and not non_empty and attempt >= DATABASES
                yield database, rows, gold.as_stored(database) if is_taken else None
                continue
            empty += allowed.is_empty
            non_empty = non_empty or not allowed.is_empty
            yield database, rows, allowed
