"""Draws the conditions of queries: on columns that a schema has, with values that are in them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from sqlora.sql.sandbox import Value
from sqlora.sql.schema import Schema
from sqlora.synthesis.column_facts import Facts
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.query_tree import Compared, Link, Output, Place

FREQUENT = 50  # values of a column, the most frequent ones, from which filters draw
LEAST_WORD = 4  # letters of a word that LIKE looks for
KEYS = 0.08  # share of the conditions that pick a row which do so by its key


class FilterGrammar:
    """Draws tables, columns and conditions; what was drawn less often is more likely to come next.

    `facts` are those of the columns of the tables that have rows.
    """

    def __init__(self, schema: Schema, graph: KeyGraph, facts: Mapping[Place, Facts], generator: random.Random) -> None:
        self.graph, self.facts, self.generator = graph, facts, generator
        self.columns = {
            table.name: found
            for table in schema.tables
            if (found := [place for column in table.columns if (place := Place(table.name, column.name)) in facts])
        }
        self._drawn: Counter[Place | Link | str] = Counter()

    def _chance(self, share: float) -> bool:
        return self.generator.random() < share

    def _pick(self, found: Sequence):
        """One of these, of which what was drawn less often is more likely."""
        weights = [1 / (1 + self._drawn[one]) for one in found]
        (one,) = self.generator.choices(found, weights)
        self._drawn[one] += 1
        return one

    def _table(self, fits: Callable[[Facts], bool] = lambda facts: True) -> str | None:
        """A table with a column that fits; those that only link others say little of their own."""
        tables = [
            table
            for table, places in self.columns.items()
            if not self.graph.is_linking(table) and any(fits(self.facts[place]) for place in places)
        ]
        return self._pick(tables) if tables else None

    def _places(self, table: str, fits: Callable[[Facts], object]) -> list[Place]:
        return [place for place in self.columns[table] if fits(self.facts[place])]

    def _shown(self, table: str, most: int = 3) -> tuple[Output, ...]:
        """Columns of a table to show, its names before its numbers."""
        names = self._places(table, lambda facts: facts.is_name)
        rest = self._places(table, lambda facts: not facts.is_name and not facts.is_flag)
        others = [place for place in rest if not self._is_foreign(place)]
        if not names + others:
            others = self.columns[table]
        count = self.generator.choices(range(1, most + 1), (6, 3, 1)[:most])[0]
        chosen: list[Place] = [self._pick(names)] if names and self._chance(0.7) else []
        while len(chosen) < count and (left := [place for place in names + others if place not in chosen]):
            chosen.append(self._pick(left))
        return tuple(map(Output, chosen))

    def _is_foreign(self, place: Place) -> bool:
        return any(place == link.child for link in self.graph.links)

    # Filters.

    def _filters(
        self, table: str, most: int = 1, besides: Sequence[Output] = (), picks_one: bool = False
    ) -> tuple[Compared, ...]:
        """Up to `most` conditions on different columns of a table, none of them on a column that is shown; by names
        and keys only if a condition may pick one row.
        """
        shown = {output.place for output in besides}
        fits = self._places(table, lambda facts: not facts.is_key and (picks_one or not facts.is_name) and facts.values)
        if picks_one and self._chance(KEYS):
            fits = self._places(table, lambda facts: facts.is_key and facts.values) or fits
        left = [place for place in fits if place not in shown and not self._is_foreign(place)]
        filters: list[Compared] = []
        for _ in range(most):
            if not left:
                break
            place = self._pick(left)
            left.remove(place)
            if condition := self._compared(self.facts[place]):
                filters.append(condition)
        return tuple(filters)

    def _is_of_one(self, condition: Compared) -> bool:
        """Whether it holds for one row."""
        return condition.operator == "=" and len(condition.values) == 1 and self.facts[condition.place].is_unique

    def _compared(self, facts: Facts) -> Compared | None:
        values, place, chance = facts.values[:FREQUENT], facts.place, self.generator.random()
        if facts.is_ordered and len(values) > 2 and (facts.is_measure or chance < 0.6):
            ranked = self._ranked(facts)
            low, high = sorted(self.generator.sample(range(len(ranked)), 2))
            if chance < 0.12:
                return Compared(place, "between", (ranked[low], ranked[high]))
            middle = self.generator.randrange(len(ranked) // 5, max(len(ranked) * 4 // 5, len(ranked) // 5 + 1))
            return Compared(place, self.generator.choices(("> < >= <=".split()), (5, 4, 2, 2))[0], (ranked[middle],))
        if (
            isinstance(values[0], str)
            and not (facts.is_number or facts.is_date)
            and chance < 0.12
            and facts.distinct > 5
        ):
            return self._like(place, values)
        value = self.generator.choice(values)
        if facts.is_category and facts.distinct > 2 and chance > 0.88:
            return Compared(place, "<>", (value,))
        if facts.distinct > 3 and len(values) > 1 and chance > 0.8:
            return Compared(place, "=", tuple(self.generator.sample(values, 2)))
        return Compared(place, "=", (value,))

    def _ranked(self, facts: Facts) -> list:
        """Values in their order, of which many numbers are rounded, as people do."""
        values, digits = facts.values, self.generator.choice((None, 1, 2))
        if facts.is_measure and digits and all(isinstance(value, int | float) for value in values):
            few = {rounded(value, digits) for value in values}  # type: ignore[arg-type] # numbers all
            values = tuple(few) if len(few) > 1 else values
        return sorted(set(values))  # numbers, or texts of one form

    def _like(self, place: Place, values: Sequence[Value]) -> Compared | None:
        words = [word for value in values for word in str(value).split() if word.isalpha()]
        if len(words) < len(values):  # they are hardly texts
            return None
        word = self.generator.choice(words)
        if len(word) >= LEAST_WORD and self._chance(0.6):
            return Compared(place, "contains", (word,))
        starts = [str(value) for value in values if str(value)[0].isalpha()]
        return Compared(place, "starts with", (self.generator.choice(starts)[0],)) if starts else None

    def _two_filters(self, table: str, shown: Sequence[Output]) -> tuple[Compared, Compared] | None:
        """Conditions on one column that no row meets both of."""
        besides = {output.place for output in shown}
        places = [
            place
            for place in self._places(table, lambda f: f.is_category or (f.is_measure and f.keeps_order))
            if place not in besides
        ]
        if not (places := [place for place in places if len(self.facts[place].values) > 2]):
            return None
        facts = self.facts[place := self._pick(places)]
        if facts.is_ordered:
            ranked = self._ranked(facts)
            low, high = sorted(self.generator.sample(range(len(ranked)), 2))
            return Compared(place, ">", (ranked[high],)), Compared(place, "<", (ranked[low],))
        one, other = self.generator.sample(facts.values[:FREQUENT], 2)
        return Compared(place, "=", (one,)), Compared(place, "=", (other,))


def rounded(value: int | float, digits: int) -> int | float:
    """A number with so many digits; small ones stay."""
    return type(value)(float(f"{value:.{digits}g}")) if abs(value) >= 10**digits else value
