"""SQL text: the normal form in which queries are compared, schemas parsed from CREATE TABLE text, and queries."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar
from typing import Literal as OneOf

import sqlglot
from sqlglot import exp, generator
from sqlglot.dialects.sqlite import SQLite
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from sqlora.sql.constraints import add_constraints
from sqlora.sql.double_quotes import VALUE_COMPARISONS, resolve_double_quotes
from sqlora.sql.schema import Column, Schema, Table
from sqlora.sql.table_names import sources_of, without_aliases

# sqlglot warns of statements that it does not parse; here they are ignored or refused.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

ErrorKind = OneOf[
    "schema",
    "syntax",
    "no such table",
    "no such column",
    "ambiguous column",
    "not read only",
    "several statements",
    "timeout",
    "too large",
    "other",
]
MAX_CHARACTERS = 10_000  # of a query; longer ones are a model that repeats itself
MAX_SCHEMA_CHARACTERS = 200_000  # of a context: thousands of tables, which take seconds to parse
DIALECTS = ("sqlite", "mysql", "postgres", "tsql", "oracle", "snowflake", "bigquery", "")
TYPES = {  # a column's type, as the families of sqlglot's types spell it
    "integer": {*exp.DataType.INTEGER_TYPES, *(exp.DataType.Type[f"{size}SERIAL"] for size in ("", "SMALL", "BIG"))},
    "real": exp.DataType.REAL_TYPES,
    "date": {exp.DataType.Type.DATE, exp.DataType.Type.DATE32},
    "time": {exp.DataType.Type.TIME, exp.DataType.Type.TIMETZ},
    "timestamp": exp.DataType.TEMPORAL_TYPES,
    "boolean": {exp.DataType.Type.BOOLEAN},
}
OTHER_TYPES = {
    "MONEY": "real",
    "SMALLMONEY": "real",
    "CURRENCY": "real",
    "YEAR": "integer",
}  # that SQLite does not know
WRITES = (
    exp.DML,
    exp.DDL,
    exp.Command,
    exp.Into,
    exp.Pragma,
    exp.Attach,
    exp.Detach,
    exp.Drop,
    exp.Alter,
    exp.Transaction,
    exp.Set,
    exp.Lock,
)


class SqlError(ValueError):
    """SQL that cannot be parsed or run; `kind` is the kind of fault, the message describes it in one line."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.kind = kind

    def __reduce__(self):
        return type(self), (self.kind, str(self))  # for pickle, to return from a worker process


@dataclass(frozen=True)
class Literal:
    """A constant of a query, and the lower-case name of the column that it is compared with, if any.

    pattern: of LIKE or GLOB. is_wrapped: whether a function of the column is compared, or it is the function's own.
    """

    value: str | int | float
    column: str | None
    pattern: bool = False
    is_wrapped: bool = False


class _Backticks(SQLite):
    # SQLite takes an unknown "x" for a string, but an unknown `x` for what it is: a missing column.
    class Tokenizer(SQLite.Tokenizer):
        IDENTIFIERS: ClassVar = ["`", '"', ("[", "]")]

    class Generator(SQLite.Generator):  # type: ignore[misc, valid-type] # sqlglot assigns it at run time
        def cast_sql(self, expression: exp.Cast, safe_prefix: str | None = None) -> str:
            """As written: sqlglot turns CAST(x AS DATE), a number to SQLite, into DATE(x)."""
            return generator.Generator.cast_sql(self, expression, safe_prefix)


def normalise_sql(sql: str) -> str:
    """One spelling for queries that differ only in layout: case outside quotes, white space, comments, `!=`, last ";".

    Quoted text stays as it is, and "x" differs from 'x'. Never raises: in text that is not SQL only white space is
    collapsed.

    >>> normalise_sql("SELECT  Name FROM t WHERE a != 'X';")
    "select name from t where a <> 'X'"
    """
    try:
        # SQLite's quotes are every dialect's: '', "", `` and [].
        tokens = read_sql(sqlglot.tokenize, sql, "sqlite")
    except (SqlglotError, SqlError):
        return " ".join(sql.split()).rstrip("; ")
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    return " ".join(_spell(token, sql) for token in tokens)


