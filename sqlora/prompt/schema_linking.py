"""Schema linking: the tables of a large schema that a model sees for a question, by the words that they share."""

from __future__ import annotations

import functools
import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from types import ModuleType

import snowballstemmer

from sqlora.sql.schema import Schema, Table
from sqlora.system.errors import UserError, nearest

NAME_WEIGHT = 3  # a table's own name counts as much as so many of its columns
# CustomerID2 has the words customer, id and 2; HTTPStatus has http and status.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")

_stem = snowballstemmer.stemmer("english").stemWord


@functools.cache
def load_bm25s() -> ModuleType:
    """The package bm25s, which tries jax as it is imported: on a GPU that would take most of the device's memory."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import bm25s
    import bm25s.stopwords

    return bm25s


def words(text: str) -> list[str]:
    """The stems of the words of a question or a name, in lower case."""
    return [_stem(word.lower()) for word in WORD.findall(text)]


def pick_tables(schema: Schema, names: list[str]) -> Schema:
    """The tables that TABLES names, in any letter case. Raises UserError with the nearest name for one that is not
    there.
    """
    for name in names:
        if schema.table(name) is None:
            hint = nearest(name, [table.name for table in schema.tables])
            raise UserError(f"TABLES (--tables) names {name!r}, which the database does not have; {hint}")
    wanted = {name.lower() for name in names}
    return Schema(tuple(table for table in schema.tables if table.name.lower() in wanted))


class Linker:
    """Ranks the tables of a schema for questions: BM25 (Robertson et al. 1994) over the stems of their names and
    columns.

    `count` gives the tokens of each of some texts. Tables are shown in the `style`.
    """

    def __init__(
        self,
        schema: Schema,
        count: Callable[[list[str]], list[int]],
        style: str = "plain",
    ) -> None:
        self.schema = schema
        self.tables = {table.name: table for table in schema.tables}
        # With the separator: within a text a table has at most one or two tokens less.
        self.sizes = dict(zip(self.tables, count([f"; {text}" for text in schema.statements(style)]), strict=True))
        self.neighbours: dict[str, list[str]] = {name: [] for name in self.tables}
        for table, referred in schema.links:
            if table != referred:
                self.neighbours[table].append(referred)
                self.neighbours[referred].append(table)
        self.index = load_bm25s().BM25()
        self.index.index([_document(table) for table in schema.tables], show_progress=False)

    def choose(self, question: str, tokens: float, needed: Sequence[str] = ()) -> Schema:
        """The tables that are `needed` and the most relevant others that have at most `tokens` tokens together, in the
        schema's order.

        A table comes with those that join it to tables chosen before. Raises UserError if the needed ones, or without
        any no table, fits.
        """
        if sum(self.sizes.values()) <= tokens:
            return self.schema
        wanted = {name.lower() for name in needed}
        chosen = [name for name in self.tables if name.lower() in wanted]
        fits = sum(self.sizes[table] for table in chosen) <= tokens
        for name in self.rank(question) if fits else ():
            for added in (self._path(name, chosen), [name]):
                new = [table for table in added if table not in chosen]
                if sum(self.sizes[table] for table in chosen + new) <= tokens:
                    chosen += new
                    break
        if not chosen or not fits:
            raise UserError(
                f"no table fits into the {max(tokens, 0)} tokens that the question leaves in the model's window; "
                f"lower MAX_NEW_TOKENS (--max-new-tokens), or take a BASE_MODEL with a longer window"
            )
        return Schema(tuple(table for table in self.schema.tables if table.name in chosen))

    def rank(self, question: str) -> list[str]:
        """The tables that share words with the question, best first, and the tables linked to them; all if none does.

        Others would only distract: the model has learned from schemas of a few tables.
        """
        known = self.index.vocab_dict
        asked = [word for word in words(question) if word in known]
        scores = self.index.get_scores(asked).tolist() if asked else [0.0] * len(self.tables)
        ranked = sorted(
            (pair for pair in zip(scores, self.tables, strict=True) if pair[0] > 0), key=lambda pair: -pair[0]
        )
        order = [name for _, name in ranked]
        linked = [name for known in order for name in self.neighbours[known]]
        return list(dict.fromkeys([*order, *linked])) or list(self.tables)

    def _path(self, name: str, chosen: list[str]) -> list[str]:
        """The tables of the shortest path from `name` to one of the chosen, both ends included; else only `name`."""
        paths: dict[str, list[str]] = {name: [name]}
        queue = deque([name])
        while queue and chosen:
            table = queue.popleft()
            if table in chosen:
                return paths[table][::-1]
            for neighbour in self.neighbours[table]:
                if neighbour not in paths:
                    paths[neighbour] = [*paths[table], neighbour]
                    queue.append(neighbour)
        return [name]


def _document(table: Table) -> list[str]:
    return words(table.name) * NAME_WEIGHT + [word for column in table.columns for word in words(column.name)]
