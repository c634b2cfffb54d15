"""The values of a database that a question names: its words are looked up among the texts of the columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlora.prompt.schema_linking import load_bm25s, words
from sqlora.sql.schema import Schema, quote_name, shown_value

MOST_WORDS = 8  # of a value
MOST_MATCHES = 10  # columns with a value that are shown for a question
MOST_COLUMNS = 3  # that are shown for one value


class ValueIndex:
    """Texts of columns, by the stems of their words; `texts` has those of each table and column."""

    def __init__(self, texts: Mapping[tuple[str, str], Sequence[str]]) -> None:
        self._common = {word for stopword in load_bm25s().stopwords.STOPWORDS_EN for word in words(stopword)}
        self._index: dict[tuple[str, ...], list[tuple[str, str, str]]] = defaultdict(list)
        for (table, column), values in texts.items():
            for value in values:
                if key := tuple(words(value.lower())):  # JetBlue is jetblue in a question
                    self._index[key].append((table, column, value))

    def matches(self, question: str) -> dict[tuple[str, str], list[str]]:
        """The values whose words the question has one after the other, by table and column; longer ones first.

        Of values within others only the longer ones, and none that is a number or a word such as "the".
        """
        asked = words(question.lower())
        taken: set[int] = set()
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for size in range(min(MOST_WORDS, len(asked)), 0, -1):
            for start in range(len(asked) - size + 1):
                key, places = tuple(asked[start : start + size]), range(start, start + size)
                if taken.intersection(places) or all(word in self._common or word.isdigit() for word in key):
                    continue
                known = self._index.get(key, [])
                taken.update(places if known else ())
                for table, column, value in known[:MOST_COLUMNS]:
                    if value not in found[table, column] and sum(map(len, found.values())) < MOST_MATCHES:
                        found[table, column].append(value)
        return {place: values for place, values in found.items() if values}

    def lines(self, question: str) -> str:
        """The matches as a prompt shows them, a line for each column."""
        return "\n".join(
            f"{_place(table, column)}: {', '.join(map(shown_value, values))}"
            for (table, column), values in self.matches(question).items()
        )


def lines_of(lines: str, schema: Schema) -> str:
    """The lines of `ValueIndex.lines` that are about the columns of a schema."""
    places = tuple(f"{_place(table.name, column.name)}: " for table in schema.tables for column in table.columns)
    return "\n".join(line for line in lines.splitlines() if line.startswith(places))


def _place(table: str, column: str) -> str:
    return f"{quote_name(table)}.{quote_name(column)}"