def exact_match(prediction: str | None, answer: str | None) -> bool:
    """Whether both exist and have the same normal form, aliases of tables aside."""
    if prediction is None or answer is None:
        return False
    if normalise_sql(prediction) == normalise_sql(answer):
        return True
    if "." not in answer or len(prediction) + len(answer) > MAX_CHARACTERS:
        return False
    return normalise_sql(without_aliases(prediction)) == normalise_sql(without_aliases(answer))


@functools.lru_cache(maxsize=4096)
def parse_schema(context: str) -> Schema:
    """The tables of CREATE TABLE text in any common dialect, with their comments, and the constraints that are
    declared there, by ALTER TABLE or by CREATE UNIQUE INDEX; other statements are ignored.

    Several CREATE TABLEs of one table, in any letter case, are merged: every column once, numeric types before text.
    Raises SqlError("schema") if no dialect can parse the text or it creates no table with a column, "too large" above
    MAX_SCHEMA_CHARACTERS.
    """
    if len(context) > MAX_SCHEMA_CHARACTERS:
        raise SqlError("too large", f"the context has {len(context):,} characters, more than {MAX_SCHEMA_CHARACTERS:,}")
    statements = _parse_any_dialect(context)
    created = [statement for statement in statements if statement is not None and _definitions(statement)]
    _qualify(statements, [statement.this.this for statement in created])
    tables: dict[str, Table] = {}
    merged: dict[str, str] = {}
    for statement in created:
        name, qualifier = statement.this.this.name, statement.this.this.meta.get("qualifier", "")
        if name.lower().startswith("sqlite_"):  # SQLite's own, such as sqlite_sequence, which a dump has too
            continue
        table = Table(name, (), comment=_table_comment(statement), qualifier=qualifier)
        if name.lower() in tables:
            table = tables[name.lower()]
            merged[name.lower()] = table.name
        columns = {column.name.lower(): column for column in table.columns}
        for definition in _definitions(statement):
            column = Column(definition.name, _column_type(definition), comment=_comment(definition))
            known = columns.setdefault(column.name.lower(), column)
            if known.type == "text" != column.type:
                columns[column.name.lower()] = replace(known, type=column.type)
        tables[name.lower()] = replace(table, columns=tuple(columns.values()))
    if not tables:
        raise SqlError("schema", f"only SQLite's own tables are created in {_shorten(context)!r}")
    return Schema(add_constraints(tables.values(), statements), tuple(merged.values()))


def _qualify(statements: list[exp.Expr | None], created: list[exp.Table]) -> None:
    """Names tables with their schema, sales.orders, where tables of several schemas are called the same."""
    schemas: dict[str, set[str]] = defaultdict(set)
    for table in created:
        schemas[table.name.lower()].add(table.db.lower())
    named = [table for statement in statements if statement is not None for table in statement.find_all(exp.Table)]
    for table in named:
        if table.db and len(schemas[table.name.lower()]) > 1:
            table.meta["qualifier"] = table.db
            table.set("this", exp.to_identifier(f"{table.db}.{table.name}", quoted=True))


