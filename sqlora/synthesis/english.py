"""English questions for a drawn query, in several wordings.

A question names all that the query shows and by what it chooses, groups and sorts, so that it determines the result.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from sqlora.synthesis.column_facts import Facts
from sqlora.synthesis.group_questions import GroupQuestion
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.names import Names, plural
from sqlora.synthesis.phrases import SHORT, Phrases
from sqlora.synthesis.query_tree import COUNT, Order, Output, Place, Query, Rows
from sqlora.synthesis.wording import Wording, listed

TRIES = 6  # for each wording that is wanted
SUPERLATIVES = {  # of a column's last word: most and least
    "age": ("oldest", "youngest"),
    "weight": ("heaviest", "lightest"),
    "height": ("tallest", "shortest"),
    "length": ("longest", "shortest"),
    "duration": ("longest", "shortest"),
    "price": ("most expensive", "cheapest"),
    "cost": ("most expensive", "cheapest"),
}


def questions(
    query: Query, names: Names, graph: KeyGraph, facts: Mapping[Place, Facts], generator: random.Random, most: int = 3
) -> list[str]:
    """Up to `most` different questions that the query answers, by `generator`."""
    phrases = Phrases(names, graph, facts, generator)
    found: dict[str, None] = {}
    for _ in range(TRIES * most):
        found[_question(query, phrases)] = None
        if len(found) == most:
            break
    return list(found)


def _question(query: Query, phrases: Phrases) -> str:
    phrases.new_question()
    text = (GroupQuestion if query.group else RowQuestion)(phrases, query).text()
    last = text.rsplit("? ", 1)[-1]
    asks = last.startswith(("What", "Which", "How", "For which")) or ", what are" in last
    return text + ("?" if asks else ".")


class RowQuestion(Wording):
    """Words for a query without groups."""

    def text(self) -> str:
        """A question without its last sign."""
        if self.query.second:
            return self._set_operation(*self.query.second)
        return self._aggregates() if any(output.aggregate for output in self.query.outputs) else self._list()

    def _list(self) -> str:
        query, phrases, order = self.query, self.phrases, self.query.order
        if order and order.limit is not None and order.by.place:
            return self._superlative(order, order.by.place, order.limit)
        ordered = f"{self.pick(' ', ', ')}{self.sorted_by(order)}" if order else ""
        if len({output.place.table for output in query.outputs if output.place}) > 1:
            return self._of_both() + ordered
        many = order is not None or not self._is_one()
        rows = phrases.rows(query.rows, query.subject, many)
        all_of = "" if query.rows.filters or query.rows.links else self.pick("", "all ", "all the ")
        columns = self.columns(many)
        if query.distinct:
            columns = f"{self.pick('different', 'distinct')} {columns}"
        elif many and not order and self.pick(*"aaaaab") == "b":
            ask = self.pick("what are the", "show the", "list the")
            return f"For {'all ' if all_of else ''}{rows}, {ask} {columns}"
        return f"{self.ask(many)} {columns} of {all_of if many else 'the '}{rows}{ordered}"

    def _is_one(self) -> bool:
        """Whether the query asks for one row by its name or key."""
        filters = self.query.rows.filters
        return len(filters) == 1 and not self.query.rows.links and self.phrases.is_unique(filters[0])

    def _of_both(self) -> str:
        """Columns of rows and of the row that each of them refers to."""
        query, phrases = self.query, self.phrases
        (link,) = query.rows.links
        role = phrases.role(link) or phrases.noun(link.parent.table, many=False)
        which = phrases.which(query.rows, query.subject)
        own, others = (self.columns(bool(which), table) for table in (query.subject, link.parent.table))
        if which:
            rows = f"{phrases.noun(query.subject)} {which}"
            return f"For {rows}, {self.pick('show', 'what are')} the {own} and the {others} of their {plural(role)}"
        noun, its = phrases.noun(query.subject, many=False), phrases.pronoun(query.subject)
        return self.pick(
            f"Show the {own} of each {noun} and the {others} of {its} {role}",
            f"For each {noun}, show the {own} and the {others} of {its} {role}",
            f"What are the {own} of each {noun} and the {others} of {its} {role}",
        )

    def _superlative(self, order: Order, place: Place, limit: int) -> str:
        """The rows with the most or the least of something."""
        query, phrases, many = self.query, self.phrases, limit > 1
        columns, noun, top = self.columns(many), phrases.noun(query.subject, many), self._top(order, place)
        number = f"{self.number(limit)} " if many else ""
        if place.table != query.subject:
            return f"{self.ask(many)} {columns} of the {noun} of the {phrases.noun(place.table, many=False)} {top}"
        which = phrases.which(query.rows, query.subject)
        superlative = SUPERLATIVES.get(phrases.names.column(place.table, place.column).split(" ")[-1])
        if superlative and self.pick("a", "b") == "a":
            word = superlative[0 if order.descending else 1]
            return f"{self.ask(many)} {columns} of the {number}{word} {noun} {which}".rstrip()
        if not which and not many and self.pick(*"abc") == "a":
            its = phrases.pronoun(query.subject)
            return f"Which {noun} has {top.removeprefix('with ')}? {self.pick('Show', 'Give')} {its} {columns}"
        among = f" among {phrases.noun(query.subject)} {which}" if which else ""
        return f"{self.ask(many)} {columns} of the {number}{noun} {top}{among}"

    def _top(self, order: Order, place: Place) -> str:
        facts, column = self.phrases.facts.get(place), self.phrases.column(place)
        if facts and (facts.is_date or facts.is_year):
            return f"with the {self.pick('latest', 'most recent') if order.descending else 'earliest'} {column}"
        words = ("highest", "largest", "greatest") if order.descending else ("lowest", "smallest")
        return f"with the {self.pick(*(word for word in words if word not in column))} {column}"

    def _aggregates(self) -> str:
        query, phrases = self.query, self.phrases
        rows = phrases.rows(query.rows, query.subject)
        (first, *others) = query.outputs
        if first == COUNT:
            return self._how_many(rows)
        all_of = "" if query.rows.filters else self.pick("", "all ")
        if first.aggregate == "COUNT":
            assert first.place
            column, different = phrases.column(first.place, many=True), self.pick("different", "distinct")
            return self.pick(
                f"How many {different} {column} are there among {all_of}{rows}",
                f"What is the number of {different} {column} of {all_of}{rows}",
                f"Count the {different} {column} of {all_of}{rows}",
            )
        ask = self.ask(False) if not others else self.ask(False).replace("What is", "What are")
        return f"{ask} {self._measures(query.outputs)} of {all_of}{rows}"

    def _how_many(self, rows: str) -> str:
        of, subject = self.query.rows, self.query.subject
        noun, which = self.phrases.head(of, subject), self.phrases.which(of, subject)
        if which.startswith("of "):
            asked = f"{noun} {'does' if which.startswith('of the ') else 'do'} {which.removeprefix('of ')} have"
        elif which.startswith(("that are ", "that have ", "that do ")):
            asked = f"{noun} {which.removeprefix('that ')}"
        else:
            asked = f"{noun} are{' ' if which.startswith(SHORT) else ' there '}{which}".rstrip()
        if not which and self.pick(*"ab") == "a":
            return f"How many {noun} {self.pick('do we have', 'are there in total')}"
        first = f"How many {asked}"
        return self.pick(first, first, *(f"{ask} the number of {rows}" for ask in ("What is", "Count", "Find")))

    def _measures(self, outputs: tuple[Output, ...]) -> str:
        """Such as "average and maximum age"."""
        if len(outputs) == 1:
            return self.measured(outputs[0])
        assert outputs[0].place
        column = self.phrases.column(outputs[0].place)
        return f"{listed([self.phrases.aggregate(output.aggregate, column) for output in outputs])} {column}"

    def _set_operation(self, operation: str, second: Rows) -> str:
        """What two sets of rows share, have together, or do not share."""
        query, phrases = self.query, self.phrases
        columns = self.columns(many=True)
        one, other = (self._member(rows) for rows in (query.rows, second))
        if query.rows.table != query.subject:
            of = f"{self.ask(True)} {columns} of {phrases.noun(query.subject)}"
            role = phrases.role(self.link())
            has = f"that are the {role} of" if role else "that have"
            return f"{of} {has} {_combined(operation, one, other)}"
        if not query.rows.filters:
            return self.pick(f"Which {columns} have no {other}", f"Find the {columns} that do not have any {other}")
        return (
            self.pick(f"Which {columns} have", f"Show the {columns} that have") + " " + _combined(operation, one, other)
        )

    def _member(self, rows: Rows) -> str:
        """The rows of a part, or those beyond a table that only links them to the subject."""
        if len(rows.links) < 2:
            return self.phrases.rows(rows, rows.table)
        (far,) = {link.parent.table for link in rows.links} - {self.query.subject}
        return self.phrases.rows(Rows(far, filters=rows.filters), far)


def _combined(operation: str, one: str, other: str) -> str:
    if operation == "INTERSECT":
        return f"both {one} and {other}"
    return f"{one} or {other}" if operation == "UNION" else f"{one} but no {other}"
