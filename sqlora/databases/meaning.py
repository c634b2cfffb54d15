"""What SQLite means by a query, said so that PostgreSQL, MySQL and MariaDB give the same rows; or refused by name.

Text is compared with text and numbers with numbers, LIKE ignores case, / divides integers, and a column outside GROUP
BY is that of the row with the MAX or MIN, or of any row (https://sqlite.org/datatype3.html, https://sqlite.org/lang_select.html).
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope

from sqlora.databases import dates
from sqlora.sql.grouping import aggregates, bare_columns
from sqlora.sql.parsing import SqlError, numeric_value
from sqlora.sql.schema import Schema

NUMBERS = ("integer", "real")
DATES = ("date", "timestamp")
COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
OF_NUMBERS = (*ARITHMETIC, exp.Neg, exp.Sum, exp.Avg, exp.Abs, exp.Round)
TEXTS = (exp.Substring, exp.Upper, exp.Lower, exp.DPipe, exp.Concat, exp.TimeToStr, exp.Trim, exp.Replace)
FORMATS = "YmdHMSj"  # of strftime, which the others have too
LEADING_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"  # what SQLite takes a text for
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)\s*")

Types = dict[str, str]  # of the columns of a table or a subquery, by name in lower case


def adapt(query: exp.Expr, schema: Schema, dialect: str) -> None:
    """Changes a query over the schema's tables so that it means in sqlglot's `dialect` what it means in SQLite.

    Raises SqlError for what cannot be said there.
    """
    if dialect not in ("postgres", "mysql"):
        return
    outputs: dict[int, Types] = {}
    for scope in traverse_scope(query):  # the inner ones come first
        _Adapter(scope, schema, outputs, dialect).adapt()


class _Adapter:
    """Changes one scope; `outputs` has the types of the columns of finished ones."""

    def __init__(self, scope: Scope, schema: Schema, outputs: dict[int, Types], dialect: str) -> None:
        self.scope, self.schema, self.outputs = scope, schema, outputs
        self.is_postgres = dialect == "postgres"

    def adapt(self) -> None:
        query = self.scope.expression
        if isinstance(query, exp.Select):
            self._check_joins(query)
            self.outputs[id(query)] = {
                selected.alias_or_name.lower(): kind
                for selected in query.selects
                if (kind := self._type(selected)) is not None
            }
        for call in self._all(exp.Date, exp.TimeToStr, exp.Anonymous):
            if dates.function_name(call):
                call.replace(dates.say(call, self.is_postgres))
        for comparison in self._all(*COMPARISONS):
            self._compare(comparison, "this", "expression")
        for between in self._all(exp.Between):
            self._compare(between, "this", "low")
            self._compare(between, "this", "high")
        for within in self.scope.find_all(exp.In):
            self._compare_with_list(within)
        for node in self._all(*OF_NUMBERS):
            self._compute(node)
        for like in self._all(exp.Like):
            self._like(like)
        for text in self._all(exp.Substring, exp.Length, exp.TimeToStr, exp.Date, exp.Cast):
            self._function(text)
        if isinstance(query, exp.Select):
            self._name_subqueries(query)
            if self.is_postgres:
                self._replace_aliases(query)
            self._choose_rows(query)

    def _all(self, *kinds: type[exp.Expr]) -> list[exp.Expr]:
        return list(self.scope.find_all(*kinds))

    def _type(self, node: exp.Expr | None) -> str | None:
        """The type of an expression, as Column has it; None if it is not known, as that of NULL."""
        if isinstance(node, exp.Paren | exp.Neg | exp.Alias | exp.Min | exp.Max | exp.Abs | exp.Distinct):
            return self._type(node.this if node.this is not None else next(iter(node.expressions), None))
        if isinstance(node, exp.Column):
            return self._column_type(node)
        if isinstance(node, exp.Literal):
            return "text" if node.is_string else "integer" if isinstance(numeric_value(node.name), int) else "real"
        if isinstance(node, exp.Count | exp.Length):
            return "integer"
        if isinstance(node, exp.Avg | exp.Round):
            return "real"
        if isinstance(node, exp.Sum | exp.Coalesce):
            return self._type(node.this)
        if isinstance(node, ARITHMETIC):
            kinds = {self._type(node.left), self._type(node.right)}
            return "integer" if kinds == {"integer"} else None if None in kinds else "real"
        if isinstance(node, exp.CurrentDate):
            return "date"
        if isinstance(node, exp.Cast):
            if node.to.is_type("date", "timestamp", "datetime"):
                return "date" if node.to.is_type("date") else "timestamp"
            kinds_of_numbers = {"integer": exp.DataType.INTEGER_TYPES, "real": exp.DataType.REAL_TYPES}
            return next((name for name, types in kinds_of_numbers.items() if node.to.is_type(*types)), None)
        if isinstance(node, exp.Subquery | exp.Select):
            types = self.outputs.get(id(node.unnest()), {})
            return next(iter(types.values()), None) if len(types) == 1 else None
        return "text" if isinstance(node, TEXTS) else None

    def _column_type(self, column: exp.Column) -> str | None:
        name = column.name.lower()
        within: Scope | None = self.scope
        while within is not None:
            for alias, source in within.sources.items():
                if column.table and alias.lower() != column.table.lower():
                    continue
                if name in (types := self._types_of(source)):
                    return types[name]
            within = within.parent
        return None

    def _types_of(self, source: exp.Expr | Scope) -> Types:
        if isinstance(source, Scope):
            return self.outputs.get(id(source.expression), {})
        table = self.schema.table(source.name)
        return {column.name.lower(): column.type for column in table.columns} if table else {}

    def _compare(self, node: exp.Expr, one: str, other: str) -> None:
        """Makes both sides texts or numbers: a number beside a text column is one, unless it is a column too."""
        sides = {key: node.args.get(key) for key in (one, other)}
        if any(isinstance(side, exp.Tuple) for side in sides.values()):
            return
        kinds = {key: self._type(side) for key, side in sides.items()}
        is_computed = not any(isinstance(side, exp.Literal) for side in sides.values())
        for key, beside in ((one, other), (other, one)):
            if (literal := self._literal(sides[key], kinds[beside])) is not None:
                node.set(key, literal)
            elif is_computed and self.is_postgres and kinds[key] == "text" and kinds[beside] in NUMBERS:
                node.set(key, self._number(node.args[key]))
            elif is_computed and kinds[key] in DATES and kinds[beside] == "text":
                node.set(key, exp.cast(node.args[key], "text"))

    def _compare_with_list(self, within: exp.In) -> None:
        kind, query = self._type(within.this), within.args.get("query")
        for item in within.expressions:
            if (literal := self._literal(item, kind)) is not None:
                item.replace(literal)
        if query is None or not self.is_postgres:
            return
        inner = query.unnest()
        found = self._type(inner)
        if kind in NUMBERS and found == "text" and isinstance(inner, exp.Select):
            inner.set("expressions", [self._number(inner.selects[0].unalias())])
        elif kind == "text" and found in NUMBERS:
            within.set("this", self._number(within.this))

    def _literal(self, side: exp.Expr | None, meant: str | None) -> exp.Expr | None:
        """A literal as it is compared with a value of the type `meant`; None if it stays as it is."""
        if not isinstance(side, exp.Literal):
            return None
        if meant == "text" and not side.is_string:
            return exp.Literal.string(side.name)
        if meant in NUMBERS and side.is_string and NUMBER.fullmatch(side.name):
            return exp.Literal.number(side.name.strip())
        if self.is_postgres and meant == "boolean" and side.name in ("0", "1"):
            return exp.Boolean(this=side.name == "1")
        return None

    def _compute(self, node: exp.Expr) -> None:
        """Arithmetic takes texts for the numbers with which they begin, and integers stay integers."""
        whole = isinstance(node, exp.Div) and self._type(node) == "integer"
        if self.is_postgres:
            for key in ("this", "expression"):
                side = node.args.get(key)
                if not isinstance(side, exp.Expr) or isinstance(side, exp.Distinct):
                    continue
                if self._type(side) == "text" and not isinstance(side, exp.Literal):
                    node.set(key, self._number(side))
                elif isinstance(side, exp.Predicate) or self._type(side) == "boolean":
                    node.set(key, exp.cast(side, "int"))
            if isinstance(node, exp.Round) and node.args.get("decimals") is not None:
                node.set("this", exp.cast(node.this, "decimal"))  # it rounds no double to decimals
            if whole:  # a SUM of integers is no integer there
                for key in ("this", "expression"):
                    if node.args[key].find(exp.Sum):
                        node.set(key, exp.cast(node.args[key], "bigint"))
        elif whole:
            node.replace(exp.IntDiv(this=node.this, expression=node.expression))

    def _like(self, like: exp.Expr) -> None:
        if not self.is_postgres:
            return
        if self._type(like.this) not in ("text", None):
            like.set("this", exp.cast(like.this, "text"))
        like.replace(exp.ILike(this=like.this, expression=like.expression))

    def _function(self, node: exp.Expr) -> None:
        if isinstance(node, exp.TimeToStr):
            written = node.args["format"].name
            if unknown := [part for part in re.findall("%.", written) if part[1] not in FORMATS]:
                raise SqlError("syntax", f"strftime({written!r}): {unknown[0]} cannot be said in this database")
        elif isinstance(node, exp.Cast) and node.to.is_type(*exp.DataType.INTEGER_TYPES):
            self._truncate(node)
        elif isinstance(node, exp.Substring | exp.Length) and self.is_postgres:
            if self._type(node.this) not in ("text", None):
                node.set("this", exp.cast(node.this, "text"))
            if isinstance(start := node.args.get("start"), exp.Neg):  # from the end
                end = exp.Right(this=node.this.copy(), expression=start.this.copy())
                length = node.args.get("length")
                node.replace(exp.Substring(this=end, start=exp.Literal.number(1), length=length) if length else end)

    def _truncate(self, cast: exp.Cast) -> None:
        """CAST to INTEGER cuts off; others round."""
        kind = self._type(cast.this)
        if kind == "integer":
            return
        if self.is_postgres and kind == "text":
            cast.set("this", self._number(cast.this))
        if self.is_postgres and kind in ("text", "real"):
            cast.set("this", exp.Anonymous(this="TRUNC", expressions=[exp.cast(cast.this, "decimal")]))
        elif not self.is_postgres and kind == "real":
            cast.set("this", exp.Anonymous(this="TRUNCATE", expressions=[cast.this, exp.Literal.number(0)]))

    def _check_joins(self, query: exp.Select) -> None:
        if not self.is_postgres and any(join.side == "FULL" for join in query.args.get("joins") or []):
            raise SqlError("syntax", "MySQL and MariaDB have no FULL JOIN")

    def _name_subqueries(self, query: exp.Select) -> None:
        """A query in FROM needs a name there."""
        origin = query.args.get("from_")
        sources = [origin.this] if origin is not None else []
        sources += [join.this for join in query.args.get("joins") or []]
        for number, source in enumerate(sources, start=1):
            if isinstance(source, exp.Subquery) and not source.alias:
                source.set("alias", exp.TableAlias(this=exp.to_identifier(f"subquery_{number}")))

    def _replace_aliases(self, query: exp.Select) -> None:
        """HAVING may name no output there."""
        outputs = {selected.alias.lower(): selected.this for selected in query.selects if selected.alias}
        known = {name for source in self.scope.sources.values() for name in self._types_of(source)}
        having = query.args.get("having")
        for column in list(having.find_all(exp.Column)) if having is not None else []:
            name = column.name.lower()
            if not column.table and name in outputs and name not in known:
                column.replace(exp.paren(outputs[name].copy()))

    def _choose_rows(self, query: exp.Select) -> None:
        """Columns outside GROUP BY: of the row that has the MAX or MIN, else of any."""
        bare = bare_columns(query)
        extremes = aggregates(query, exp.Min, exp.Max)
        if not bare:
            return
        if not self.is_postgres:
            if len(extremes) == 1:
                raise SqlError(
                    "syntax",
                    f"{bare[0].name} beside {extremes[0].key.upper()} and not in GROUP BY: MySQL and MariaDB "
                    f"would take it of any row",
                )
            return
        for column in bare:
            chosen = self._chosen(column, extremes[0] if len(extremes) == 1 else None)
            if column.parent is query and column.arg_key == "expressions":
                chosen = exp.alias_(chosen, column.this.copy())
            column.replace(chosen)

    def _chosen(self, column: exp.Column, extreme: exp.Expr | None) -> exp.Expr:
        """A column's value in the row of a MIN or MAX, or in some row, in PostgreSQL."""
        if extreme is None and self._type(column) != "boolean":  # which has no MIN there
            return exp.Min(this=column.copy())
        order = ""
        if extreme is not None:
            falls = "DESC" if isinstance(extreme, exp.Max) else "ASC"
            order = f" ORDER BY {extreme.this.sql('postgres')} {falls} NULLS LAST"
        return sqlglot.parse_one(f"(ARRAY_AGG({column.sql('postgres')}{order}))[1]", read="postgres")

    def _number(self, text: exp.Expr) -> exp.Expr:
        """The number with which a text begins, in PostgreSQL; 0 if it begins with none, as SQLite takes it."""
        begins = f"CAST(SUBSTRING(x FROM '{LEADING_NUMBER}') AS DOUBLE PRECISION)"
        whole = sqlglot.parse_one(f"CASE WHEN x IS NULL THEN NULL ELSE COALESCE({begins}, 0) END", read="postgres")
        for column in list(whole.find_all(exp.Column)):
            column.replace(text.copy())
        return whole
