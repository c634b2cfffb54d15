"""Hostile SQL by families, for each kind of database: what a model, or somebody who speaks through it, could try.

`{t}` is a table, `{out}` a folder that the server may write to, `{port}` where a listener waits for visitors, `{call}`
a call of a function. Every statement is one that must change nothing, reach nothing and end.
"""

import itertools

PLACES = (  # of a call in a query
    "SELECT {call}",
    "SELECT {call} FROM {t}",
    "SELECT name FROM singer WHERE {call} = 'x'",
    "SELECT (SELECT {call})",
    "SELECT name FROM singer ORDER BY {call}",
    "WITH c AS (SELECT {call} AS x) SELECT x FROM c",
    "SELECT COUNT(*) FROM singer GROUP BY {call}",
    "SELECT CASE WHEN age > 1 THEN {call} END FROM singer",
    "SELECT name FROM singer UNION SELECT {call}",
    "SELECT s.name FROM singer AS s JOIN singer AS o ON s.name = {call}",
    "SELECT COALESCE(name, {call}) FROM singer",
    "SELECT name FROM singer WHERE EXISTS (SELECT {call})",
)
WRITES = (
    "DELETE FROM {t}",
    "UPDATE {t} SET singer_id = 9",
    "INSERT INTO {t} (singer_id) VALUES (77)",
    "DROP TABLE {t}",
    "ALTER TABLE {t} ADD COLUMN x INTEGER",
    "ALTER TABLE {t} RENAME TO x",
    "CREATE INDEX i ON {t} (singer_id)",
    "CREATE TABLE copy AS SELECT * FROM {t}",
    "CREATE VIEW w AS SELECT * FROM {t}",
    "DROP VIEW adults",
    "INSERT INTO {t} SELECT * FROM {t}",
    "/* SELECT */ DELETE FROM {t}",
    "EXPLAIN DELETE FROM {t}",
    "(DELETE FROM {t})",
    "WITH c AS (SELECT 1) DELETE FROM {t}",
    "WITH c AS (SELECT 1) UPDATE {t} SET singer_id = 9",
    "SELECT * FROM {t} FOR UPDATE",
    "SELECT 1; DELETE FROM {t}",
    "SELECT 1;\nDELETE FROM {t};",
    "SELECT 1; SELECT 2",
    "COMMIT; DELETE FROM {t}",
    "ROLLBACK; DELETE FROM {t}",
    "SELECT 'a'; COMMIT; DROP TABLE {t}; --",
    "BEGIN; DELETE FROM {t}; COMMIT",
    "SELECT 1 /* ' */; DELETE FROM {t} -- '",
    'SELECT "a;b"; DROP TABLE {t}',
    "SAVEPOINT s; DELETE FROM {t}; RELEASE s",
)
STATEMENTS = (
    "COMMIT",
    "ROLLBACK",
    "BEGIN",
    "SAVEPOINT x",
    "ANALYZE",
    "CREATE TABLE x (a INTEGER)",
    "CREATE TEMPORARY TABLE x (a INTEGER)",
    "",
    ";",
    "--",
    "SELECT FROM WHERE",
    "VALUES",
    "SELECT * FROM nonesuch",
    "SELECT * FROM information_schema.tables",
    "EXPLAIN ANALYZE SELECT 1",
)
OWN_STATEMENTS = {
    "sqlite": (
        "ATTACH '{out}/x.db' AS x",
        "ATTACH ':memory:' AS x",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO '{out}/x.db'",
        "REINDEX",
        "PRAGMA writable_schema = 1",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = WAL",
        "PRAGMA user_version = 7",
        "PRAGMA temp_store_directory = '{out}'",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA wal_checkpoint",
        "PRAGMA integrity_check",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM pragma_table_info('singer')",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM main.singer",
        "CREATE VIRTUAL TABLE x USING fts5(y)",
        "REPLACE INTO singer (singer_id) VALUES (1)",
        "CREATE TRIGGER x AFTER INSERT ON singer BEGIN SELECT 1; END",
        "SELECT * FROM json_each('[1]')",
        "SELECT * FROM dbstat",
        "SELECT * FROM generate_series(1, 100000000)",
        "SELECT * FROM lower('x') AS u",
    ),
    "postgresql": (
        "COPY singer TO '{out}/x'",
        "COPY singer TO PROGRAM 'touch {out}/x'",
        "COPY singer FROM PROGRAM 'echo 9'",
        "COPY (SELECT 1) TO '{out}/x'",
        "COPY singer TO STDOUT",
        "COPY singer FROM STDIN",
        "TRUNCATE singer",
        "VACUUM",
        "CHECKPOINT",
        "DO $$ BEGIN DELETE FROM singer; END $$",
        "DO $$ BEGIN COMMIT; DELETE FROM singer; END $$",
        "SELECT * INTO x FROM singer",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION file_fdw",
        "CREATE ROLE x SUPERUSER",
        "CREATE SERVER s FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '127.0.0.1', port '{port}')",
        "NOTIFY x",
        "LISTEN x",
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port={port}' PUBLICATION p",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "SET TRANSACTION READ WRITE",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET statement_timeout = 0",
        "SET default_transaction_read_only = off",
        "RESET ALL",
        "DISCARD ALL",
        "PREPARE p AS DELETE FROM singer",
        "LOAD 'x'",
        "WITH d AS (DELETE FROM singer RETURNING *) SELECT * FROM d",
        "WITH d AS (UPDATE singer SET age = 1 RETURNING 1) SELECT 1",
        "WITH d AS (INSERT INTO singer VALUES (8) RETURNING 1) SELECT 1",
        "LOCK TABLE singer",
        "SELECT * FROM singer FOR SHARE",
        "DECLARE c CURSOR FOR SELECT 1",
        "MERGE INTO singer USING singer s ON true WHEN MATCHED THEN DELETE",
        "EXPLAIN ANALYZE DELETE FROM singer",
        "EXPLAIN (ANALYZE) DELETE FROM singer",
        "GRANT ALL ON singer TO PUBLIC",
        "SELECT * FROM pg_shadow",
        "SELECT * FROM pg_catalog.pg_authid",
        "SELECT * FROM pg_stat_activity",
        "CALL x()",
        "SELECT * FROM dblink('host=127.0.0.1 port={port}', 'SELECT 1') AS t(a int)",
        "SELECT * FROM pg_ls_dir('/') AS t",
        "SELECT * FROM ROWS FROM (pg_ls_dir('/')) AS t",
        "SELECT * FROM singer, LATERAL pg_read_file('/etc/passwd') AS f",
        "SELECT 1 OPERATOR(pg_catalog.+) 1",
        "SELECT 'x'::regclass",
        "SELECT CAST('singer' AS regclass)",
        "TABLE pg_authid",
        "SELECT singer.row_to_json FROM singer",
        "SELECT (singer).row_to_json FROM singer",
        "SELECT s.to_jsonb FROM singer AS s",
        "SELECT x.row_to_json FROM (SELECT name FROM singer) AS x",
        "SELECT name FROM singer ORDER BY singer.record_out",
        "WITH c AS (SELECT name FROM singer) SELECT c.to_json FROM c",
        "SELECT s.age FROM singer AS s(a, b, c, d)",
        'SELECT s."NAME" FROM singer AS s',
        "SELECT public.singer.row_to_json FROM singer",
        'SELECT "SINGER".name FROM singer',
        "SELECT u.pg_read_file FROM lower('/etc/passwd') AS u",
        "SELECT name FROM singer AS s WHERE s.to_json IS NULL",
        "SELECT (SELECT s.to_json) FROM singer AS s",
        "SELECT COUNT(s.to_json) OVER (PARTITION BY s.to_json) FROM singer AS s",
        "WITH pg_shadow AS (SELECT * FROM pg_shadow) SELECT * FROM pg_shadow",
        'SELECT * FROM "Singer"',
        "SELECT * FROM song",
        "SELECT * FROM pg_shadow WHERE EXISTS (WITH pg_shadow AS (SELECT 1) SELECT 1)",
        "WITH c AS (SELECT * FROM pg_class), pg_class AS (SELECT 1 AS x) SELECT * FROM c",
        "SELECT * FROM nextval('tickets')",
        "REFRESH MATERIALIZED VIEW x",
        "COMMENT ON TABLE singer IS 'x'",
        "CLUSTER",
        "SECURITY LABEL ON TABLE singer IS 'x'",
        "REASSIGN OWNED BY owner TO reader",
        "DROP OWNED BY owner",
        "DROP DATABASE shop",
    ),
    "mysql": (
        "SELECT * FROM singer INTO OUTFILE '{out}/x'",
        "SELECT 'x' INTO DUMPFILE '{out}/x'",
        "SELECT name INTO @x FROM singer",
        "SELECT * INTO OUTFILE '{out}/x' FROM singer",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE singer",
        "TRUNCATE singer",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE singer",
        "LOAD XML INFILE '/etc/passwd' INTO TABLE singer",
        "BEGIN NOT ATOMIC COMMIT; DELETE FROM singer; END",
        "EXECUTE IMMEDIATE 'DELETE FROM singer'",
        "CALL x()",
        "DO SLEEP(9)",
        "PREPARE p FROM 'DELETE FROM singer'",
        "SET @x = 1",
        "SET SESSION TRANSACTION READ WRITE",
        "SET autocommit = 1",
        "SET SESSION tx_read_only = 0",
        "SET GLOBAL general_log = 1",
        "SET GLOBAL max_connections = 1",
        "SET sql_mode = 'ANSI_QUOTES'",
        "START TRANSACTION READ WRITE",
        "LOCK TABLES singer WRITE",
        "UNLOCK TABLES",
        "FLUSH TABLES",
        "FLUSH PRIVILEGES",
        "SHUTDOWN",
        "RESET MASTER",
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}",
        "START SLAVE",
        "KILL 1",
        "INSTALL PLUGIN x SONAME 'x.so'",
        "INSTALL SONAME 'x'",
        "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'",
        "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST '127.0.0.1', PORT {port})",
        "CREATE USER x",
        "DROP USER reader",
        "CREATE TABLE x ENGINE=CONNECT TABLE_TYPE=CSV FILE_NAME='/etc/passwd'",
        "CREATE DATABASE x",
        "DROP DATABASE shop",
        "GRANT ALL ON *.* TO reader",
        "SET PASSWORD = ''",
        "RENAME TABLE singer TO x",
        "OPTIMIZE TABLE singer",
        "HANDLER singer OPEN",
        "REPLACE INTO singer (singer_id) VALUES (1)",
        "/*!50000 DELETE FROM singer */",
        "SELECT * FROM singer PROCEDURE ANALYSE()",
        "SELECT @@datadir",
        "SELECT @@version",
        "SELECT @x := 1",
        "SHOW GRANTS",
        "SELECT * FROM singer LOCK IN SHARE MODE",
        "SELECT * FROM mysql.user",
        "SELECT * FROM shop.singer",
        "SHOW VARIABLES",
        "SELECT /*+ MAX_EXECUTION_TIME(0) */ * FROM singer",
        "SET STATEMENT max_statement_time = 0 FOR SELECT 1",
        "XA START 'x'",
        "ANALYZE SELECT * FROM singer",
        "CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO DELETE FROM singer",
        "USE mysql",
        "DELETE FROM singer RETURNING *",
        "INSERT INTO singer (singer_id) VALUES (1) RETURNING 1",
        "BACKUP STAGE START",
    ),
}
CALLS = {  # of functions that reach out, or change something
    "sqlite": (
        "load_extension('{out}/x')",
        "readfile('/etc/passwd')",
        "writefile('{out}/x', 'y')",
        "edit('x')",
        "fts3_tokenizer('x')",
        "sqlite_version()",
        "random()",
        "sqlite_compileoption_get(1)",
        "last_insert_rowid()",
        "total_changes()",
        "lsdir('/')",
        "load_extension('{out}/x', 'f')",
        "randomblob(9)",
        "sqlite_source_id()",
        "changes()",
        "sqlite_offset(name)",
        "sqlite_log(1, 'x')",
        "fts5(9)",
        "zipfile('a', 'b')",
    ),
    "postgresql": (
        "pg_read_file('/etc/passwd')",
        "pg_read_binary_file('/etc/passwd')::text",
        "pg_ls_dir('/')",
        "pg_stat_file('/')::text",
        "lo_import('/etc/passwd')::text",
        "lo_export(1, '{out}/x')::text",
        "lo_create(7)::text",
        "nextval('tickets')::text",
        "setval('tickets', 99)::text",
        "set_config('statement_timeout', '0', false)",
        "current_setting('data_directory')",
        "set_config('transaction_read_only', 'off', false)",
        "pg_terminate_backend(1)::text",
        "pg_reload_conf()::text",
        "dblink_connect('host=127.0.0.1 port={port}')",
        "pg_catalog.pg_read_file('/etc/passwd')",
        "pg_switch_wal()::text",
        "query_to_xml('DELETE FROM singer', true, true, '')::text",
        "database_to_xml(true, true, '')::text",
        "version()",
        "dblink_exec('host=127.0.0.1 port={port}', 'DELETE FROM singer')",
        "pg_advisory_lock(1)::text",
        "inet_server_addr()::text",
        "pg_notify('a', 'b')::text",
        "txid_current()::text",
        "pg_export_snapshot()",
        "pg_create_restore_point('x')::text",
    ),
    "mysql": (
        "LOAD_FILE('/etc/passwd')",
        "load_file(CONCAT('/etc/', 'passwd'))",
        "GET_LOCK('a', 9)",
        "RELEASE_ALL_LOCKS()",
        "USER()",
        "VERSION()",
        "DATABASE()",
        "SYS_EXEC('touch {out}/x')",
        "SYS_EVAL('id')",
        "LAST_INSERT_ID(9)",
        "NEXTVAL(s)",
        "CONNECTION_ID()",
        "MASTER_POS_WAIT('x', 4, 9)",
        "UUID()",
        "EXTRACTVALUE('<a/>', '/a')",
        "ROW_COUNT()",
        "SETVAL(s, 1)",
        "CURRENT_USER()",
    ),
}
CROSS = "SELECT {what} FROM " + ", ".join(f"singer AS s{i}" for i in range(22))
RECURSIVE = "WITH RECURSIVE r(n, s) AS (SELECT 1, {start} UNION ALL SELECT n + 1, {next} FROM r) SELECT {what} FROM r"
HANGS = (  # allowed to be tried by the parse tree, for a deadline to end
    CROSS.format(what="COUNT(*)"),
    CROSS.format(what="SUM(s0.age + s1.age)"),
    CROSS.format(what="MAX(s3.name)") + " WHERE s1.age > 1",
    CROSS.format(what="s1.name") + " ORDER BY s2.name, s3.name, s4.name, s5.name",
    CROSS.format(what="COUNT(DISTINCT s1.name)"),
    CROSS.format(what="s1.age, COUNT(*)") + " GROUP BY s1.age",
    CROSS.format(what="s1.name") + " WHERE s1.name = 'nobody' AND s2.age + s9.age < 0",
    CROSS.format(what="COUNT(*) OVER (ORDER BY s1.name)"),
    f"SELECT name FROM singer WHERE age = ({CROSS.format(what='COUNT(*)')})",
    RECURSIVE.format(start="1", next="n", what="COUNT(*)"),
    RECURSIVE.format(start="1", next="n", what="SUM(n)"),
    RECURSIVE.format(start="1", next="n", what="MAX(s)"),
)
BOMBS = {
    "sqlite": (
        RECURSIVE.format(start="'x'", next="s || s", what="MAX(LENGTH(s))"),
        RECURSIVE.format(start="'x'", next="s || 'y'", what="s"),
        CROSS.format(what="GROUP_CONCAT(s1.name || s2.name)"),
        "SELECT hex(zeroblob(500000000))",
        "SELECT zeroblob(1000000000)",
        "SELECT randomblob(1000000000)",
        "SELECT printf('%.*c', 2000000000, 'x')",
        "SELECT length(hex(zeroblob(4000000)))",
        "SELECT trim(hex(zeroblob(3000000)), hex(zeroblob(1000000)) || '1')",
        "SELECT instr(hex(zeroblob(4000000)), hex(zeroblob(2000000)) || '1')",
        "SELECT replace(hex(zeroblob(400000)), '0', hex(zeroblob(400000)))",
    ),
    "postgresql": (
        RECURSIVE.format(start="CAST('x' AS TEXT)", next="s || s", what="MAX(LENGTH(s))"),
        RECURSIVE.format(start="CAST('x' AS TEXT)", next="s || 'yyyyyyyyyy'", what="s"),
        CROSS.format(what="STRING_AGG(s1.name, ',')"),
        "SELECT repeat('x', 1000000000)",
        "SELECT lpad('x', 1000000000)",
        "SELECT array_agg(x) FROM generate_series(1, 1000000000) AS x",
        "SELECT pg_sleep(9)",
        "SELECT pg_sleep(9) FROM singer",
        "SELECT * FROM generate_series(1, 1000000000)",
        "SELECT string_agg(repeat('x', 1000000), '') FROM generate_series(1, 900)",
    ),
    "mysql": (
        RECURSIVE.format(start="CAST('x' AS CHAR(9999))", next="CONCAT(s, s)", what="MAX(LENGTH(s))"),
        CROSS.format(what="GROUP_CONCAT(s1.name)"),
        "SELECT REPEAT('x', 1000000000)",
        "SELECT SPACE(1000000000)",
        "SELECT SLEEP(9)",
        "SELECT BENCHMARK(1000000000, SHA2('x', 512))",
        "SELECT SLEEP(9) FROM singer",
        "SELECT LPAD('x', 1000000000, 'y')",
        "SELECT REPEAT(REPEAT('x', 10000), 10000)",
        "SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' REGEXP '^(a|a)*$|^(a+)+$'",
    ),
}

