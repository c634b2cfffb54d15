"""Columns that are hidden cannot be read, whatever the query."""

import pytest

from sqlora.sql import readonly
from sqlora.sql.hidden import hide
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.schema import Column, Schema, Table

SCHEMA = parse_schema(
    "CREATE TABLE users (id INT PRIMARY KEY, name TEXT, email TEXT UNIQUE); "
    "CREATE TABLE orders (id INT, payer TEXT REFERENCES users (email), buyer INT REFERENCES users (id)); "
    "CREATE TABLE secret (key TEXT)"
)


def test_hidden_names_are_gone_with_their_keys():
    left, unknown = hide(SCHEMA, ["Users.Email", "SECRET", "users.mail", "user"])
    assert left.ddl("described") == (
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR); "
        "CREATE TABLE orders (id INTEGER, payer VARCHAR, buyer INTEGER, FOREIGN KEY (buyer) REFERENCES users (id))"
    )
    assert unknown == ["users.mail", "user"]
    assert hide(SCHEMA, []) == (SCHEMA, [])


def test_a_name_in_the_database_hides_too():
    columns = (Column("a", "text"), Column("b", "text"))
    twins = Schema(
        (Table("user", columns), Table("User_2", columns, place=("", "User")), Table("t", columns, place=("hr", "t")))
    )
    left, unknown = hide(twins, ["User.a", "hr.t.b"])
    assert unknown == []
    assert left.ddl() == "CREATE TABLE user (b VARCHAR); CREATE TABLE User_2 (b VARCHAR); CREATE TABLE t (a VARCHAR)"


@pytest.mark.parametrize("dialect", ["sqlite", "postgres", "mysql"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM users",
        "SELECT u.* FROM orders JOIN users AS u ON u.id = buyer",
        "SELECT * FROM users NATURAL JOIN orders",
        "SELECT users FROM users",
        "SELECT (SELECT COUNT(*) FROM users WHERE users.id = buyer) FROM orders",
        "SELECT * FROM (users JOIN orders ON users.id = buyer)",
        "WITH a AS (SELECT * FROM users) SELECT * FROM a",
        "SELECT id FROM users UNION SELECT id FROM users",
    ],
)
def test_a_query_sees_the_other_columns_alone(sql, dialect):
    query = readonly.check(sql, dialect, hide(SCHEMA, ["users.email"])[0])
    text = readonly.write(query, dialect).replace("`", '"')
    assert text.count("FROM users") == text.count('(SELECT "id", "name" FROM users) AS ') > 0
    assert "email" not in text


def test_a_cte_of_the_same_name_is_no_table():
    query = readonly.check(
        "WITH users AS (SELECT 1 AS a) SELECT * FROM users", "postgres", hide(SCHEMA, ["users.id"])[0]
    )
    assert readonly.write(query, "postgres") == "WITH users AS (SELECT 1 AS a) SELECT * FROM users"


def test_a_hidden_table_is_none():
    with pytest.raises(SqlError, match="no such table"):
        readonly.check("SELECT * FROM secret", "postgres", hide(SCHEMA, ["secret"])[0])
