"""Metrics over verdicts: shares with intervals, by kind of query, and the comparison of an adapter with its base."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from rich.table import Table
from sqlglot import exp

from sqlora.sql.sandbox import Value

QUERY_KINDS: dict[str, Callable[[exp.Expr], bool]] = {  # a query may be of several
    "filter": lambda query: query.find(exp.Where) is not None,
    "aggregate": lambda query: query.find(exp.AggFunc) is not None,
    "group": lambda query: query.find(exp.Group) is not None,
    "join": lambda query: query.find(exp.Join) is not None,
    "nested": lambda query: any(select.find_ancestor(exp.Select) for select in query.find_all(exp.Select)),
    "set operation": lambda query: query.find(exp.SetOperation) is not None,
}
VARIANTS = ("base", "adapter")
SHARES = {
    "valid": "valid",
    "execution_match": "execution match",
    "execution_match_non_empty": "match, gold non-empty",
    "unproven": "matches, unproven",
    "match_test_suite": "match, test-suite's rule",
    "match_bird": "match, BIRD's rule",
    "exact_match": "exact match",
    "timeout": "timeouts",
    "unscorable": "unscorable",
    "error": "errors in scoring",
}
UNSCORED = ("unscorable", "error")
Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True)
class Difference:
    """A database on which two queries differ, {table: {"columns": [...], "rows": [...]}}, and the rows of each.

    script: the database as CREATE TABLE and INSERT statements. Of a real database neither is there.
    """

    database: dict[str, dict[str, list]]
    expected: list[tuple[Value, ...]]
    predicted: list[tuple[Value, ...]]
    script: str = ""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one prediction.

    verdict: match, mismatch, invalid, timeout, unscorable or error (scoring itself failed). why: one line, empty for a
    match. fault: the SqlError's kind, if there is one. exact: equal in normal form. kinds: of the gold, see
    QUERY_KINDS. non_empty: whether the gold returns a row on any database. completed: columns, "table.column", that the
    gold names, the context lacks, and that were added to it. executed: whether the queries were run, or their texts
    compared. unproven: why a match is not proven: the gold gives nothing, 0 or NULL on every database, or a mutant of
    it gives the same. database: the file of the real database that decided, if one did. rules: the verdict under each
    of rules.RULES, where they may differ; see `by_rule`.
    """

    verdict: str
    why: str = ""
    fault: str | None = None
    exact: bool = False
    non_empty: bool = False
    kinds: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()
    difference: Difference | None = field(default=None, repr=False)
    executed: bool = True
    unproven: str = ""
    database: str = ""
    rules: dict[str, Verdict] = field(default_factory=dict, repr=False)

    def about(self, other: Verdict) -> Verdict:
        """The same with what another verdict on it says of the pair."""
        return replace(self, exact=other.exact, kinds=other.kinds, completed=other.completed, non_empty=other.non_empty)

    def by_rule(self, rule: str) -> Verdict:
        """The verdict under a rule, by its name in rules.py."""
        return replace(self.rules[rule], rules=self.rules) if rule in self.rules else self

    def under(self, rule: str) -> str:
        """The same in a word, as `verdict` has it."""
        return self.by_rule(rule).verdict

    @property
    def is_right(self) -> bool | None:
        """Whether it is a match; None where that is not known."""
        return None if self.verdict in UNSCORED else self.verdict == "match"

    @classmethod
    def from_dict(cls, fields: dict) -> Verdict:
        """A verdict from what `dataclasses.asdict` made of it, as JSON has it. Raises TypeError."""
        difference = Difference(**fields["difference"]) if fields.get("difference") else None
        known = {name: tuple(fields[name]) for name in ("kinds", "completed")} | {"difference": difference}
        rules = {rule: cls.from_dict(of_rule) for rule, of_rule in fields.get("rules", {}).items()}
        return cls(**(fields | known | {"rules": rules}))

    def as_dict(self) -> dict:
        """The fields, as JSON has them; of `rules` the verdicts in a word."""
        return asdict(replace(self, rules={})) | {
            "rules": {rule: verdict.verdict for rule, verdict in self.rules.items()}
        }


Judgement = dict[str, Verdict]  # of base and adapter, where each wrote SQL and the gold is known


def verdicts_by_variant(judged: Sequence[Judgement]) -> dict[str, list[Verdict]]:
    """The verdicts on base and adapter, in the order of the rows; a variant without verdicts is left out."""
    verdicts = {variant: [row[variant] for row in judged if variant in row] for variant in VARIANTS}
    return {variant: of_variant for variant, of_variant in verdicts.items() if of_variant}


def metrics_by_variant(judged: Sequence[Judgement]) -> dict[str, dict]:
    """compute_metrics of base and adapter; a variant without verdicts is left out."""
    return {variant: compute_metrics(verdicts) for variant, verdicts in verdicts_by_variant(judged).items()}


