"""Are golds fit to score answers? Some give no rows anywhere, or those that the order of storage gives, or ignore a
value that the question names.
"""

from __future__ import annotations

import re

from sqlora.evaluation.gold_results import Gold
from sqlora.evaluation.judge import complete_schema
from sqlora.evaluation.mutants import literal_mutants
from sqlora.evaluation.pairs import DATABASES, MOST_DATABASES, Tally, usable
from sqlora.evaluation.rules import STRICT
from sqlora.evaluation.synthetic_databases import Synthesiser
from sqlora.sql.parsing import SqlError, parse_query, parse_schema, to_sqlite
from sqlora.sql.translation import as_sqlite

UNSTABLE, EMPTY, BLIND = "depends on the order of storage", "always empty", "blind to a value of the question"
QUOTED = re.compile(r"(?<!\w)(['\"“‘])(.{1,80}?)['\"”’](?!\w)")
NUMBER = re.compile(r"(?<![\w.])\d{2,}(?![\w.])")  # a digit alone may be spelled out, or a rank


def inspect_gold(context: str, answer: str, question: str, dialect: str = "sqlite") -> dict[str, str]:
    """What is wrong with a gold that runs, {UNSTABLE, EMPTY or BLIND: why}, as far as synthetic databases show it.

    BLIND: a value in quotes, or a number of several digits, is in the question and not in the gold; or another value
    than one of both gives the same on every database. A gold that does not run has no fault here.
    """
    try:
        schema = parse_schema(context)
        query = parse_query(as_sqlite(answer, dialect), schema)
        schema = complete_schema(schema, query)
        gold = Gold(query, schema)
        said = {_squeezed(value): value for value in _values(question)}
        alive = {
            to_sqlite(mutant, copy=False): value
            for value, mutant in literal_mutants(query)
            if _squeezed(value.strip("%")) in said
        }
        synthesiser = Synthesiser(schema, [query], f"{context}\n{answer}")
        tally = Tally(gold)
        for database, _, allowed in usable(synthesiser, gold, STRICT):
            tally.add(allowed)
            if allowed is None:
                continue
            alive = {sql: value for sql, value in alive.items() if STRICT.passes(sql, allowed, database)}
            if (tally.is_settled and not alive) or tally.taken == (MOST_DATABASES if alive else DATABASES):
                break
    except SqlError:
        return {}
    if tally.depends_on_storage:
        return {UNSTABLE: ""}
    if not tally.non_empty:
        return {EMPTY: "on synthetic databases"}
    text = _squeezed(answer)
    ignored = [*(value for squeezed, value in said.items() if squeezed not in text), *alive.values()]
    return {BLIND: ignored[0]} if ignored else {}


def _values(question: str) -> list[str]:
    """The quoted texts and the numbers of a question."""
    return [match[2] for match in QUOTED.finditer(question)] + NUMBER.findall(question)


def _squeezed(text: str) -> str:
    """Without blanks and in lower case: datasets write "Tokyo , Japan"."""
    return "".join(text.lower().split())
