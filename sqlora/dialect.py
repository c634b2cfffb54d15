"""A model's query in the dialect of a live database, its names spelled and quoted as that database has them.

A model writes SQL as SQLite reads it, where AlbumId and albumid are one name; PostgreSQL finds "AlbumId" in quotes alone.
"""

from __future__ import annotations

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from sqlora.sql import Schema, SqlError, tell

Names = dict[str, exp.Identifier]  # names as they are to be written, by their lower-case forms


def translate(query: exp.Query, schema: Schema, dialect: str, quoted: frozenset[str]) -> str:
    """The text of a query, as `sql.parse_query` read it, in sqlglot's `dialect`; `quoted` are the names that need quotes.

    Raises SqlError for what the dialect cannot say.
    """
    query = query.copy()
    try:
        # A bare VALUES has no names.
        outputs: dict[int, Names] = {}
        for scope in traverse_scope(query):  # the inner ones come first
            _spell(scope, schema, quoted, outputs)
        return query.sql(dialect=dialect, comments=False, unsupported_level=ErrorLevel.RAISE)
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None
    except SqlglotError as error:
        raise SqlError("syntax", tell(error)) from None


def to_training_form(sql: str, dialect: str) -> str:
    """A query of the database's dialect as rows for fine-tuning have it: as SQLite reads it. Raises SqlError."""
    import sqlglot

    try:
        query = sqlglot.parse_one(sql, read=dialect)
        for name in query.find_all(exp.Identifier):
            name.set("quoted", False)
        return query.sql(dialect="sqlite", comments=False)
    except SqlglotError as error:
        raise SqlError("syntax", tell(error)) from None


def _spell(scope: Scope, schema: Schema, quoted: frozenset[str], outputs: dict[int, Names]) -> None:
    """Sets the names of a scope's tables and columns; `outputs` keeps what each query's columns are called from outside."""

    def identifier(name: str) -> exp.Identifier:
        return exp.to_identifier(name, quoted=name in quoted)

    def names_of(source: exp.Expression | Scope) -> Names:
        if isinstance(source, Scope):
            return outputs.get(id(source.expression), {})
        table = schema.table(source.name)
        return {column.name.lower(): identifier(column.name) for column in table.columns} if table else {}

    for source in scope.sources.values():
        if isinstance(source, exp.Table) and (table := schema.table(source.name)):
            source.set("this", identifier(table.name))
    for column in scope.find_all(exp.Column):
        _spell_column(column, scope, names_of, schema, identifier)
    for join in scope.find_all(exp.Join):
        known = {name: written for source in scope.sources.values() for name, written in names_of(source).items()}
        using = join.args.get("using") or []
        join.set("using", [known.get(name.name.lower(), name).copy() for name in using] or None)
    outputs[id(scope.expression)] = _outputs(scope, names_of)


def _spell_column(column: exp.Column, scope: Scope, names_of, schema: Schema, identifier) -> None:
    name, qualifier = column.name.lower(), column.table.lower()
    if not qualifier and name in _aliases(scope.expression) and column.find_ancestor(exp.Order, exp.Group, exp.Having, exp.Query) \
            is not scope.expression and not column.find_ancestor(exp.Where, exp.Join):
        return  # what the query itself calls so
    within: Scope | None = scope
    while within is not None:
        for alias, source in within.sources.items():
            if qualifier and alias.lower() != qualifier:
                continue
            if qualifier and isinstance(source, exp.Table) and not source.alias and (table := schema.table(source.name)):
                column.set("table", identifier(table.name))
            if name in (known := names_of(source)):
                column.set("this", known[name].copy())
                return
        within = within.parent


def _aliases(query: exp.Expression) -> set[str]:
    return {one.alias.lower() for one in query.selects if isinstance(one, exp.Alias)} if isinstance(query, exp.Select) else set()


def _outputs(scope: Scope, names_of) -> Names:
    query = scope.expression
    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.this
    names: Names = {}
    if isinstance(query, exp.Select):
        for one in query.selects:
            if isinstance(one, exp.Alias):
                names[one.alias.lower()] = one.args["alias"]
            elif one.is_star:
                inner = scope if scope.expression is query else None
                for source in inner.sources.values() if inner else ():
                    names |= names_of(source)
            elif isinstance(one, exp.Column):
                names[one.name.lower()] = one.this
    return names