def parse_query(sql: str, schema: Schema) -> exp.Query:
    """One read-only statement over the schema's tables, in SQLite's dialect.

    "x" becomes the string 'x' where no column in scope is called x and a value fits: compared with a column, or in a
    function or CASE. Elsewhere it stays a name, and fails as an unknown column when it runs. Column names are otherwise
    left to SQLite. Raises SqlError.
    """
    if len(sql) > MAX_CHARACTERS:
        raise SqlError("too large", f"the query has {len(sql):,} characters, more than {MAX_CHARACTERS:,}")
    try:
        # An empty statement, or a comment after the last ";", does not count.
        parsed = read_sql(sqlglot.parse, sql, "sqlite")
        statements = [statement for statement in parsed if statement and not isinstance(statement, exp.Semicolon)]
        if len(statements) > 1:
            raise SqlError("several statements", f"there are {len(statements)} statements; one is run")
        if not statements:
            raise SqlError("syntax", "there is no query")
        query = statements[0]
        if not isinstance(query, exp.Query) or any(isinstance(node, WRITES) for node in query.walk()):
            raise SqlError(
                "syntax" if isinstance(query, exp.Condition | exp.Alias) else "not read only",
                f"not a SELECT: {_shorten(sql)!r}",
            )
        ctes = {cte.alias.lower(): cte for cte in query.find_all(exp.CTE)}
        if any(named.args.get("db") for named in query.find_all(exp.Table, exp.Column)):
            _unqualify(query, schema)
            query.meta["unqualified"] = True  # the text that was parsed has names that its tables have not
        for table in query.find_all(exp.Table):
            if table.name.lower() not in ctes and schema.table(table.name) is None:
                raise SqlError("no such table", f"no such table: {table.name or table.sql('sqlite')}")
        if '"' in sql:
            resolve_double_quotes(query, sql, schema, ctes)
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None
    except SqlglotError as error:
        raise SqlError("syntax", error_in_one_line(error)) from None
    return query


def _unqualify(query: exp.Query, schema: Schema) -> None:
    """Gives the tables and columns that are written with a schema, as sales.orders, the names of `schema`: without it,
    or with it as one name, where there are tables of the same name.
    """
    tables = [table for table in query.find_all(exp.Table) if table.db]
    shared = Counter(table.name.lower() for table in tables)
    for table in tables:
        known = schema.table(f"{table.db}.{table.name}")
        if known is not None:
            if not table.alias and shared[table.name.lower()] == 1:
                table.set("alias", exp.TableAlias(this=table.this.copy()))
            table.set("this", exp.to_identifier(known.name, quoted=True))
        table.set("db", None)
    aliased = {table.alias.lower() for table in tables}
    for column in query.find_all(exp.Column):
        if column.db:
            known = schema.table(f"{column.db}.{column.table}")
            if known is not None and column.table.lower() not in aliased:
                column.set("table", exp.to_identifier(known.name, quoted=True))
            column.set("db", None)


def to_sqlite(expression: exp.Expr, copy: bool = True) -> str:
    """A parsed query as text for SQLite, in which no name can be taken for a string. Raises SqlError.

    Without `copy` it is faster, and the query is of no use afterwards.
    """
    try:
        return expression.sql(dialect=_Backticks, comments=False, copy=copy)
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None
    except SqlglotError as error:
        raise SqlError("syntax", error_in_one_line(error)) from None


def own_tables(select: exp.Expr | None) -> list[exp.Table]:
    """The tables in FROM and JOIN of a SELECT itself, without those of its subqueries."""
    sources = sources_of(select) if select is not None else []
    return [source for source in sources if isinstance(source, exp.Table)]


def literals(expression: exp.Expr) -> list[Literal]:
    """Every constant of the query, outer ones first; a minus sign belongs to its number."""
    return [_literal(node) for node in expression.find_all(exp.Literal)]


def _literal(node: exp.Literal) -> Literal:
    value: str | int | float = node.name if node.is_string else numeric_value(node.name)
    if isinstance(node.parent, exp.Neg) and not isinstance(value, str):
        value = -value
    child: exp.Expr = node
    parent = node.parent
    while parent is not None and not isinstance(parent, VALUE_COMPARISONS) and not isinstance(parent, exp.Query):
        child, parent = parent, parent.parent
    if parent is None or not isinstance(parent, VALUE_COMPARISONS):
        return Literal(value, None)
    others = [side for side in parent.iter_expressions() if side is not child]
    columns = (
        column
        for side in [*others, child]
        for column in side.find_all(exp.Column)
        if column.find_ancestor(exp.Count, exp.Query) is parent.find_ancestor(exp.Count, exp.Query)
    )
    column = next(columns, None)
    return Literal(
        value,
        column.name.lower() if column is not None else None,
        isinstance(parent, exp.Like | exp.Glob),
        column is not None and column.find_ancestor(exp.Func, exp.Query, type(parent)) is not parent,
    )