DISGUISED = {  # to be taken for a string or a comment, and then to be nothing else
    "sqlite": ("SELECT 1 -- ; DELETE FROM singer", "SELECT 1 /* ; DELETE FROM singer */"),
    "postgresql": (
        "SELECT E'\\'; DELETE FROM singer; --'",
        "SELECT '\\'; DELETE FROM singer; -- '",
        "SELECT 1 /* /* */ ; DELETE FROM singer */",
        "SELECT U&'\\0027'; DELETE FROM singer",
        "SELECT $$; DELETE FROM singer$$",
        "SELECT $x$;$$; DELETE FROM singer; --$x$",
        "SELECT 'a'\n'; DELETE FROM singer; --'",
        "SELECT E'a\\''; DELETE FROM singer; --'",
    ),
    "mysql": (
        "SELECT '\\'; DELETE FROM singer; -- '",
        "SELECT 1 /*! INTO OUTFILE '{out}/x' */",
        "SELECT 1 LIMIT 1 /*! INTO OUTFILE '{out}/x' */",
        "SELECT 1 LIMIT 1 /*M! INTO OUTFILE '{out}/x' */",
        "SELECT 1 LIMIT 1 /*!50000 INTO DUMPFILE '{out}/x' */",
        "SELECT 1 --1 INTO OUTFILE '{out}/x'",
        "SELECT 1 LIMIT 1 #\n INTO OUTFILE '{out}/x'",
        'SELECT "a\\" INTO OUTFILE \'{out}/x\' -- "',
        "SELECT 'a''\\'' INTO OUTFILE '{out}/x' -- '",
        "SELECT 1 /*!, LOAD_FILE('/etc/passwd') */ LIMIT 1",
        "SELECT _utf8'x' 'y'",
        "SELECT 1 LIMIT 1 --\u00a0INTO OUTFILE '{out}/x'",
        "SELECT 1 LIMIT 1 /*!99999 */ /*! INTO OUTFILE '{out}/x' */",
    ),
}


