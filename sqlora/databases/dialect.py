"""A model's query in the dialect of a live database, with the names spelled and quoted as in that database.

A model writes SQL for SQLite, where AlbumId and albumid are one name; PostgreSQL finds "AlbumId" only in quotes.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from sqlora.databases.meaning import adapt
from sqlora.sql.parsing import SqlError, error_in_one_line
from sqlora.sql.schema import Schema, Table

Names = dict[str, exp.Identifier]  # names as they are written, by their lower-case forms


def translate(query: exp.Expr, schema: Schema, dialect: str, quoted: frozenset[str]) -> str:
    """The text of a query from `parse_query` in sqlglot's `dialect`; `quoted` are the names that need quotes.

    Raises SqlError for what the dialect cannot express.
    """
    query = query.copy()
    try:
        adapt(query, schema, dialect)
        speller = _Speller(schema, quoted)
        for scope in traverse_scope(query):  # the inner ones come first
            speller.spell(scope)
        speller.spell_tables()
        return query.sql(dialect=dialect, comments=False, unsupported_level=ErrorLevel.RAISE)
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None
    except SqlglotError as error:
        raise SqlError("syntax", error_in_one_line(error)) from None


def names_table(sql: str, name: str) -> bool:
    """Whether a query in SQLite's dialect reads the table."""
    return any(
        table.name.lower() == name.lower() for table in sqlglot.parse_one(sql, read="sqlite").find_all(exp.Table)
    )


class _Speller:
    """Sets the names of one scope after the other; `outputs` has the columns of finished scopes, as seen from outside,
    `found` their tables.
    """

    def __init__(self, schema: Schema, quoted: frozenset[str]) -> None:
        self.schema = schema
        self.quoted = quoted
        self.outputs: dict[int, Names] = {}
        self.found: list[tuple[exp.Table, Table]] = []

    def spell(self, scope: Scope) -> None:
        query = scope.expression
        for source in scope.sources.values():
            if isinstance(source, exp.Table) and (table := self.schema.table(source.name)):
                self.found.append((source, table))
        for column in scope.find_all(exp.Column):
            self._spell_column(column, scope)
        for join in scope.find_all(exp.Join):
            known = {
                name: written for source in scope.sources.values() for name, written in self._names(source).items()
            }
            join.set(
                "using", [known.get(name.name.lower(), name).copy() for name in join.args.get("using") or []] or None
            )
        self.outputs[id(query)] = self._outputs(scope)

    def spell_tables(self) -> None:
        """Sets the names of the tables of all scopes, by which their columns were found."""
        for source, table in self.found:
            schema, name = table.place or ("", table.name)
            if name != table.name and not source.alias:
                source.set("alias", exp.TableAlias(this=self._identifier(table.name)))
            source.set("this", self._identifier(name))
            source.set("db", self._identifier(schema) if schema else None)

    def _spell_column(self, column: exp.Column, scope: Scope) -> None:
        name, qualifier = column.name.lower(), column.table.lower()
        clause = column.find_ancestor(exp.Order, exp.Window, exp.Query)
        if isinstance(clause, exp.Order) and clause.parent is scope.expression and not qualifier:
            if isinstance(scope.expression, exp.SetOperation):
                column.set("this", self._outputs(scope).get(name, column.this).copy())
                return
            selects = scope.expression.selects if isinstance(scope.expression, exp.Query) else []
            if any(isinstance(output, exp.Alias) and output.alias.lower() == name for output in selects):
                return  # an output of the query itself
        within: Scope | None = scope
        while within is not None:
            for alias, source in within.sources.items():
                if qualifier and alias.lower() != qualifier:
                    continue
                if name in (known := self._names(source)):
                    column.set("this", known[name].copy())
                if qualifier:
                    column.set("table", self._source_name(within, alias))
                if qualifier or name in known:
                    return
            within = within.parent

    def _source_name(self, scope: Scope, alias: str) -> exp.Identifier:
        """The name of a table or query in the scope: its alias as written, or the table's own name."""
        nodes = {name.lower(): node for name, node in scope.references}
        given = nodes[alias.lower()].args.get("alias") if alias.lower() in nodes else None
        if given is not None and given.this:
            return given.this.copy()
        source = scope.sources[alias]
        table = self.schema.table(source.name) if isinstance(source, exp.Table) else None
        return self._identifier(table.name) if table else exp.to_identifier(alias)

    def _names(self, source: exp.Expr | Scope) -> Names:
        """The columns of a table, or of a query in FROM."""
        if isinstance(source, Scope):
            around = source.expression.parent
            given = around.args.get("alias") if isinstance(around, exp.CTE | exp.Subquery) else None
            if given is not None and given.args.get("columns"):
                return {name.name.lower(): name for name in given.args["columns"]}
            return self.outputs.get(id(source.expression), {})
        table = self.schema.table(source.name)
        return {column.name.lower(): self._identifier(column.name) for column in table.columns} if table else {}

    def _outputs(self, scope: Scope) -> Names:
        query = scope.expression
        if not isinstance(query, exp.Select):
            while isinstance(query, exp.SetOperation | exp.Subquery):  # the first part names the columns
                query = query.this
            return self.outputs.get(id(query), {})
        names: Names = {}
        for one in query.selects:
            if isinstance(one, exp.Alias):
                names[one.alias.lower()] = one.args["alias"]
            elif one.is_star:
                for source in scope.sources.values():
                    names |= self._names(source)
            elif isinstance(one, exp.Column):
                names[one.name.lower()] = one.this
        return names

    def _identifier(self, name: str) -> exp.Identifier:
        return exp.to_identifier(name, quoted=name in self.quoted)
