"""Draws queries over a schema, its keys and the values of its columns, by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sqlora.sql.schema import Schema
from sqlora.synthesis.column_facts import Facts
from sqlora.synthesis.filter_grammar import FilterGrammar, rounded
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.query_tree import (
    COUNT,
    ComparedWithRows,
    Having,
    Link,
    Linked,
    Order,
    Output,
    Place,
    Query,
    Rows,
)

MOST_GROUPED = 3  # rows of a group that HAVING asks for
Drawn = Query | None


class Grammar(FilterGrammar):
    """Draws queries of all kinds; what was drawn less often, a table or a column, is more likely to come next."""

    def __init__(self, schema: Schema, graph: KeyGraph, facts: Mapping[Place, Facts], generator: random.Random) -> None:
        super().__init__(schema, graph, facts, generator)
        self.links = [link for link in graph.links if {link.child.table, link.parent.table} <= self.columns.keys()]
        kinds: tuple[tuple[Callable[[], Drawn], int], ...] = (
            (self._list, 14),
            (self._sorted, 6),
            (self._top, 7),
            (self._count, 10),
            (self._aggregate, 8),
            (self._grouped, 12),
            (self._list_of_joined, 14),
            (self._aggregate_of_joined, 6),
            (self._grouped_by_parent, 12),
            (self._linked, 8),
            (self._compared_with_rows, 5),
            (self._set_operation, 6),
        )
        self._kinds, self._weights = zip(*kinds, strict=True)

    def draw(self) -> Drawn:
        """A query, or None where what was begun cannot be ended with these columns and keys."""
        (kind,) = self.generator.choices(self._kinds, self._weights)
        return kind()

    # Queries over one table.

    def _rows(
        self, table: str, shares: tuple[float, float, float], shown: Sequence[Output] = (), picks_one: bool = False
    ) -> Rows:
        """Rows of a table with no, one or two filters, in these shares."""
        filters = self._filters(table, self.generator.choices(range(3), shares)[0], shown, picks_one)
        any_of = len(filters) == 2 and self._chance(0.2)
        return Rows(table, filters=filters, any_of=any_of)

    def _list(self) -> Drawn:
        if not (table := self._table()):
            return None
        shown = self._shown(table)
        rows = self._rows(table, (0.25, 0.55, 0.2), shown, picks_one=True)
        is_repeated = all(output.place and self.facts[output.place].is_category for output in shown)
        return Query(table, rows, shown, distinct=is_repeated and self._chance(0.6))

    def _sorted(self) -> Drawn:
        if not (table := self._table(lambda facts: facts.is_ordered or facts.is_name)):
            return None
        shown = self._shown(table)
        keys = self._places(table, lambda facts: facts.is_ordered)
        read = [self.facts[output.place] for output in shown if output.place]
        names = [Output(facts.place) for facts in read if facts.is_name and not facts.is_code]
        if keys and self._chance(0.7):
            by = Output(self._pick(keys))
        elif names:
            by = names[0]
        else:
            return None
        return Query(table, self._rows(table, (0.75, 0.25, 0), shown), shown, order=Order(by, self._chance(0.5)))

    def _top(self) -> Drawn:
        if not (table := self._table(lambda facts: facts.is_ordered and facts.distinct > 2)):
            return None
        by = Output(self._pick(self._places(table, lambda facts: facts.is_ordered and facts.distinct > 2)))
        shown = tuple(output for output in self._shown(table) if output != by)
        if not shown:
            return None
        order = Order(by, self._chance(0.6), self._limit())
        return Query(table, self._rows(table, (0.8, 0.2, 0), shown), shown, order=order)

    def _limit(self) -> int:
        return 1 if self._chance(0.8) else self.generator.randint(2, 5)

    def _count(self) -> Drawn:
        if not (table := self._table()):
            return None
        categories = self._places(table, lambda facts: facts.is_category)
        if categories and self._chance(0.25):
            output = Output(self._pick(categories), "COUNT", distinct=True)
            return Query(table, self._rows(table, (0.7, 0.3, 0), (output,)), (output,))
        return Query(table, self._rows(table, (0.2, 0.6, 0.2)), (COUNT,))

    def _aggregate(self) -> Drawn:
        if not (table := self._table(lambda facts: facts.is_measure)):
            return None
        outputs = self._measures(table)
        return Query(table, self._rows(table, (0.5, 0.4, 0.1), outputs), outputs)

    def _measures(self, table: str, several: float = 0.3) -> tuple[Output, ...]:
        place = self._pick(self._places(table, lambda facts: facts.is_measure))
        if not self.facts[place].keeps_order:
            return (Output(place, "AVG"),)
        kinds = self.generator.choices(("AVG", "MAX", "MIN", "SUM"), (5, 3, 3, 2))
        if self._chance(several):
            kinds = self.generator.sample(("AVG", "MAX", "MIN"), self.generator.choice((2, 2, 3)))
        return tuple(Output(place, kind) for kind in kinds)

    def _grouped(self) -> Drawn:
        if not (table := self._table(lambda facts: facts.is_category)):
            return None
        group = self._pick(self._places(table, lambda facts: facts.is_category))
        rows = self._rows(table, (0.85, 0.15, 0), (Output(group),))
        measured = self._measures(table, 0.1)[0] if self._places(table, lambda f: f.is_measure) else COUNT
        return self._of_groups(Query(table, rows, (Output(group),), group=group), measured)

    def _of_groups(self, query: Query, measured: Output) -> Query:
        """The query with figures of its groups, with a condition of them, or sorted by them."""
        measured = COUNT if self._chance(0.65) else measured
        ways = (self._with_figure, self._with_having, self._with_top, self._with_order)
        return self.generator.choices(ways, (35, 20, 35, 10))[0](query, measured)

    def _with_figure(self, query: Query, measured: Output) -> Query:
        return replace(query, outputs=(*query.outputs, measured))

    def _with_having(self, query: Query, measured: Output) -> Query:
        if measured == COUNT:
            having = Having(
                COUNT, self.generator.choice((">", ">=", ">=", "=", "<")), self.generator.randint(1, MOST_GROUPED)
            )
            if having.operator in ("<", ">=") and having.value == 1:
                having = replace(having, value=2)
            return replace(query, having=having)
        assert measured.place
        if measured.aggregate == "SUM":
            return self._with_figure(query, measured)
        values = sorted(float(str(value)) for value in self.facts[measured.place].values)
        value = rounded(values[len(values) // 2], self.generator.choice((1, 2, 3)))
        return replace(query, having=Having(_averaged(measured), self.generator.choice("><"), value))

    def _with_top(self, query: Query, measured: Output) -> Query:
        measured = _averaged(measured)
        order = Order(measured, self._chance(0.75), self._limit())
        shown = (*query.outputs, measured) if self._chance(0.2) else query.outputs
        return replace(query, outputs=shown, order=order)

    def _with_order(self, query: Query, measured: Output) -> Query:
        measured = _averaged(measured)
        return replace(query, outputs=(*query.outputs, measured), order=Order(measured, self._chance(0.6)))

    # Queries along keys.

    def _joined(self) -> tuple[Rows, Link] | None:
        """Rows of a child with the rows of its parent, or of two that a table links; and the key."""
        if not self.links:
            return None
        link = self._pick(self.links)
        across = self.graph.across(link)
        links = (link, across) if across in self.links and across else (link,)
        return Rows(link.child.table, links), link

    def _list_of_joined(self) -> Drawn:
        if not (joined := self._joined()):
            return None
        rows, link = joined
        parent, child = link.parent.table, rows.links[-1].parent.table if len(rows.links) > 1 else rows.table
        way = self.generator.random()
        if len(rows.links) == 1 and way < 0.3:  # columns of both
            shown = self._shown(child, 2) + self._shown(parent, 2)
            filters = self._filters(self.generator.choice((child, parent)), self.generator.choice((0, 1)), shown)
            return Query(child, replace(rows, filters=filters), shown)
        subject, other = (parent, child) if way < 0.65 else (child, parent)
        if self.graph.is_linking(subject):
            return None
        shown = self._shown(subject)
        keys = self._places(other, lambda facts: facts.is_ordered and facts.distinct > 2)
        if len(rows.links) == 1 and subject == parent and keys and self._chance(0.15):
            return Query(subject, rows, shown, order=Order(Output(self._pick(keys)), self._chance(0.6), 1))
        filters = self._filters(other, 1, picks_one=True) + self._filters(subject, int(self._chance(0.2)), shown)
        if not any(one.place.table == other for one in filters):
            return None
        is_repeated = subject == parent or len(rows.links) > 1
        return Query(subject, replace(rows, filters=filters), shown, distinct=is_repeated and self._chance(0.7))

    def _aggregate_of_joined(self) -> Drawn:
        """Figures of the children of some parents; of those that a table links to several, some would count twice."""
        if not (joined := self._joined()):
            return None
        link = joined[1]
        links = self.graph.is_linking(joined[0].table)
        rows = replace(joined[0], links=(link,))
        filters = self._filters(link.parent.table, 1, picks_one=True)
        if not filters or (links and not self._is_of_one(filters[0])):
            return None
        filters += () if links else self._filters(rows.table, int(self._chance(0.2)))
        has_measures = not links and self._places(rows.table, lambda facts: facts.is_measure)
        outputs = self._measures(rows.table) if has_measures and self._chance(0.5) else (COUNT,)
        return Query(rows.table, replace(rows, filters=filters), outputs)

    def _grouped_by_parent(self) -> Drawn:
        if not self.links:
            return None
        link = self._pick(self.links)
        parent, child = link.parent.table, link.child.table
        if self.graph.is_single(link):
            return None
        rows = Rows(
            child, (link,), self._filters(child, int(self._chance(0.12))) if not self.graph.is_linking(child) else ()
        )
        has_measures = self._places(child, lambda facts: facts.is_measure) and not self.graph.is_linking(child)
        measured = self._measures(child, 0)[0] if has_measures else COUNT
        return self._of_groups(Query(parent, rows, self._shown(parent, 2), group=link.parent), measured)

    def _linked(self) -> Drawn:
        if not self.links:
            return None
        link = self._pick(self.links)
        if self.graph.is_single(link) and self._chance(0.7):
            return None
        child, parent = link.child.table, link.parent.table
        filters = self._filters(child, int(self._chance(0.3))) if not self.graph.is_linking(child) else ()
        rows = Rows(parent, filters=(Linked(link, self._chance(0.8), filters),))
        return Query(parent, rows, (COUNT,) if self._chance(0.25) else self._shown(parent, 2))

    def _compared_with_rows(self) -> Drawn:
        if not (table := self._table(lambda facts: facts.is_measure and facts.keeps_order)):
            return None
        place = self._pick(self._places(table, lambda facts: facts.is_measure and facts.keeps_order))
        filters = self._filters(table, int(self._chance(0.35)), (Output(place),))
        kinds = (
            (("AVG", ">"), ("AVG", "<"))
            if not filters
            else (("AVG", ">"), ("MAX", ">"), ("MIN", "<"), ("MIN", ">"), ("MAX", "<"))
        )
        aggregate, operator = self.generator.choice(kinds)
        rows = Rows(table, filters=(ComparedWithRows(place, operator, aggregate, filters),))
        shown = tuple(output for output in self._shown(table) if output.place != place)
        return Query(table, rows, (COUNT,) if not shown or self._chance(0.2) else shown)

    def _set_operation(self) -> Drawn:
        """What two sets of rows share, do not share, or have together."""
        joined = self._joined() if self._chance(0.4) else None
        if joined and self.graph.is_linking(joined[0].table) == (len(joined[0].links) > 1):
            rows, link = joined
            names = self._places(link.parent.table, lambda facts: facts.is_name)
            if not names or self.graph.is_single(link):
                return None
            subject, shown = link.parent.table, (Output(self._pick(names)),)
        elif table := self._table(lambda facts: facts.is_category and not facts.is_number):
            subject, rows = table, Rows(table)
            shown = (Output(self._pick(self._places(table, lambda facts: facts.is_category))),)
        else:
            return None
        operation = self.generator.choices(("INTERSECT", "EXCEPT", "UNION"), (5, 4, 2))[0]
        if operation == "EXCEPT" and not rows.links and self._chance(0.6):
            if filters := self._filters(rows.table, 1, shown):
                return Query(subject, rows, shown, second=(operation, replace(rows, filters=filters)))
            return None
        pair = self._two_filters(rows.links[1].parent.table if len(rows.links) > 1 else rows.table, shown)
        if pair is None:
            return None
        one, other = (replace(rows, filters=(condition,)) for condition in pair)
        return Query(subject, one, shown, second=(operation, other))


def _averaged(measured: Output) -> Output:
    """The highest maximum is said more simply: an average takes its place."""
    return replace(measured, aggregate="AVG") if measured.aggregate in ("MAX", "MIN") else measured
