"""The names of dialects are sqlglot's."""

from sqlglot.dialects.dialect import Dialect, Dialects

from sqlora.sql.dialects import DIALECTS


def test_sqlglot_knows_every_name():
    assert all(Dialect.get(name) for name in DIALECTS)
    assert len(set(DIALECTS)) == len(DIALECTS)
    assert {dialect.value for dialect in Dialects if dialect.value} <= set(DIALECTS)
