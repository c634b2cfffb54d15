"""The keys and other constraints that CREATE TABLE, ALTER TABLE and CREATE UNIQUE INDEX declare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from sqlglot import exp

from sqlora.sql.schema import Reference, Table


@dataclass
class _Declared:
    """What is declared of one table; names are in lower case."""

    keys: list[tuple[str, ...]] = field(default_factory=list)
    required: set[str] = field(default_factory=set)
    references: list[Reference] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    defaults: dict[str, str | int | float] = field(default_factory=dict)


def add_constraints(tables: Iterable[Table], statements: Iterable[exp.Expr | None]) -> tuple[Table, ...]:
    """The tables with what the statements declare of them; what names a column that is not there is left out."""
    declared: dict[str, _Declared] = defaultdict(_Declared)
    for statement in statements:
        for table, part in _parts(statement):
            _declare(part, declared[table.lower()])
    known = {table.name.lower(): table for table in tables}
    return tuple(_constrained(table, declared, known) for table in known.values())


def _parts(statement: exp.Expr | None) -> Iterator[tuple[str, exp.Expr]]:
    """The parts of a statement that may declare something, each with the name of its table."""
    if isinstance(statement, exp.Create) and isinstance(statement.this, exp.Schema):
        yield from ((statement.this.this.name, part) for part in statement.this.expressions)
    elif isinstance(statement, exp.Alter):
        added = (action for action in statement.args["actions"] if isinstance(action, exp.AddConstraint))
        yield from ((statement.this.name, part) for action in added for part in action.expressions)
    elif isinstance(statement, exp.Create) and isinstance(statement.this, exp.Index) and statement.args.get("unique"):
        parameters = statement.this.args.get("params")
        if parameters is not None and not parameters.args.get("where"):
            columns = exp.Schema(expressions=parameters.args.get("columns"))
            yield statement.this.args["table"].name, exp.UniqueColumnConstraint(this=columns)


def _declare(part: exp.Expr, declared: _Declared, column: str = "") -> None:
    """Notes what a part of a statement, or a constraint of a `column`, declares."""
    if isinstance(part, exp.ColumnDef):
        for constraint in part.constraints:
            if constraint.args.get("kind") is not None:
                _declare(constraint.args["kind"], declared, part.name.lower())
    elif isinstance(part, exp.Constraint):
        for inner in part.expressions:
            _declare(inner, declared, column)
    elif isinstance(part, exp.PrimaryKey | exp.PrimaryKeyColumnConstraint):
        key = _names(part.expressions) or (column,)
        declared.keys.insert(0, key)
        declared.required.update(key)
    elif isinstance(part, exp.UniqueColumnConstraint):
        declared.keys.append(_names(part.this.expressions) if part.this else (column,))
    elif isinstance(part, exp.NotNullColumnConstraint) and not part.args.get("allow_null"):
        declared.required.add(column)
    elif isinstance(part, exp.ForeignKey) and part.args.get("reference") is not None:
        declared.references.append(_reference(_names(part.expressions), part.args["reference"]))
    elif isinstance(part, exp.Reference):
        declared.references.append(_reference((column,), part))
    elif isinstance(part, exp.CheckColumnConstraint):
        declared.checks.append(part.this.sql("sqlite"))
    elif isinstance(part, exp.DefaultColumnConstraint) and isinstance(part.this, exp.Literal):
        declared.defaults[column] = part.this.name if part.this.is_string else float(part.this.name)


def _reference(columns: tuple[str, ...], target: exp.Expr) -> Reference:
    table = target.find(exp.Table)
    keys = _names(target.this.expressions) if isinstance(target.this, exp.Schema) else ()
    return Reference(columns, table.name.lower() if table is not None else "", keys)


def _names(parts: Iterable[exp.Expr]) -> tuple[str, ...]:
    names = (part.find(exp.Identifier) for part in parts)
    return tuple(name.name.lower() for name in names if name is not None)


def _constrained(table: Table, declared: dict[str, _Declared], known: dict[str, Table]) -> Table:
    own, names = declared[table.name.lower()], _column_names(table)
    references = []
    for reference in own.references:
        if target := known.get(reference.table):
            primary = declared[reference.table].keys[:1] or [()]
            resolved = replace(reference, keys=reference.keys or primary[0])
            if resolved.fits(names, _column_names(target)):
                references.append(resolved)
    return replace(
        table,
        columns=tuple(replace(column, default=own.defaults.get(column.name.lower())) for column in table.columns),
        keys=tuple(dict.fromkeys(key for key in own.keys if key and names.issuperset(key))),
        required=frozenset(names & own.required),
        references=tuple(dict.fromkeys(references)),
        checks=tuple(own.checks),
    )


def _column_names(table: Table) -> set[str]:
    return {column.name.lower() for column in table.columns}
