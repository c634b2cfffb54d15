"""Noun phrases for the rows of a table: what they are called, and which of them, in several wordings."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from sqlora.sql.sandbox import Value
from sqlora.synthesis.column_facts import Facts
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.names import AGENTS, Names, plural
from sqlora.synthesis.query_tree import Compared, ComparedWithRows, Filter, Link, Linked, Place, Rows

PLACES = frozenset("country city state region district continent county town province location".split())
ORIGINS = frozenset("nationality citizenship hometown".split())
NAMES = frozenset(("name", "full name", "title"))
TRUE = frozenset(("1", "t", "true", "y", "yes"))
FALSE = frozenset(("0", "f", "false", "n", "no"))
MORE = {
    ">": ("greater than", "above", "more than", "higher than", "over"),
    "<": ("less than", "below", "lower than", "under"),
    ">=": ("at least", "no less than"),
    "<=": ("at most", "no more than"),
}
LATER = {
    ">": ("after", "later than"),
    "<": ("before", "earlier than"),
    ">=": ("in or after", "no earlier than"),
    "<=": ("in or before", "no later than"),
}
BETTER = {"age": ("older than", "younger than"), "weight": ("heavier than", "lighter than")}
AGGREGATES = {
    "AVG": ("average", "average", "average", "mean"),
    "SUM": ("total",),
    "MAX": ("maximum", "highest", "largest"),
    "MIN": ("minimum", "lowest", "smallest"),
}
IDS = frozenset("id code key number no name".split())  # last words of keys, which are no part of what they stand for
SHORT = ("in ", "from ", "named ", "called ", "older ", "younger ", "heavier ", "lighter ", "of ")


class Phrases:
    """Words for a database's rows, chosen by `generator`; `facts` are those of its columns."""

    def __init__(self, names: Names, graph: KeyGraph, facts: Mapping[Place, Facts], generator: random.Random) -> None:
        self.names, self.graph, self.facts, self.generator = names, graph, facts, generator
        self.new_question()

    def new_question(self) -> None:
        """Chooses what stays the same within a question: how texts are quoted, and whether words are the usual ones."""
        self._is_plain = self.generator.random() < 0.5
        self._quote = self.pick("'", '"')
        self._quotes_all = self.generator.random() < 0.5

    def pick(self, *choices: str) -> str:
        """One of the choices."""
        return self.generator.choice(choices)

    def noun(self, table: str, many: bool = True) -> str:
        return plural(self.names.table(table)) if many else self.names.table(table)

    def column(self, place: Place, many: bool = False) -> str:
        """A column's name, or what its comment calls it."""
        label = self.names.label(place.table, place.column)
        name = self.names.column(place.table, place.column)
        name = label if label and self.generator.random() < 0.5 else AGENTS.get(name, name)
        return plural(name) if many else name

    def value(self, value: Value, quoted: bool = False) -> str:
        """A value as people write it, texts mostly in quotes."""
        if not isinstance(value, str):
            return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        if re.fullmatch(r"[\d.-]+( 00:00:00(\.0+)?)?", value) and not quoted:
            return value.partition(" ")[0]
        is_plain = re.fullmatch(r"[A-Z][A-Za-z]*( [A-Z][A-Za-z]*)*", value)
        if is_plain and not quoted and not self._quotes_all:
            return value
        quote = self._quote if self._quote not in value else {"'": '"', '"': "'"}[self._quote]
        return f"{quote}{value}{quote}"

    def rows(self, rows: Rows, table: str, many: bool = True) -> str:
        """The rows of `table` among `rows`, such as "songs of the singer named 'Ann'"."""
        which = self.which(rows, table)
        if self.names.is_person(table) and which.startswith("that ") and self.generator.random() < 0.5:
            which = "who " + which.removeprefix("that ")
        return f"{self.head(rows, table, many)} {which}".rstrip()

    def head(self, rows: Rows, table: str, many: bool = True) -> str:
        """What the rows of `table` are called; of one that only links, what is beyond it."""
        if table == rows.table and len(rows.links) == 1 and self.graph.is_linking(table):
            return self.others(rows.links[0])
        return self.noun(table, many)

    def which(self, rows: Rows, table: str) -> str:
        """What tells these rows of the table from its others, or ""."""
        own = [one for one in rows.filters if _table(one) == table]
        said = [self.condition(one) for one in own]
        said += [text for link in self._next(rows, table) if (text := self._joined(rows, table, link))]
        return _join(said, "or" if rows.any_of else "and")

    def _next(self, rows: Rows, table: str) -> list[Link]:
        """The links of the rows that touch the table."""
        return [link for link in rows.links if table in (link.child.table, link.parent.table)]

    def _joined(self, rows: Rows, table: str, link: Link) -> str:
        if link.child.table == table:
            return self._of_parent(rows, link)
        others = [other for other in rows.links if other != link]
        if self.graph.is_linking(link.child.table) and others:
            far = others[0].parent.table
            filters = tuple(one for one in rows.filters if _table(one) in (far, link.child.table))
            return self._has(self.rows(Rows(far, filters=filters), far))
        beyond = tuple(others)
        filters = tuple(one for one in rows.filters if _table(one) != table)
        return self.linked(Linked(link, False), Rows(link.child.table, beyond, filters))

    def _of_parent(self, rows: Rows, link: Link) -> str:
        filters = [one for one in rows.filters if _table(one) == link.parent.table]
        if not filters:
            return ""
        # With other conditions "songs of singers from France whose age is 3" would not say whose age.
        is_alone = len(filters) == len(rows.filters)
        has_one = not self.graph.is_linking(rows.table)
        if has_one and ((role := self.role(link)) or not is_alone or self.generator.random() < 0.3):
            parent = role or self.noun(link.parent.table, many=False)
            return f"whose {parent} " + " and ".join(self.predicate(one) for one in filters)
        is_one = any(isinstance(one, Compared) and self.is_unique(one) for one in filters)
        parent = self.rows(Rows(link.parent.table, filters=tuple(filters)), link.parent.table, many=not is_one)
        return f"of the {parent}" if is_one else f"of {parent}"

    def role(self, link: Link) -> str:
        """What the parent is to the child, as a key named source_airport says; "" if it is just what it is."""
        if link.child.column.lower() == link.parent.column.lower():
            return ""
        words = self.names.column(link.child.table, link.child.column).split(" ")
        while words and words[-1] in IDS:
            words.pop()
        known = {*self.names.table(link.parent.table).split(" "), *link.parent.table.lower().split("_")}
        known |= {plural(word) for word in known}
        known |= set(self.names.column(link.parent.table, link.parent.column).split(" "))
        return "" if known.issuperset(words) else " ".join(words)

    def pronoun(self, table: str) -> str:
        """What belongs to a row of the table is its, or a person's."""
        return "their" if self.names.is_person(table) else "its"

    def others(self, link: Link) -> str:
        """What the children of a link are called, or what is beyond them if they only link, in the plural."""
        across = self.graph.across(link)
        return self.noun(across.parent.table if across else link.child.table)

    def linked(self, condition: Linked, rows: Rows | None = None) -> str:
        """Which rows of a parent have children, or have none."""
        link = condition.link
        rows = rows or Rows(link.child.table, filters=condition.filters)
        which = self.which(rows, link.child.table)
        children = f"{self.others(link)} {which}".rstrip()
        if role := self.role(link):
            return (
                f"that are not the {role} of any {children}"
                if condition.negated
                else f"that are the {role} of {children}"
            )
        if not condition.negated:
            return self._has(children)
        return self.pick(f"that have no {children}", f"without any {children}", f"that do not have any {children}")

    def _has(self, others: str) -> str:
        return self.pick(f"that have {others}", f"with any {others}", f"that have any {others}")

    def condition(self, condition: Filter) -> str:
        """What comes after a noun in the plural."""
        if isinstance(condition, Linked):
            return self.linked(condition)
        if isinstance(condition, ComparedWithRows):
            column = self.column(condition.place)
            return f"whose {column} {_is(column)} {self._than_rows(condition)}"
        place, operator = condition.place, condition.operator
        if special := self._special(condition):
            return special
        column, values = self.column(place), self._values(condition)
        if operator == "=":
            return self.pick(
                f"whose {column} {_is(column)} {values}", f"with {column} {values}", f"with the {column} {values}"
            )
        if operator == "<>":
            return self.pick(f"whose {column} {_is(column)} not {values}", f"with {column} other than {values}")
        if operator == "contains":
            return self.pick(f"whose {column} {_s(column, 'contain')} {values}", f"with {values} in the {column}")
        if operator == "starts with":
            return f"whose {column} {self.pick(_s(column, 'start'), _s(column, 'begin'))} with {values}"
        return self.pick(f"whose {column} {_is(column)} {values}", f"with {column} {values}")

    def predicate(self, condition: Filter) -> str:
        """The same of one row, after "whose singer"."""
        assert isinstance(condition, Compared)
        special = self._special(condition)
        if special.startswith(SHORT):
            return f"is {special}"
        column, values = self.column(condition.place), self._values(condition)
        if condition.operator in ("contains", "starts with"):
            return f"has {'an' if column[0] in 'aeiou' else 'a'} {column} that {condition.operator} {values}"
        return f"has {column} {'other than ' if condition.operator == '<>' else ''}{values}"

    def _special(self, condition: Compared) -> str:
        """The short wordings that some columns have, such as "older than 30" and "from France", or ""."""
        place, operator = condition.place, condition.operator
        name, is_person = self.names.column(place.table, place.column), self.names.is_person(place.table)
        if flag := _flag(condition, name):
            return flag
        if self.generator.random() < 0.3:
            return ""
        values = self._values(condition)
        if operator == "=" and len(condition.values) == 1:
            if name in NAMES and not (is_person and name == "title"):
                return self.pick(f"named {values}", f"called {values}")
            if name.endswith(" by"):
                return f"{name} {values}"
        if operator == "=" and (name in ORIGINS or (name in PLACES and is_person)):
            return f"from {values}"
        if operator == "=" and (name in PLACES or name == "year"):
            return f"in {values}"
        if name in BETTER and operator in "><" and (is_person or name == "weight" or self.generator.random() < 0.5):
            return f"{BETTER[name]['><'.index(operator)]} {self.value(condition.values[0])}"
        return ""

    def _values(self, condition: Compared) -> str:
        """The values with the words for the operator."""
        operator, values = condition.operator, [self.value(value) for value in condition.values]
        if operator == "between":
            return f"between {values[0]} and {values[1]}"
        if operator in MORE:
            return f"{self.compared(condition.place, operator)} {values[0]}"
        if operator in ("contains", "starts with"):
            return self.value(condition.values[0], quoted=True)
        return " or ".join(values)

    def aggregate(self, kind: str, column: str) -> str:
        """A word for the aggregate, which the column does not have already."""
        words = [word for word in AGGREGATES[kind] if word not in column] or AGGREGATES[kind]
        return words[0] if self._is_plain else self.pick(*words)

    def compared(self, place: Place, operator: str) -> str:
        """The words for an order, of times or of amounts."""
        facts = self.facts.get(place)
        is_time = facts is not None and (facts.is_year or facts.is_date)
        words = LATER[operator] if is_time else MORE[operator]
        return self.pick(
            *(words if not (facts and facts.is_date) else (word.replace("in or", "on or") for word in words))
        )

    def _than_rows(self, condition: ComparedWithRows) -> str:
        place, column = condition.place, self.names.column(condition.place.table, condition.place.column)
        of = self.rows(Rows(place.table, filters=condition.filters), place.table)
        aggregate = self.aggregate(condition.aggregate, column)
        than = f"the {aggregate} {column} of {'' if condition.filters else 'all '}{of}"
        if condition.aggregate == "AVG" and not condition.filters:
            than = self.pick("the average", f"the average {column}", than)
        return than if condition.operator == "=" else f"{self.compared(place, condition.operator)} {than}"

    def is_unique(self, condition: Filter) -> bool:
        """Whether the condition holds for one row at most."""
        if not isinstance(condition, Compared) or condition.operator != "=" or len(condition.values) > 1:
            return False
        facts = self.facts.get(condition.place)
        return facts is not None and facts.is_unique


def _flag(condition: Compared, name: str) -> str:
    """What a column such as "is open" says of rows, if the value is yes or no."""
    first, _, rest = name.partition(" ")
    truth = str(condition.values[0]).lower()
    if condition.operator != "=" or first not in ("is", "has") or not rest or truth not in TRUE | FALSE:
        return ""
    said = {"is": ("are", "are not"), "has": ("have", "do not have")}[first]
    return f"that {said[truth in FALSE]} {rest}"


def _table(condition: Filter) -> str:
    return condition.link.parent.table if isinstance(condition, Linked) else condition.place.table


def _join(said: Sequence[str], word: str) -> str:
    """Conditions one after the other: the short ones first, which need no "and" before what follows."""
    if word == "or":
        return " or ".join(said)
    short = [text for text in said if text.startswith(SHORT)]
    long = [text for text in said if not text.startswith(SHORT)]
    return " ".join([" and ".join(short)] * bool(short) + [" and ".join(long)] * bool(long))


def _is(column: str) -> str:
    return "are" if column.endswith("s") and plural(column) == column else "is"


def _s(column: str, verb: str) -> str:
    return verb if _is(column) == "are" else verb + "s"
