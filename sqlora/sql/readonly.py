"""What a query that goes to a live database may be made of: a plain SELECT over tables that are known.

All that is not named here is refused, whatever it does: functions of the server that reach files or the network or run
SQL, variables, hints, locks, INTO, catalogues. The text is read in the dialect in which the database will read it.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sqlora.sql.hidden import conceal
from sqlora.sql.lengths import Lengths
from sqlora.sql.parsing import MAX_CHARACTERS, ErrorKind, SqlError, error_in_one_line
from sqlora.sql.schema import Schema
from sqlora.sql.scopes import Scopes

PARTS = {
    getattr(exp, name)
    for name in (
        "Select From Join Where Group Having Order Ordered Limit Offset Distinct Union Except Intersect Subquery With "
        "CTE Values "
        "Table TableAlias Alias Column Identifier Star Literal National HexString Null Boolean Paren Tuple Var "
        "Interval "
        "And Or Not Neg Add Sub Mul Div IntDiv Mod DPipe EQ NEQ GT GTE LT LTE Is NullSafeEQ NullSafeNEQ Between In "
        "Like ILike Glob "
        "Escape SimilarTo RegexpLike Exists Any All BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitwiseLeftShift "
        "BitwiseRightShift "
        "Case If Cast DataType DataTypeParam Collate Window WindowSpec Filter WithinGroup "
        # functions
        "Count Sum Avg Min Max GroupConcat ArrayAgg Bracket Stddev StddevPop StddevSamp Variance VariancePop Median "
        "PercentileCont PercentileDisc "
        "RowNumber Rank DenseRank PercentRank CumeDist Ntile Lag Lead FirstValue LastValue NthValue "
        "Abs Ceil Floor Round Sign Sqrt Cbrt Pow Exp Ln Log Trunc Greatest Least Coalesce Nullif "
        "Concat ConcatWs Lower Upper Initcap Length Trim Substring SubstringIndex Replace Left Right Reverse "
        "StrPosition StartsWith "
        "SplitPart Typeof "
        "Date Time Datetime Timestamp CurrentDate CurrentTime CurrentTimestamp Extract Year Quarter Month Week "
        "WeekOfYear Day "
        "DayOfMonth DayOfWeek DayOfYear Dayname Monthname Hour Minute Second LastDay DateAdd DateSub DateDiff "
        "DateTrunc TimestampAdd "
        "TimestampDiff TimestampTrunc DatetimeAdd DatetimeSub DatetimeDiff TimeToStr StrToDate StrToTime TsOrDsToDate "
        "TsOrDsToTimestamp TsOrDsAdd TsOrDsDiff TsOrDsToTime DateStrToDate TimeStrToTime UnixToTime TimeToUnix ToDays "
        "ToChar "
        "WeekStart"
    ).split()
}
MOST_TABLES = 61  # of a query, as in MariaDB; PostgreSQL plans a join of 195 for 20 s after its deadline
FUNCTIONS = {  # for which sqlglot has no class
    "age",
    "date_part",
    "total",
    "julianday",
    "strftime",
    "ifnull",
    "datetime",
    "time",
    "date",
    "char_length",
    "weekday",
    "yearweek",
    "unixepoch",
    "truncate",
    "std",
    "cot",
    "degrees",
    "radians",
    "to_date",
}


def check(sql: str, dialect: str, schema: Schema) -> exp.Query:
    """Parses `sql` in sqlglot's `dialect`. Raises SqlError for anything but one plain SELECT over the schema's
    tables. Of those with hidden columns the returned query sees the others alone.
    """
    if len(sql) > MAX_CHARACTERS:
        raise SqlError("too large", f"the query has {len(sql):,} characters, more than {MAX_CHARACTERS:,}")
    try:
        parsed = sqlglot.parse(sql, read=dialect)
        statements = [statement for statement in parsed if statement and not isinstance(statement, exp.Semicolon)]
        nodes = [node for statement in statements for node in statement.walk()]
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None
    except (SqlglotError, ValueError) as error:
        raise SqlError("syntax", error_in_one_line(error)) from None
    if len(statements) != 1:
        kind: ErrorKind = "several statements" if statements else "syntax"
        raise SqlError(kind, f"there are {len(statements)} statements; only one is run")
    query = statements[0]
    if not isinstance(query, exp.Query):
        raise SqlError("not read only", "the statement is not a SELECT")
    for node in nodes:
        _check_node(node)
    scopes = Scopes(dialect, schema)
    _check_names(nodes, query, scopes)
    return conceal(query, scopes)


def write(query: exp.Query, dialect: str, most_rows: int | None = None) -> str:
    """The query's text in `dialect`, limited to `most_rows` rows where its own limit is higher or missing.

    It is generated from the tree that was checked, so that nothing is hidden from the parser in comments, such as
    MySQL's /*! INTO OUTFILE ... */, or in quotes that the database reads differently.
    """
    if most_rows is not None:
        limit = query.args.get("limit")
        rows = limit.args.get("expression") if limit is not None else None
        if limit is None or (isinstance(rows, exp.Literal) and rows.name.isdecimal() and int(rows.name) > most_rows):
            query = query.copy()
            query.set("limit", exp.Limit(expression=exp.Literal.number(most_rows)))
    try:
        return query.sql(dialect, comments=False)
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None


def _check_names(nodes: list[exp.Expr], query: exp.Query, scopes: Scopes) -> None:
    """Raises SqlError for an unknown table, and where something could grow without bounds."""
    if sum(isinstance(node, exp.Table) for node in nodes) > MOST_TABLES:
        raise SqlError("too large", f"the query reads more than {MOST_TABLES} tables")
    try:
        for node in nodes:
            if isinstance(node, exp.Table):
                scopes.table(node)
            elif isinstance(node, exp.Column) and not node.is_star:
                scopes.origins(node)
        Lengths(scopes, {*PARTS, exp.Anonymous, exp.AnonymousAggFunc}).size(query)
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None


def _check_node(node: exp.Expr) -> None:
    if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc) and node.name.lower() in FUNCTIONS:
        return
    if type(node) not in PARTS:
        if isinstance(node, exp.Func):
            name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
            raise SqlError("not read only", f"the function {name.lower()} is not among those that may be called")
        raise SqlError("not read only", f"{type(node).__name__} is no part of a plain SELECT")
    if isinstance(node, exp.DataType) and node.this == exp.DataType.Type.USERDEFINED:  # whose own function would run
        raise SqlError("not read only", f"the type {node.sql()} is not among those that may be cast to")
    elif isinstance(node, exp.Select | exp.Subquery) and any(node.args.get(part) for part in ("into", "hint", "kind")):
        raise SqlError("not read only", "INTO and hints are no part of a plain SELECT")
