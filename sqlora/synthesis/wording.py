"""What the questions about rows and about groups have in common: lists of words, figures, order."""

from __future__ import annotations

from sqlora.synthesis.phrases import Phrases
from sqlora.synthesis.query_tree import Link, Order, Output, Query, Rows

# As often as in Spider, about.
ASK_ONE = ("What is the",) * 5 + ("Find the",) * 3 + ("Show the",) * 2 + ("Give the", "Return the")
ASK = ("What are the",) * 4 + ("Find the",) * 4 + ("Show the",) * 4 + ("List the",) * 3 + ("Give the", "Return the")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Wording:
    """Words for the parts of a query."""

    def __init__(self, phrases: Phrases, query: Query) -> None:
        self.phrases, self.query, self.pick = phrases, query, phrases.pick

    def ask(self, many: bool) -> str:
        """The first words of a question for columns."""
        return self.pick(*(ASK if many else ASK_ONE))

    def columns(self, many: bool, table: str = "") -> str:
        """The columns that are shown, or those of one table."""
        places = [output.place for output in self.query.outputs if output.place and not output.aggregate]
        return listed([self.phrases.column(place, many) for place in places if table in ("", place.table)])

    def number(self, number: int) -> str:
        """A small number in a word or in digits."""
        return self.pick(str(number), NUMBERS[number]) if number < len(NUMBERS) else str(number)

    def sorted_by(self, order: Order) -> str:
        """By what the rows are sorted, and which way."""
        by, verb = order.by, self.pick("sorted by", "ordered by")
        key = self.measured(by)
        facts = self.phrases.facts.get(by.place) if by.place else None
        if facts and facts.is_name and not by.aggregate:
            reverse = "reverse " if order.descending else ""
            return self.pick(f"in {reverse}alphabetical order of {key}", f"{verb} {key} in {reverse}alphabetical order")
        if facts and facts.is_measure and self.pick(*"abc") == "a":
            return f"{verb} {key} from {'highest to lowest' if order.descending else 'lowest to highest'}"
        way = "descending" if order.descending else "ascending"
        return self.pick(f"in {way} order of {key}", f"{verb} {key} in {way} order")

    def measured(self, output: Output) -> str:
        """A column, or its average."""
        assert output.place
        column = self.phrases.column(output.place)
        return f"{self.phrases.aggregate(output.aggregate, column)} {column}" if output.aggregate else column

    def counted(self) -> tuple[str, str]:
        """What the rows that are counted are called, in the plural, and which: those of the query, or the children of
        its subject.
        """
        query, phrases = self.query, self.phrases
        if query.subject == query.rows.table:
            return phrases.noun(query.subject), phrases.which(query.rows, query.subject)
        link = self.link()
        rest = Rows(query.rows.table, tuple(one for one in query.rows.links if one != link), query.rows.filters)
        return phrases.others(link), phrases.which(rest, query.rows.table)

    def link(self) -> Link:
        """The key from the rows to the subject."""
        return next(link for link in self.query.rows.links if link.parent.table == self.query.subject)


def listed(words: list[str]) -> str:
    """Words as a list: "name, age and id"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
