"""Self-consistency: the candidate whose result most other candidates agree with."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import NamedTuple

from sqlora.evaluation.synthetic_databases import Synthesiser
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.sandbox import Database, Value, prepare
from sqlora.sql.translation import as_sqlite
from sqlora.system.console import note
from sqlora.system.errors import error_with_location
from sqlora.system.process_pool import LOST, spread

VOTING_DATABASES = 20


class Candidate(NamedTuple):
    sql: str
    weight: float = 1.0  # votes


def choose_consistent(contexts: list[str], candidates: list[list[Candidate]], dialect: str = "sqlite") -> list[str]:
    """For each context (CREATE TABLE text) the best of its candidates, of a dialect, the likeliest first; see `vote`.

    Where voting itself fails the likeliest is taken, and a note says so.
    """
    votes = list(spread(_safe_vote, [(*pair, dialect) for pair in zip(contexts, candidates, strict=True)], lost=LOST))
    failed = [outcome for outcome in votes if isinstance(outcome, str)]
    if failed:
        note(
            f"voting failed for {len(failed):,} of {len(votes):,} questions, which get their likeliest query: "
            f"{failed[0]}"
        )
    return [
        written[winner if isinstance(winner, int) else 0].sql for written, winner in zip(candidates, votes, strict=True)
    ]


def _safe_vote(context: str, candidates: list[Candidate], dialect: str) -> int | str | None:
    try:
        return vote(context, candidates, dialect)
    except Exception as error:  # a bug, ours or a library's, costs one vote and not the run
        return error_with_location(error)


def vote(context: str, candidates: list[Candidate], dialect: str = "sqlite") -> int | None:
    """The index of the candidate whose results have most weight, on synthetic databases made from all candidates.

    Candidates that do not parse or run are left out. Ties go to the earlier candidate. None if no candidate runs.
    Self-consistency (Wang et al. 2022, arXiv:2203.11171), by execution.
    """
    weights: dict[str, float] = {}
    for sql, weight in candidates:
        weights[sql] = weights.get(sql, 0.0) + weight
    queries, texts = {}, {}
    try:
        schema = parse_schema(context)
    except SqlError:
        return None
    for candidate in weights:
        try:
            queries[candidate], texts[candidate] = prepare(as_sqlite(candidate, dialect), schema)
        except SqlError:
            continue
    answers: dict[str, list] = {candidate: [] for candidate in texts}
    seed = "\n".join([context, *texts])
    if not texts:
        return None
    synthesiser = Synthesiser(schema, list(queries.values()), seed)
    for rows in itertools.islice(synthesiser, VOTING_DATABASES):
        with Database(synthesiser.schema, rows) as database:
            for candidate in list(answers):
                try:
                    result = [tuple(map(_rounded, row)) for row in database.run(texts[candidate]).rows]
                except SqlError:
                    del answers[candidate]
                    continue
                is_ordered = queries[candidate].args.get("order")
                answers[candidate].append(tuple(result) if is_ordered else frozenset(Counter(result).items()))
    votes: dict[tuple, float] = {}
    for candidate, results in answers.items():
        votes[tuple(results)] = votes.get(tuple(results), 0.0) + weights[candidate]
    order = list(dict.fromkeys(sql for sql, _ in candidates if sql in answers))
    best = max(order, key=lambda sql: votes[tuple(answers[sql])], default=None)
    return None if best is None else [sql for sql, _ in candidates].index(best)


def _rounded(value: Value) -> Value:
    return float(f"{value:.6g}") if isinstance(value, float) else value
