"""Cells of live databases as values that every format can show, or as the database's own text for them."""

from __future__ import annotations

import decimal
import json
import math
from typing import TYPE_CHECKING

from sqlora.sql.sandbox import Value

if TYPE_CHECKING:
    import psycopg
    import pymysql

NUMBERS = (
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "oid",
    "bytea",
)  # types that psycopg reads well


def plain(value: object) -> Value:
    """A cell as a number, a text or None; bytes become hexadecimal digits, a number that no float can hold its text."""
    if value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, decimal.Decimal):
        return _number(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"0x{bytes(value).hex()}"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _number(value: decimal.Decimal) -> Value:
    if not value.is_finite() or value.adjusted() > 300:  # Python turns no integer of more than 4,300 digits into text
        return str(value)
    number = int(value) if value == value.to_integral_value() else float(value)
    return number if decimal.Decimal(str(number)) == value else str(value)


def read_postgresql(connection: psycopg.Connection) -> None:
    """Reads everything but numbers as text: Python has no infinite date, no year 20000 or 44 BC, and no time 24:00."""
    from psycopg.adapt import Loader

    class Text(Loader):
        def load(self, data: bytes | bytearray | memoryview) -> str:
            return bytes(data).decode("utf-8", "replace")

    for kind in connection.adapters.types:
        if kind.name not in NUMBERS:
            connection.adapters.register_loader(kind.oid, Text)
        if kind.array_oid:
            connection.adapters.register_loader(kind.array_oid, Text)
    connection.adapters.register_loader(0, Text)  # for user-defined types


def read_mysql(connection: pymysql.Connection) -> None:
    """Reads everything but numbers as text: Python has no date 0000-00-00, and a TIME may have 838 hours."""
    from pymysql.constants import FIELD_TYPE as KIND

    integers = (KIND.TINY, KIND.SHORT, KIND.LONG, KIND.LONGLONG, KIND.INT24, KIND.YEAR)
    connection.decoders = (
        dict.fromkeys(integers, int)
        | dict.fromkeys((KIND.FLOAT, KIND.DOUBLE), float)
        | dict.fromkeys((KIND.DECIMAL, KIND.NEWDECIMAL), decimal.Decimal)
    )
