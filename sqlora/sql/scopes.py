"""Name resolution in a query, as a database does it: tables, CTEs, and columns with their origins."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from sqlora.sql.parsing import SqlError
from sqlora.sql.schema import Column, Schema, Table

MOST_COLUMNS = 5000  # of a query; no server has more
ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
Origins = tuple[exp.Expr | Column, ...]


@dataclass(frozen=True)
class Output:
    """A column of a table or a query: `name` is None where the database makes one up; each branch of a UNION is an
    origin.
    """

    name: str | None
    origins: Origins


class Scopes:
    """Resolves the names of queries of one dialect over a schema.

    PostgreSQL has names in lower case unless they are quoted, and takes `singer.upper` for upper(singer) where the
    table has no such column. So there a name after a dot must be a column of the table before it.
    """

    def __init__(self, dialect: str, schema: Schema) -> None:
        self.dialect = dialect
        self.is_exact = dialect == "postgres"
        self.schema = schema
        self.tables = {self._place(table): table for table in schema.tables}
        self._done: dict[int, list[Output] | None] = {}  # None while it is being worked on

    def table(self, node: exp.Table) -> Table | exp.CTE:
        """What a table of FROM is. Raises SqlError where it is neither of the schema nor a CTE that can be seen from
        there.
        """
        if not isinstance(node.this, exp.Identifier):
            raise SqlError("not read only", "a table function is not part of a plain SELECT")
        if node.catalog:
            raise SqlError("no such table", f"{node.sql()}: only tables of this database are read; write {node.name}")
        name, schema = self._fold(node.this), self._fold(node.args["db"]) if node.db else ""
        for cte in () if schema else self._ctes(node):
            if self._fold(cte.args["alias"].this) == name:
                return cte
        if (schema, name) in self.tables:
            return self.tables[schema, name]
        written = f"{schema}.{node.name}" if schema else node.name
        if schema and not any(known for known, _ in self.tables):
            raise SqlError("no such table", f"{written}: only tables of the default schema are read; write {node.name}")
        other = self.schema.table(node.name)
        hint = f'; there is "{".".join(other.place or (other.name,))}"' if other else ""
        raise SqlError("no such table", f"no such table: {written}{hint}")

    def origins(self, column: exp.Column) -> Origins:
        """What is behind a column; () where nothing is known of it. Raises SqlError for a name after a dot that is
        none.
        """
        qualifier = column.args.get("table")
        if column.args.get("db"):
            raise SqlError(
                "no such column", f"no such column: {column.sql()}; write the table's name and the column's alone"
            )
        name = self._fold(column.this)
        for query, child in self._around(column):
            if qualifier is not None:
                matches = [
                    self._pick(self.columns(source), name)
                    for alias, source in self.sources(query)
                    if alias == self._fold(qualifier)
                ]
                if any(matches) or (matches and self.is_exact):
                    break
            elif matches := self._bare(query, child, name):
                break
        else:
            matches = []
        if qualifier is not None and self.is_exact and not any(matches):
            raise SqlError("no such column", f"no such column: {column.sql(self.dialect)}")
        return tuple(origin for outputs in matches for output in outputs for origin in output.origins)

    def sources(self, query: exp.Query) -> list[tuple[str | None, exp.Expr]]:
        """The tables and queries of a SELECT's FROM, and what they are called there."""
        origin = query.args.get("from_")
        joined = [join.this for join in query.args.get("joins") or []]
        return [pair for item in ([origin.this] if origin else []) + joined for pair in self._named(item)]

    def columns(self, node: exp.Expr | Table) -> list[Output]:
        """The columns of a query, or of an item of FROM."""
        if isinstance(node, Table):
            return [Output(self._known(column.name), (column,)) for column in node.columns]
        if id(node) not in self._done:
            self._done[id(node)] = None
            self._done[id(node)] = self._columns(node)
        if (done := self._done[id(node)]) is not None:
            return done
        first = node.this  # of a CTE that reads itself; its first part has the names
        while isinstance(first, exp.SetOperation | exp.Subquery):
            first = first.this
        return self._renamed(self.columns(first), node)

    def _columns(self, node: exp.Expr) -> list[Output]:
        if isinstance(node, exp.Select):
            outputs = [output for one in node.expressions for output in self._selected(one, node)]
        elif isinstance(node, exp.SetOperation):
            parts = zip(self.columns(node.this), self.columns(node.expression), strict=False)
            outputs = [Output(one.name, one.origins + other.origins) for one, other in parts]
        elif isinstance(node, exp.Values):
            rows = [row.expressions or [row] for row in node.expressions]
            outputs = [Output(f"column{number}", cells) for number, cells in enumerate(zip(*rows, strict=False), 1)]
        else:
            outputs = self.columns(self.table(node) if isinstance(node, exp.Table) else node.this)
        if len(outputs) > MOST_COLUMNS:
            raise SqlError("too large", f"a query in it gives more than {MOST_COLUMNS:,} columns")
        return self._renamed(outputs, node)

    def _selected(self, one: exp.Expr, query: exp.Select) -> list[Output]:
        if one.is_star and isinstance(one, exp.Star | exp.Column):
            wanted = self._fold(one.args["table"]) if one.args.get("table") else None
            return [
                output
                for name, source in self.sources(query)
                if wanted in (None, name)
                for output in self.columns(source)
            ]
        if isinstance(one, exp.Column):
            return [Output(self._fold(one.this), (one,))]
        alias = one.args.get("alias") if isinstance(one, exp.Alias | exp.Subquery) else None
        alias = alias.this if isinstance(alias, exp.TableAlias) else alias
        return [Output(self._fold(alias) if alias is not None else None, (one.this if alias is not None else one,))]

    def _renamed(self, outputs: list[Output], node: exp.Expr) -> list[Output]:
        """With the names that a list after the alias gives: FROM singer AS s(a, b)."""
        alias = node.args.get("alias")
        names = (
            [self._fold(name) for name in alias.args.get("columns") or []] if isinstance(alias, exp.TableAlias) else []
        )
        return [Output(name, output.origins) for name, output in zip(names, outputs, strict=False)] + outputs[
            len(names) :
        ]

    def _bare(self, query: exp.Query, child: exp.Expr, name: str) -> list[list[Output]]:
        matches = [self._pick(self.columns(source), name) for _, source in self.sources(query)]
        # ORDER BY and its like know the query's own names
        if child.arg_key not in ("expressions", "this", "expression"):
            matches.append([output for output in self.columns(query) if output.name == name])
        return [outputs for outputs in matches if outputs]

    def _pick(self, outputs: list[Output], name: str) -> list[Output]:
        """Those of a name; a column without one has its text for a name in other databases than PostgreSQL."""
        named = [output for output in outputs if output.name == name]
        return named if named or self.is_exact else [output for output in outputs if output.name is None]

    def _named(self, item: exp.Expr) -> Iterator[tuple[str | None, exp.Expr]]:
        alias = item.args.get("alias")
        if _is_join(item):
            if alias is not None:
                raise SqlError("not read only", "a name for a join in brackets is no part of a plain SELECT")
            yield from self._named(item.this)
        else:
            name = (
                alias.this if alias is not None and alias.this else item.this if isinstance(item, exp.Table) else None
            )
            yield self._fold(name) if name is not None else None, item
        for join in item.args.get("joins") or []:
            yield from self._named(join.this)

    def _around(self, node: exp.Expr) -> Iterator[tuple[exp.Query, exp.Expr]]:
        """The queries whose tables are visible from a node, inner ones first, each with its part that holds the node.

        A query in FROM does not see that FROM, and a CTE does not see the query that it belongs to.
        """
        below: exp.Expr | None = None
        child, hidden = node, False
        while (parent := child.parent) is not None:
            is_query = isinstance(child, exp.Values) or (isinstance(child, exp.Subquery) and child.this is below)
            if is_query and not _is_join(child) and (isinstance(parent, exp.From | exp.Join) or _is_join(parent)):
                hidden = hidden or child is parent.this
            if isinstance(parent, exp.Select | exp.SetOperation):
                if not hidden and child.arg_key != "with_":
                    yield parent, child
                hidden = False
            below, child = child, parent

    def _ctes(self, node: exp.Expr) -> Iterator[exp.CTE]:
        """The CTEs that are visible from a node, the nearest first; without RECURSIVE a CTE sees only earlier ones."""
        inside: exp.CTE | None = None
        child = node
        while (parent := child.parent) is not None:
            inside = child if isinstance(child, exp.CTE) else inside
            if (stated := parent.args.get("with_")) is not None:
                known = stated.expressions
                sees_earlier = child is stated and not stated.args.get("recursive") and self.dialect != "sqlite"
                if inside is not None and sees_earlier:
                    known = known[: inside.index]
                yield from known
            child = parent

    def _fold(self, name: exp.Expr) -> str:
        if not self.is_exact:
            return name.name.lower()
        return name.name if name.args.get("quoted") else name.name.translate(ASCII_LOWER)

    def _place(self, table: Table) -> tuple[str, str]:
        """Its schema, or "" for the default one, and its name. SQLite has every table under its name in the schema."""
        schema, name = table.place if table.place and self.dialect != "sqlite" else ("", table.name)
        return self._known(schema), self._known(name)

    def _known(self, name: str) -> str:
        return name if self.is_exact else name.lower()


def _is_join(item: exp.Expr) -> bool:
    """Whether it is a join in parentheses, which has no columns itself."""
    return isinstance(item, exp.Subquery | exp.Paren) and (
        not isinstance(item.this, exp.Query)
        or bool(item.this.args.get("joins") and not isinstance(item.this, exp.Select))
    )
