"""The names of dialects are sqlglot's."""

from sqlglot.dialects.dialect import Dialect

from sqlora.sql.dialects import DIALECTS


def test_sqlglot_knows_every_name():
    assert all(Dialect.get(name) for name in DIALECTS)
    assert len(set(DIALECTS)) == len(DIALECTS)
