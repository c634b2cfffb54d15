"""Self-consistency: the candidate whose result most other candidates agree with."""

from __future__ import annotations

import itertools
from collections import Counter

from sqlora.evaluation.synthetic_databases import Synthesiser
from sqlora.generation.candidate import Candidate
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.sandbox import Database, Value, prepare
from sqlora.sql.translation import as_sqlite
from sqlora.system.console import note
from sqlora.system.errors import error_with_location
from sqlora.system.process_pool import LOST, spread

VOTING_DATABASES = 20


def choose_consistent(
    contexts: list[str], candidates: list[list[Candidate]], dialect: str = "sqlite"
) -> list[Candidate]:
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
        written[winner if isinstance(winner, int) else 0] for written, winner in zip(candidates, votes, strict=True)
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
    for candidate in candidates:
        weights[candidate.sql] = weights.get(candidate.sql, 0.0) + candidate.weight
    queries, texts = {}, {}
    try:
        schema = parse_schema(context)
    except SqlError:
        return None
    for sql in weights:
        try:
            queries[sql], texts[sql] = prepare(as_sqlite(sql, dialect), schema)
        except SqlError:
            continue
    answers: dict[str, list] = {sql: [] for sql in texts}
    seed = "\n".join([context, *texts])
    if not texts:
        return None
    synthesiser = Synthesiser(schema, list(queries.values()), seed)
    for rows in itertools.islice(synthesiser, VOTING_DATABASES):
        with Database(synthesiser.schema, rows) as database:
            for sql in list(answers):
                try:
                    result = [tuple(map(_rounded, row)) for row in database.run(texts[sql]).rows]
                except SqlError:
                    del answers[sql]
                    continue
                is_ordered = queries[sql].args.get("order")
                answers[sql].append(tuple(result) if is_ordered else frozenset(Counter(result).items()))
    votes: dict[tuple, float] = {}
    for sql, results in answers.items():
        votes[tuple(results)] = votes.get(tuple(results), 0.0) + weights[sql]
    written = [candidate.sql for candidate in candidates]
    order = list(dict.fromkeys(sql for sql in written if sql in answers))
    best = max(order, key=lambda sql: votes[tuple(answers[sql])], default=None)
    return None if best is None else written.index(best)


def _rounded(value: Value) -> Value:
    return float(f"{value:.6g}") if isinstance(value, float) else value
