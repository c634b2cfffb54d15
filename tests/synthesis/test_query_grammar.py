"""Every query that is drawn runs."""

import random
import sqlite3

import cinema
import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.column_facts import facts_of
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.query_grammar import Grammar
from sqlora.synthesis.shapes import shape_of

SCHEMA = parse_schema(cinema.TABLES)


def draw(count, seed=0, schema=SCHEMA, rows=None):
    facts = facts_of(schema, cinema.rows() if rows is None else rows)
    grammar = Grammar(schema, KeyGraph(schema), facts, random.Random(seed))
    return [query for _ in range(count) if (query := grammar.draw())]


def test_queries_run_and_have_many_shapes(tmp_path):
    connection = sqlite3.connect(cinema.make_file(tmp_path))
    queries = draw(1500)
    for query in queries:
        connection.execute(query.sql()).fetchall()
    shapes = {shape_of(query.tree()) for query in queries}
    assert len(shapes) > 40
    for word in "where nested aggregate group having order limit distinct intersect except union".split():
        assert any(word in shape for shape in shapes), word
    assert {shape[0] for shape in shapes} == {"1", "2", "3"}


def test_the_seed_decides():
    texts = [[query.sql() for query in draw(50, seed)] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_all_tables_columns_and_keys_come_up():
    parts = set().union(*(query.parts() for query in draw(1500)))
    assert set(KeyGraph(SCHEMA).links) <= parts
    assert {part.table for part in parts if hasattr(part, "table")} == {table.name for table in SCHEMA.tables}


def test_a_table_without_rows_is_not_asked_about():
    rows = {table: values for table, values in cinema.rows().items() if table != "actor"}
    texts = [query.sql() for query in draw(500, rows=rows)]
    assert texts
    assert not any(" actor" in text for text in texts)


@pytest.mark.parametrize("definition", ["a TEXT", "is_open TEXT", "a_id INT"])
def test_one_column_is_enough(definition):
    schema = parse_schema(f"CREATE TABLE t ({definition})")
    queries = draw(50, schema=schema, rows={"t": [("x",), ("y",)]})
    assert queries
    assert all(query.outputs for query in queries)