def query_kinds(query: exp.Expr) -> tuple[str, ...]:
    """The QUERY_KINDS that the query belongs to."""
    return tuple(kind for kind, fits in QUERY_KINDS.items() if fits(query))


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927, JASA 22:209); (0, 1) for none at all."""
    if not of:
        return 0.0, 1.0
    share, squared = count / of, Z_95**2
    middle = share + squared / (2 * of)
    reach = Z_95 * math.sqrt(share * (1 - share) / of + squared / (4 * of**2))
    low, high = ((middle + side * reach) / (1 + squared / of) for side in (-1, 1))
    # Exact at the ends, without rounding errors.
    return (0.0 if count == 0 else low), (1.0 if count == of else high)


def mcnemar(only_one: int, only_other: int) -> float:
    """Two-sided p of McNemar's test (1947, Psychometrika 12:153) in its exact, binomial form."""
    pairs = only_one + only_other
    tail = sum(math.comb(pairs, number) for number in range(min(only_one, only_other) + 1))
    return min(1.0, 2 * tail / 2**pairs)


def compute_metrics(verdicts: Sequence[Verdict]) -> dict:
    """Counts and shares of one model's verdicts.

    Each share is {"count", "of", "share" (None if of is 0), "low", "high"}. exact_match, unscorable and error are
    shares of all rows, unproven of the matches, the others of the scorable ones. A query that ran out of time gave no
    answer and counts as not valid.
    """
    scorable = [verdict for verdict in verdicts if verdict.verdict not in UNSCORED]
    executed = [verdict for verdict in scorable if verdict.executed]
    reasons: dict[str, int] = {}
    for verdict in verdicts:
        if verdict.verdict == "unscorable":
            reasons[verdict.fault or "no determined answer"] = (
                reasons.get(verdict.fault or "no determined answer", 0) + 1
            )
    return {
        "n": len(verdicts),
        "valid": _share(scorable, lambda verdict: verdict.verdict in ("match", "mismatch")),
        "execution_match": _share(scorable, _is_match),
        "execution_match_non_empty": _share([verdict for verdict in scorable if verdict.non_empty], _is_match),
        "unproven": _share(
            [verdict for verdict in scorable if _is_match(verdict)], lambda verdict: bool(verdict.unproven)
        ),
        "match_test_suite": _share(executed, lambda verdict: verdict.under("test-suite") == "match"),
        "match_bird": _share(executed, lambda verdict: verdict.under("bird") == "match"),
        "exact_match": _share(verdicts, lambda verdict: verdict.exact),
        "timeout": _share(scorable, lambda verdict: verdict.verdict == "timeout"),
        "unscorable": _share(verdicts, lambda verdict: verdict.verdict == "unscorable"),
        "error": _share(verdicts, lambda verdict: verdict.verdict == "error"),
        "unscorable_why": reasons,
        "completed": sum(bool(verdict.completed) for verdict in scorable),
        "by_kind": {
            kind: _share([verdict for verdict in scorable if kind in verdict.kinds], _is_match) for kind in QUERY_KINDS
        },
    }


def compare_scores(base: Sequence[Verdict], adapter: Sequence[Verdict]) -> dict:
    """Compares an adapter with its base on the rows that are scorable for both; the verdicts are in the same order.

    Keys: n, both, only_base, only_adapter, neither, difference (adapter's share of matches minus the base's), p_value.
    """
    pairs = [
        (_is_match(of_base), _is_match(of_adapter))
        for of_base, of_adapter in zip(base, adapter, strict=True)
        if not {of_base.verdict, of_adapter.verdict} & set(UNSCORED)
    ]
    only_base, only_adapter = pairs.count((True, False)), pairs.count((False, True))
    return {
        "n": len(pairs),
        "both": pairs.count((True, True)),
        "only_base": only_base,
        "only_adapter": only_adapter,
        "neither": pairs.count((False, False)),
        "difference": (only_adapter - only_base) / len(pairs) if pairs else 0.0,
        "p_value": mcnemar(only_base, only_adapter),
    }


def format_comparison(difference: dict) -> str:
    """The figures of compare_scores in one line."""
    p = "p < 0.0001" if difference["p_value"] < 0.0001 else f"p = {difference['p_value']:.4f}"
    gained, lost, of = (f"{difference[key]:,}" for key in ("only_adapter", "only_base", "n"))
    return f"{gained} gained, {lost} lost of {of} (McNemar, exact: {p})"


def card(metrics: dict[str, dict]) -> Table:
    """A table for the terminal, with a column for each model's metrics."""
    table = Table("", *metrics, title="share in %, with its 95 % interval")
    table.add_row("rows", *(f"{of_model['n']:,}" for of_model in metrics.values()))
    for key, label in SHARES.items():
        table.add_row(label, *(format_share(of_model[key]) for of_model in metrics.values()))
    table.add_section()
    for kind in QUERY_KINDS:
        table.add_row(f"match, {kind}", *(format_share(of_model["by_kind"][kind]) for of_model in metrics.values()))
    return table


def _is_match(verdict: Verdict) -> bool:
    return verdict.verdict == "match"


def _share(verdicts: Sequence[Verdict], fits: Callable[[Verdict], bool]) -> dict:
    count, of = sum(map(fits, verdicts)), len(verdicts)
    low, high = wilson(count, of)
    return {"count": count, "of": of, "share": count / of if of else None, "low": low, "high": high}


def format_share(share: dict, unit: str = "") -> str:
    """A share in %, with its interval and counts."""
    if not share["of"]:
        return "–"
    value, low, high = (100 * share[key] for key in ("share", "low", "high"))
    return f"{value:.1f}{unit} ({low:.1f}-{high:.1f}) {share['count']:,}/{share['of']:,}"