def read_sql(function: Callable, text: str, dialect: str) -> list:
    """Calls sqlglot's tokenize or parse. Its errors, of any type, are raised as SqlglotError or SqlError."""
    try:
        return function(text, read=dialect)
    except SqlglotError:
        raise
    except (RecursionError, MemoryError):
        raise SqlError("too large", "the text is nested too deeply, or too long") from None
    except Exception as error:
        raise SqlError("syntax", f"sqlglot cannot read it ({type(error).__name__}: {error})") from error


def numeric_value(text: str) -> int | float | str:
    """The value of a numeric literal in SQLite: `01` is 1, and an integer of more than 64 bits is a float.

    Text that is not a number in SQLite (another dialect's spelling) stays text.
    """
    with contextlib.suppress(ValueError):
        value = int(text, 16 if text[:2].lower() == "0x" else 10)
        if fits(value):
            return value
    try:
        return float(text)
    except ValueError:
        return text


def fits(value: int) -> bool:
    """Whether SQLite stores the value as an integer."""
    return -(2**63) <= value < 2**63


def _parse_any_dialect(context: str) -> list[exp.Expr | None]:
    for dialect in DIALECTS:
        try:
            statements = read_sql(sqlglot.parse, context, dialect)
        except (SqlglotError, SqlError):
            continue
        if any(map(_definitions, statements)):
            return statements
    raise SqlError("schema", f"no dialect reads a CREATE TABLE in {_shorten(context)!r}")


def _definitions(statement: exp.Expr | None) -> list[exp.ColumnDef | exp.Identifier]:
    if not isinstance(statement, exp.Create) or statement.kind != "TABLE" or not isinstance(statement.this, exp.Schema):
        return []
    return [part for part in statement.this.expressions if isinstance(part, exp.ColumnDef | exp.Identifier)]


def _column_type(definition: exp.ColumnDef | exp.Identifier) -> str:
    written = definition.args.get("kind")
    kind = written.this if isinstance(written, exp.DataType) else None
    if kind == exp.DataType.Type.USERDEFINED and isinstance(written, exp.DataType):
        return OTHER_TYPES.get(str(written.args.get("kind")).upper(), "text")
    return next((name for name, family in TYPES.items() if kind in family), "text")


def _comment(node: exp.Expr) -> str:
    """What comments say of it: those of SQL, or MySQL's COMMENT."""
    declared = (part.name for part in node.find_all(exp.CommentColumnConstraint, exp.SchemaCommentProperty))
    written = (comment for part in node.walk() for comment in part.comments or [])
    return "; ".join(dict.fromkeys(text for one in (*declared, *written) if (text := " ".join(one.split()))))


def _table_comment(statement: exp.Expr) -> str:
    name, properties = statement.this.this, statement.args.get("properties")
    return "; ".join(filter(None, [_comment(name), _comment(properties) if properties is not None else ""]))


def error_in_one_line(error: Exception) -> str:
    """The first line of sqlglot's error, without its underlining."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return text.splitlines()[0]


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:79] + "…"


def _spell(token, sql: str) -> str:
    # As written: token.text has no quotes, by which N'x', 'x' and x differ.
    written = sql[token.start : token.end + 1]
    if token.token_type == TokenType.IDENTIFIER or "'" in written:
        return written
    return "<>" if token.token_type == TokenType.NEQ else " ".join(written.lower().split())
