"""Keys as questions follow them."""

import cinema

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.key_graph import KeyGraph

GRAPH = KeyGraph(parse_schema(cinema.TABLES))


def test_parents_and_children():
    assert [link.parent.table for link in GRAPH.parents("Film")] == ["director"]
    assert [link.child.table for link in GRAPH.children("Film")] == ["actor", "film_cast"]


def test_a_table_that_only_links_two_leads_from_one_to_the_other():
    assert [table for table in ("director", "Film", "actor", "film_cast") if GRAPH.is_linking(table)] == ["film_cast"]
    to_film, to_actor = GRAPH.parents("film_cast")
    assert GRAPH.across(to_film) == to_actor
    assert GRAPH.across(GRAPH.parents("Film")[0]) is None


def test_a_key_that_is_also_the_childs_own_has_one_child_at_most():
    graph = KeyGraph(
        parse_schema("CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (id INT PRIMARY KEY REFERENCES a (id))")
    )
    assert [graph.is_single(link) for link in graph.links] == [True]
    assert not any(map(GRAPH.is_single, GRAPH.links))


def test_keys_of_several_columns_and_of_a_table_to_itself_are_not_followed():
    graph = KeyGraph(
        parse_schema(
            "CREATE TABLE a (x INT, y INT, boss INT REFERENCES a (x), PRIMARY KEY (x, y));"
            "CREATE TABLE b (x INT, y INT, FOREIGN KEY (x, y) REFERENCES a (x, y))"
        )
    )
    assert graph.links == ()