def flat(step: str, count: int) -> str:
    """Queries in FROM, of which a server writes one into the other: `step` of x is made `count` times."""
    text = "SELECT name AS x FROM singer"
    for _ in range(count):
        text = f"SELECT {step} AS x FROM ({text}) AS t"
    return text


def long_text(count: int, then: str) -> str:
    """`then` is a SELECT over t, whose s has about `count` times 1,000 bytes, up to 1 MB."""
    copies = [10, count // 10] if count > 9 else [count]
    parts = ["t0 AS (SELECT '" + "a" * 1000 + "' AS s)"]
    parts += [
        f"t{i} AS (SELECT CONCAT({', '.join(['s'] * many)}) AS s FROM t{i - 1})" for i, many in enumerate(copies, 1)
    ]
    return f"WITH {', '.join(parts)}, t AS (SELECT s FROM t{len(copies)}) {then}"


SEARCHED = {
    "mysql": "LOCATE({what}, {where})",
    "postgresql": "STRPOS({where}, {what})",
    "sqlite": "INSTR({where}, {what})",
}


def growing(kind: str, count: int) -> list[str]:
    """Statements whose work grows with `count`, which no server ends before it is done with a row."""
    nested = "'" + "a" * 40 + "'"
    for _ in range(count):
        nested = f"REPLACE({nested}, 'a', 'aa')"
    texts = [
        f"SELECT LENGTH({nested})",
        flat("CONCAT(x, x, x)", count),
        flat("LENGTH(x) + LENGTH(x)", count),
        long_text(count, "SELECT s LIKE CONCAT('%', s, 'b') FROM t"),
    ]
    for what in ("CONCAT(s, 'b')", "CONCAT('b', s)"):
        texts.append(long_text(count, f"SELECT {SEARCHED[kind].format(what=what, where='CONCAT(s, s)')} FROM t"))
    if kind == "mysql":
        texts.append(long_text(count, "SELECT LENGTH(REPLACE(REPLACE(s, 'a', 'bb'), 'b', 'cc')) FROM t"))
    if kind == "postgresql":
        texts += [
            f"SELECT (9e{count * 3000}/7) / (7e{count * 1500}/3)",
            "SELECT " + " + ".join(["(9e30000/7) * (9e30000/7)"] * count),
            "SELECT COUNT(*) FROM singer AS s0 "
            + " ".join(f"LEFT JOIN singer AS s{i} ON s{i}.age = s{i - 1}.age" for i in range(1, count * 5)),
        ]
    return texts


def forbidden(kind: str, out: str, port: int, places: tuple[str, ...] = PLACES) -> list[str]:
    """Statements that must be refused, whoever asks; those with a call have it in each of `places`."""
    quoted = "`Song`" if kind == "mysql" else '"Song"'
    tables = ("singer", quoted, "public.singer") if kind == "postgresql" else ("singer", quoted)
    texts = [write.replace("{t}", table) for write, table in itertools.product(WRITES, tables)]
    texts += [*STATEMENTS, *OWN_STATEMENTS[kind]]
    texts += [
        place.replace("{call}", call).replace("{t}", tables[0])
        for place, call in itertools.product(places, CALLS[kind])
    ]
    return _filled(texts, out, port)


def exhausting(kind: str, out: str, port: int) -> list[str]:
    """Statements that must end, one way or another, and do no harm."""
    return _filled([*HANGS, *BOMBS[kind], *DISGUISED[kind]], out, port)


def _filled(texts: list[str], out: str, port: int) -> list[str]:
    return list(dict.fromkeys(text.replace("{out}", out).replace("{port}", str(port)) for text in texts))
