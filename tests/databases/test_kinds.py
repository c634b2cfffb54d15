"""The records of database kinds: what each says about errors, names and transactions."""

import re

import pytest
import sqlalchemy

from sqlora.databases import kinds


@pytest.mark.parametrize(
    ("kind", "message", "means"),
    [
        ("postgresql", 'relation "nobody" does not exist', "no such table"),
        ("postgresql", 'column "height" does not exist', "no such column"),
        ("postgresql", "canceling statement due to statement timeout", "timeout"),
        ("postgresql", "cannot execute UPDATE in a read-only transaction", "not read only"),
        ("mysql", "Table 'shop.nobody' doesn't exist", "no such table"),
        ("mariadb", "Unknown column 'height' in 'field list'", "no such column"),
        ("mariadb", "Query execution was interrupted (max_statement_time exceeded)", "timeout"),
    ],
)
def test_messages_of_servers(kind, message, means):
    faults = kinds.kind_of(kind).faults
    assert next(fault for pattern, fault in faults if re.search(pattern, message, re.IGNORECASE)) == means


@pytest.mark.parametrize("message", ["server closed the connection unexpectedly", "MySQL server has gone away"])
def test_lost_connections(message):
    assert kinds.LOST.search(message)
    assert not kinds.LOST.search("syntax error")


def test_a_kind_without_a_record_runs_no_query():
    for name in ("oracle", "mssql"):
        assert kinds.kind_of(name).begin is None
    assert kinds.kind_of("oracle").dialect == "oracle"


def test_a_transaction_of_sqlite_cannot_write_and_keeps_any_bytes(tmp_path):
    url = sqlalchemy.make_url(f"sqlite:///{tmp_path / 'shop.sqlite'}")
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a TEXT)")
        connection.exec_driver_sql("INSERT INTO t VALUES (CAST(x'636166e9' AS TEXT))")
    engine.dispose()
    url, keywords = kinds.kind_of("sqlite").connect(url)
    engine = sqlalchemy.create_engine(url, **keywords)
    with engine.connect() as connection:
        begun = kinds.kind_of("sqlite").begin(connection, 5)
        assert begun.exec_driver_sql("SELECT a FROM t").scalar() == "caf\ufffd"
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            begun.exec_driver_sql("DELETE FROM t")
    engine.dispose()
