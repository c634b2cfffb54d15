"""Pairs of a query and its questions, on real databases of each kind."""

import itertools
import sqlite3
from collections import Counter

import cinema
import pytest

from sqlora.databases.live import open_database
from sqlora.sql.parsing import normalise_sql
from sqlora.synthesis.from_database import CONSTANT, MOST_ALIKE, SECONDS, Synthesis
from sqlora.synthesis.shapes import SPIDER
from sqlora.system.errors import UserError


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return cinema.make_file(tmp_path_factory.mktemp("cinema"))


def pairs(file, count, seed=0, shares=SPIDER, **options):
    with open_database(str(file), SECONDS, **options) as live:
        synthesis = Synthesis(live, shares, seed)
        return list(itertools.islice(synthesis, count)), synthesis


@pytest.fixture(scope="module")
def drawn(file):
    return pairs(file, 300)


def test_every_query_gives_something_that_a_weaker_one_does_not(file, drawn):
    connection = sqlite3.connect(file)
    for pair in drawn[0]:
        rows = connection.execute(pair.sql).fetchall()
        assert any(value not in (0, None) for row in rows for value in row), pair.sql
        for weaker in pair.query.weaker():
            assert Counter(connection.execute(weaker.sql()).fetchall()) != Counter(rows), pair.sql


def test_no_query_and_no_question_comes_twice(drawn):
    asked = [question for pair in drawn[0] for question in pair.questions]
    assert len(set(asked)) == len(asked) > 2 * len(drawn[0])
    forms = Counter(CONSTANT.sub("?", normalise_sql(pair.sql)) for pair in drawn[0])
    assert len({normalise_sql(pair.sql) for pair in drawn[0]}) == len(drawn[0])
    assert max(forms.values()) <= MOST_ALIKE


def test_the_shares_are_those_that_were_asked_for(file):
    found, _ = pairs(file, 120, shares={"1 where": 75.0, "2 aggregate group": 25.0, "no such shape": 50.0})
    counted = Counter(pair.shape for pair in found)
    assert set(counted) == {"1 where", "2 aggregate group"}
    assert 0.6 < counted["1 where"] / counted.total() < 0.9


def test_the_seed_decides(file):
    shares = {"1 where": 2.0, "2 group having": 1.0}
    texts = [[pair.questions for pair in pairs(file, 20, seed, shares)[0]] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_what_was_left_out_is_counted_by_reason(drawn):
    assert {"empty result", "a condition that changes nothing", "a tie at the limit"} <= drawn[1].dropped.keys()
    assert {part.table for part in drawn[1].parts if hasattr(part, "table")} == set(cinema.rows())


def test_values_that_look_like_code_are_values(tmp_path):
    texts = [cinema.MARKUP, "{{ x }}", "' OR 1=1 --", '<a href="x">', "SELECT 1;"]
    with sqlite3.connect(tmp_path / "t.sqlite") as connection:
        connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, kind TEXT)")
        connection.executemany("INSERT INTO note (kind) VALUES (?)", [(text,) for text in texts * 3])
    found, synthesis = pairs(tmp_path / "t.sqlite", 60, shares={"1 where": 1.0, "1 where aggregate": 1.0})
    named = {text for text in texts for pair in found if text.replace("'", "''") in pair.sql}
    assert named == set(texts)
    for pair in found:
        for question in pair.questions:
            assert [text in question for text in texts] == [text.replace("'", "''") in pair.sql for text in texts]
    assert not synthesis.dropped["does not run"]


def test_the_fewest_are_not_looked_for_where_some_have_none(file):
    """Directors 7 and 8 have no film, and a join would leave them out."""
    found, synthesis = pairs(file, 40, shares={"2 group having": 1.0, "2 group order limit": 1.0})
    few = [pair for pair in found if pair.query.counts_few]
    assert {pair.query.subject for pair in few} <= {"Film"}
    assert synthesis.dropped["rows that no other refers to"]


def test_hidden_columns_are_not_asked_about(file):
    found, _ = pairs(file, 80, hidden=["Film.Title", "actor"])
    assert found
    assert not any("Title" in pair.sql or "actor" in pair.sql for pair in found)


def test_a_database_without_rows_is_refused(tmp_path):
    with pytest.raises(UserError, match="no table has a row"):
        pairs(cinema.make_file(tmp_path, filled=False), 1)


def test_few_rows_end_with_few_queries(tmp_path):
    connection = sqlite3.connect(tmp_path / "t.sqlite")
    connection.executescript("CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('x'), ('y'), ('y')")
    connection.close()
    found, _ = pairs(tmp_path / "t.sqlite", 1000)
    assert 5 < len(found) < 100


def test_a_table_that_goes_meanwhile_costs_its_queries_alone(tmp_path):
    file = cinema.make_file(tmp_path)
    with open_database(str(file), SECONDS) as live:
        synthesis = Synthesis(live, SPIDER, 0)
        stream = iter(synthesis)
        next(stream)
        with sqlite3.connect(file) as connection:
            connection.execute("DROP TABLE actor")
        found = list(itertools.islice(stream, 200))
    assert synthesis.dropped["does not run"]
    assert not any("actor" in pair.sql.lower().replace("actorid", "") for pair in found)


def test_every_kind_of_database(server):
    """Names with capitals and blanks, and queries in the database's own dialect."""
    found, synthesis = pairs(server.reader, 60)
    assert len(found) == 60
    assert synthesis.dropped["does not run"] < 6  # MySQL has no column beside MAX that GROUP BY lacks
    assert any('"Song"' in pair.sql or "Song" in pair.sql for pair in found)


def test_a_table_that_may_not_be_read_is_passed_over(postgresql_server):
    _, synthesis = pairs(postgresql_server.reader, 5)
    assert "private" not in {table.name for table in synthesis.sampled.schema.tables}
