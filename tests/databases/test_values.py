"""Every cell of a server comes back as a value or as its text; none ends the query."""

import json

import pytest

from sqlora.databases.live import LiveDatabase
from sqlora.sql.parsing import SqlError

CELLS = {
    "postgresql": {
        "timestamp 'infinity'": "infinity",
        "date '-infinity'": "-infinity",
        "timestamptz '20000-01-01 UTC'": "20000-01-01",
        "date '0044-03-15 BC'": "0044-03-15 BC",
        "time '24:00'": "24:00:00",
        "timetz '24:00+05'": "24:00:00+05",
        "interval '170000000 years'": "170000000 years",
        "1e5000::numeric": "1" + "0" * 5000,
        "1e-6000::numeric": "1E-6000",
        "'NaN'::numeric": "NaN",
        "'Infinity'::numeric": "Infinity",
        "'-Infinity'::float8": "-inf",
        "1.10::numeric": 1.1,
        "7::numeric": 7,
        "'\\x00ff'::bytea": "0x00ff",
        "'{\"a\": [1]}'::json": '{"a": [1]}',
        "'[1e5000]'::jsonb": "[1" + "0" * 5000 + "]",
        "array[timestamp 'infinity', null]": "{infinity,NULL}",
        "'{}'::int[]": "{}",
        "array[array[1],array[2]]": "{{1},{2}}",
        "'00000000-0000-0000-0000-000000000001'::uuid": "00000000-0000-0000-0000-000000000001",
        "'::1/128'::inet": "::1",
        "'10.0.0.0/8'::cidr": "10.0.0.0/8",
        "row(1, 'a', date 'infinity')": "(1,a,infinity)",
        "numrange(1, 1e3)": "[1,1000)",
        "daterange('20000-01-01', null)": "[20000-01-01,)",
        "'{[1,2)}'::int4multirange": "{[1,2)}",
        "b'101'": "101",
        "true": True,
        "'(1,2)'::point": "(1,2)",
        "'a'::tsvector": "'a'",
        "'<a/>'::xml": "<a/>",
        "'a'::name": "a",
        "'1 2'::int2vector": "1 2",
        "'int4'::regtype": "integer",
        "null": None,
        "'a'::\"char\"": "a",
    },
    "mysql": {
        "CAST('0000-00-00' AS DATE)": "0000-00-00",
        "TIMEDIFF('838:59:59', '0:0:0')": "838:59:59",
        "MAKETIME(-5, 0, 0.5)": "-05:00:00.5",
        "b'101'": "0x05",
        "POINT(1, 2)": "0x0000000001",
        "DATE'2020-00-00'": "2020-00-00",
        "1.5e300": 1.5e300,
        "x'ff'": "0xff",
        "CAST(1.10 AS DECIMAL(65, 30))": 1.1,
        "18446744073709551615": 18446744073709551615,
        "NULL": None,
        "INET6_ATON('::1')": "0x00",
        "JSON_ARRAY(1)": "[1]",
        "CAST('2020-01-02 03:04:05.6' AS DATETIME(6))": "2020-01-02 03:04:05.600000",
        "CONCAT('a', x'ff')": "0x61ff",
        "CAST(9.99 AS DECIMAL(65, 0)) * 1e0": 10.0,
    },
}


@pytest.mark.parametrize("kind", CELLS)
def test_what_python_has_no_value_for_is_text(kind, request):
    server = request.getfixturevalue(f"{kind}_server")
    with LiveDatabase(server.reader, 10) as live:
        for cell, expected in CELLS[kind].items():
            result, more = live._call(10, "run", f"SELECT {cell}", 5)
            ((found,),) = result.rows
            assert found == expected or (isinstance(found, str) and found.startswith(str(expected))), cell
            assert not more
            json.loads(json.dumps(found, allow_nan=False))


def test_a_text_that_group_concat_would_cut_is_an_error(mysql_server):
    with LiveDatabase(mysql_server.reader, 10) as live:
        assert (
            len(live._call(10, "run", "SELECT GROUP_CONCAT(REPEAT('x', 300000)) FROM singer", 5)[0].rows[0][0])
            == 900_002
        )
        with pytest.raises(SqlError, match="GROUP_CONCAT gives more"):
            live._call(10, "run", "SELECT GROUP_CONCAT(REPEAT('x', 400000)) FROM singer", 5)
