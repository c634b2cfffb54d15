"""The best of several candidates, by the rows that they give."""

import pytest

from sqlora.generation import self_consistency
from sqlora.generation.candidate import Candidate
from sqlora.generation.self_consistency import choose_consistent, vote

CONTEXT = "CREATE TABLE singer (singer_id INTEGER, name VARCHAR, age INTEGER)"
WRONG = "SELECT name FROM singer WHERE age >= 30"
RIGHT, SAME = "SELECT name FROM singer WHERE age > 30", "SELECT T1.name FROM singer AS T1 WHERE 30 < T1.age"


@pytest.mark.parametrize(
    ("queries", "best"),
    [
        (["SELECT nonesuch FROM singer", WRONG, RIGHT, SAME], 2),
        (["SELECT nonesuch FROM singer", WRONG], 1),
        ([WRONG, RIGHT], 0),
        ([WRONG, RIGHT, RIGHT], 1),
        ([WRONG, RIGHT + " ORDER BY age", RIGHT + " ORDER BY age DESC"], 0),
        (["SELECT nonesuch FROM singer"], None),
        (["", "how many", "DELETE FROM singer"], None),
    ],
)
def test_the_answer_that_most_give_wins_and_ties_go_to_the_likelier(queries, best):
    assert vote(CONTEXT, [Candidate(sql) for sql in queries]) == best


def test_a_candidate_counts_with_its_weight():
    assert vote(CONTEXT, [Candidate(WRONG, 0.6), Candidate(RIGHT, 0.2), Candidate(SAME, 0.1)]) == 0
    assert vote(CONTEXT, [Candidate(WRONG, 0.4), Candidate(RIGHT, 0.3), Candidate(SAME, 0.2)]) == 1


def test_where_none_runs_or_the_schema_cannot_be_read_it_is_the_likeliest():
    written = [[Candidate("a"), Candidate("b")], [Candidate(RIGHT), Candidate(WRONG)]]
    assert choose_consistent([CONTEXT, "no schema"], written) == [Candidate("a"), Candidate(RIGHT)]


def test_many_rows_take_all_cores():
    written = [Candidate(WRONG), Candidate(RIGHT), Candidate(SAME)]
    assert choose_consistent([CONTEXT] * 101, [written] * 101) == [Candidate(RIGHT)] * 101


def test_odd_literals_have_their_vote():
    odd = [f"SELECT name FROM singer {end}" for end in ("WHERE age > 09", "ORDER BY 9", "WHERE age > 9")]
    assert choose_consistent([CONTEXT], [[Candidate(sql) for sql in odd]]) == [Candidate(odd[0])]


def test_where_voting_itself_fails_the_likeliest_is_taken_and_reported(monkeypatch, capsys):
    monkeypatch.setattr(self_consistency, "Synthesiser", lambda *arguments: 1 / 0)
    assert choose_consistent([CONTEXT] * 2, [[Candidate(RIGHT), Candidate(WRONG)]] * 2) == [Candidate(RIGHT)] * 2
    assert (
        "voting failed for 2 of 2 questions, which get their likeliest query: ZeroDivisionError"
        in capsys.readouterr().out
    )
