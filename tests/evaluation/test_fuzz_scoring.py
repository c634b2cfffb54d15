"""Scoring gives a verdict on whatever stands in a row: queries with every form of literal, and golds with edits in
their text.

500 pairs as an ordinary test; SLOW=1 pytest tests/evaluation/test_fuzz_scoring.py tries 20,000.
"""

import contextlib
import json
import os
from pathlib import Path

import pytest
import sqlglot
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sqlora.evaluation import judge as evaluation
from sqlora.evaluation.metrics import UNSCORED
from sqlora.generation import self_consistency
from sqlora.generation.candidate import Candidate

ROOT = Path(__file__).parents[2]
CONTEXT = "CREATE TABLE t (a INTEGER, m TEXT, d DATE, r REAL); CREATE TABLE u (a INTEGER, b TEXT)"
LITERALS = (
    "01",
    "-01",
    "007",
    "0x1F",
    "0xFFFFFFFFFFFFFFFFFF",
    "1e3",
    "1.e5",
    ".5",
    "1e999",
    "-1e999",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "9" * 40,
    "9" * 5000,
    "1_000",
    "1997-01-01",
    "'1997-01-01'",
    "'9999-12-31'",
    "'0000-00-00'",
    "DATE '2020-02-30'",
    "x'00ff'",
    "x'0'",
    "N'x'",
    "''",
    "'it''s'",
    "'é🙂'",
    "'\0'",
    "'\ud800'",
    "'%_'",
    "NULL",
    "TRUE",
    "?",
    "?1",
    ":x",
    "@y",
    "$z",
    "+5",
    "- -5",
    "1.0",
    "5 % 2",
    "CAST('1' AS DATE)",
    '"m"',
    '"nobody"',
    "`a`",
    "[a]",
    "INTERVAL '1' DAY",
)
PIECES = (
    "(",
    ")",
    ",",
    ";",
    "'",
    '"',
    "--",
    "/*",
    "*",
    " OR ",
    " AND ",
    "NOT ",
    " IS ",
    " IN (",
    "SELECT ",
    " FROM t",
    " ORDER BY 9",
    " ORDER BY 0",
    " LIMIT 05",
    " LIMIT -1",
    " LIMIT 1e2",
    " OFFSET 99999999999999999999",
    " GROUP BY 7",
    " UNION SELECT 1",
    " HAVING 01 > 1",
    "CASE WHEN ",
    " END",
    "``",
    "[",
    "\0",
    "\ud800",
    "\u2028",
    "((((",
    "COUNT(",
    "DISTINCT ",
    "```sql\n",
    "T1.",
    "::int",
)
ROWS = map(json.loads, (ROOT / "demo/test.jsonl").read_text("utf-8").splitlines())
GOLDS = tuple((row["context"], row["answer"]) for row in ROWS)

literals = st.sampled_from(LITERALS)
operators = st.sampled_from(["=", "<>", "<", ">=", "LIKE", "GLOB", "IS", "IN", "BETWEEN 1 AND", "||", "/", "%"])


@st.composite
def queries(draw) -> str:
    """A query over CONTEXT with literals in every place that may hold one."""
    column, other = (
        draw(st.sampled_from(["a", "m", "d", "r", "t.a", "COUNT(*)", "MAX(a)", "SUBSTR(m, 01)"])),
        draw(literals),
    )
    sql = f"SELECT {draw(st.sampled_from(['', 'DISTINCT ']))}{column}, {draw(literals)} FROM t"
    if draw(st.booleans()):
        sql += f" WHERE {draw(st.sampled_from('amdr'))} {draw(operators)} {other}"
    if draw(st.booleans()):
        sql += f" GROUP BY {draw(st.sampled_from(['a', '1', '9', 'm']))} HAVING COUNT(*) > {draw(literals)}"
    if draw(st.booleans()):
        sql += f" ORDER BY {draw(st.sampled_from(['a', '1', '9', '0', '01', '1.5', '-1', 'r DESC', *LITERALS]))}"
    if draw(st.booleans()):
        sql += f" LIMIT {draw(literals)}" + draw(st.sampled_from(["", " OFFSET 01", " OFFSET -1", ", 2"]))
    if draw(st.booleans()):  # as sqlglot spells it, in some dialect
        dialect = draw(st.sampled_from(["sqlite", "mysql", "tsql", "postgres"]))
        with contextlib.suppress(Exception):  # else it stays as it was
            sql = sqlglot.transpile(sql, read="sqlite", write=dialect)[0]
    return sql


@st.composite
def edited(draw, text: str) -> str:
    """`text` with pieces put in, cut out, or put in the place of others."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + draw(st.sampled_from(PIECES + LITERALS + ("",))) + text[end:]
    return text


@st.composite
def pairs(draw) -> tuple[str, str, str]:
    """A context, a gold and a prediction."""
    if draw(st.booleans()):
        return CONTEXT, draw(queries()), draw(queries())
    context, gold = draw(st.sampled_from(GOLDS))
    where = draw(st.sampled_from(["gold", "prediction", "both", "context"]))
    return (
        draw(edited(context)) if where == "context" else context,
        draw(edited(gold)) if where in ("gold", "both") else gold,
        draw(edited(gold)) if where in ("prediction", "both") else gold,
    )


@pytest.mark.parametrize(
    "count",
    [
        500,
        pytest.param(
            20_000,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif("SLOW" not in os.environ, reason="takes minutes; SLOW=1 runs it"),
            ],
        ),
    ],
)
def test_every_row_gets_a_verdict(count):
    seen = {}

    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(pairs())
    def judge(pair):
        context, gold, prediction = pair
        verdict = evaluation.judge_prediction(context, gold, prediction)
        assert verdict.verdict != "error", (verdict.why, pair)
        assert verdict.verdict in (*UNSCORED, "match") or gold != prediction
        found = self_consistency.vote(context, [Candidate(prediction), Candidate(gold)])
        assert found in (None, 0, 1)
        seen[verdict.verdict] = seen.get(verdict.verdict, 0) + 1

    judge()
    assert {"match", "mismatch", "invalid", "unscorable"} <= seen.keys()
