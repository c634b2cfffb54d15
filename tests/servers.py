"""Real database servers for tests: started in a temporary folder, on loopback or a socket there, and ended with the
tests.
"""

import contextlib
import getpass
import glob
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

PASSWORD = "s3cr3t p@ss/w:rd"
QUOTED = "s3cr3t%20p%40ss%2Fw%3Ard"
TABLES = (  # of the tests' own, with what makes names hard: capitals, a blank, a word of the language
    "CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, name VARCHAR(40), age INTEGER, born DATE, fee NUMERIC(8, 2))",
    "CREATE TABLE {q}Song{q} ({q}SongId{q} INTEGER PRIMARY KEY, singer_id INTEGER, {q}Title{q} VARCHAR(60), "
    "{q}order{q} INTEGER, {q}play count{q} INTEGER, FOREIGN KEY (singer_id) REFERENCES singer (singer_id))",
    "CREATE VIEW adults AS SELECT name, age FROM singer WHERE age >= 18",
)
ROWS = (
    "INSERT INTO singer VALUES (1, 'Ann', 31, '1995-02-03', 120.50), (2, 'Bo', 17, '2009-05-06', 80), "
    "(3, 'Cy', NULL, NULL, NULL)",
    "INSERT INTO {q}Song{q} VALUES (1, 1, 'One', 1, 500), (2, 1, 'It''s', 2, 7), (3, 2, 'Drei \\ \"x\"', 1, 0)",
)


@dataclass
class Server:
    """A running server. `url` is the tables' owner (as a careless user takes it), `reader` has SELECT only, `root` may
    do all.

    `out` is a folder that the server may write to, `dump` gives all that it holds: roles, schemas, data.
    """

    kind: str
    url: str
    reader: str
    root: str
    out: Path
    dump: Callable[[], bytes]
    busy: Callable[[], int] = lambda: 0  # how many statements it works on
    process: subprocess.Popen | None = None
    port: int = 0


def dumped(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=True)
    return b"\n".join(
        line for line in done.stdout.splitlines() if not line.startswith((b"--", b"\\restrict", b"\\unrestrict"))
    )


def counted(command: list[str]) -> int:
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


@contextlib.contextmanager
def sqlite():
    """A file with the tables; yields a Server without a process."""
    with tempfile.TemporaryDirectory(prefix="sqlora-") as folder:
        file, out = Path(folder, "shop.sqlite"), Path(folder, "out")
        out.mkdir()
        with contextlib.closing(sqlite3.connect(file)) as connection:
            for text in (*TABLES, "CREATE TABLE private (secret TEXT)", *ROWS):
                connection.execute(text.format(q='"'))
            connection.commit()

        def dump() -> bytes:
            files = sorted(file.parent.iterdir())
            return b"".join(f"{path.name} {path.is_file() and path.read_bytes().hex()}".encode() for path in files)

        yield Server("sqlite", str(file), str(file), f"sqlite:///{file}", out, dump)


def account(name: str) -> str:
    """The user that a server runs as, since none wants to be root: its own, or nobody where that was never made."""
    if os.geteuid() != 0:
        return getpass.getuser()
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        return "nobody"


def as_user(user: str) -> dict[str, object]:
    """How a program is started as somebody else than root, as servers want to be; further groups give it nothing."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def missing(kind: str) -> str:
    """Why a server cannot be started here, or nothing."""
    if kind == "postgresql" and postgres_programs() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if kind == "mysql" and shutil.which("mariadb-install-db") is None:
        return "MariaDB is not installed: apt-get install mariadb-server"
    return ""


def postgres_programs() -> Path | None:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    place = found[-1] if found else shutil.which("initdb")
    return Path(place).parent if place else None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def server_folder(user: str):
    """Short, since a socket's path has at most 107 characters; and the server's user's own."""
    folder = Path(tempfile.mkdtemp(prefix="sqlora-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def postgresql():
    """A PostgreSQL with the tables, the roles owner (of them) and reader, and a superuser; yields a Server."""
    programs, user = postgres_programs(), account("postgres")
    with server_folder(user) as folder:
        data, port = folder / "data", free_port()
        quietly(
            [str(programs / "initdb"), "-D", str(data), "-U", "boss", "-A", "trust", "-N", "--locale=C.UTF-8"], user
        )
        command = [
            str(programs / "postgres"),
            "-D",
            str(data),
            "-k",
            str(folder),
            "-p",
            str(port),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=40",
        ]
        with running(command, folder / "log", user) as process:
            shell = [
                str(programs / "psql"),
                "-h",
                str(folder),
                "-p",
                str(port),
                "-U",
                "boss",
                "-v",
                "ON_ERROR_STOP=1",
                "-qX",
            ]
            wait_for([*shell, "-d", "postgres", "-c", "SELECT 1"], process, folder / "log")
            setup = [f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'" for role in ("owner", "reader")]
            quietly([*shell, "-d", "postgres", *each("-c", [*setup, "CREATE DATABASE shop OWNER owner"])])
            statements = [text.format(q='"') for text in (*TABLES, *ROWS)]
            quietly(
                [
                    *shell,
                    "-d",
                    "shop",
                    *each(
                        "-c",
                        [
                            "SET ROLE owner",
                            *statements,
                            "CREATE SEQUENCE tickets",
                            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
                            "CREATE TABLE private (secret TEXT)",
                            "RESET ROLE",
                            "CREATE EXTENSION IF NOT EXISTS dblink",
                        ],
                    ),
                ]
            )
            # From now on a password is asked for over TCP, and the socket stays open for the dumps.
            (data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
            quietly(
                [
                    *shell,
                    "-d",
                    "postgres",
                    "-c",
                    "SELECT pg_reload_conf()",
                    "-c",
                    f"ALTER ROLE boss PASSWORD '{PASSWORD}'",
                ]
            )
            address = f"{QUOTED}@127.0.0.1:{port}/shop"
            dump = [str(programs / "pg_dumpall"), "-h", str(folder), "-p", str(port), "-U", "boss"]
            count = [
                *shell,
                "-d",
                "shop",
                "-Atc",
                "SELECT COUNT(*) FROM pg_stat_activity WHERE state = 'active' AND "
                "backend_type = 'client backend' AND pid <> pg_backend_pid()",
            ]
            yield Server(
                "postgresql",
                *(f"postgresql://{role}:{address}" for role in ("owner", "reader", "boss")),
                open_folder(folder),
                partial(dumped, dump),
                partial(counted, count),
                process,
                port,
            )


@contextlib.contextmanager
def mariadb():
    """A MariaDB with the tables, the users owner and reader, and root; yields a Server."""
    user = account("mysql")
    with server_folder(user) as folder:
        data, port, sock = folder / "data", free_port(), folder / "socket"
        quietly(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            user,
        )
        command = [
            shutil.which("mariadbd") or "/usr/sbin/mariadbd",
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={sock}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--secure-file-priv=",
            f"--pid-file={folder / 'pid'}",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        with running(command, folder / "log", user) as process:
            shell = ["mariadb", "--no-defaults", f"--socket={sock}", "-u", "root"]
            wait_for([*shell, "-e", "SELECT 1"], process, folder / "log")
            statements = [text.format(q="`").replace("\\", "\\\\") for text in (*TABLES, *ROWS)]
            users = [
                f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'" for name in ("owner", "reader", "boss")
            ]
            quietly(
                [
                    *shell,
                    "-e",
                    ";".join(
                        [
                            "CREATE DATABASE shop CHARACTER SET utf8mb4",
                            "USE shop",
                            *statements,
                            "CREATE TABLE private (secret TEXT)",
                            *users,
                            "GRANT ALL ON shop.* TO owner@'127.0.0.1'",
                            "GRANT SELECT ON shop.singer TO reader@'127.0.0.1'",
                            "GRANT SELECT ON shop.Song TO reader@'127.0.0.1'",
                            "GRANT ALL ON *.* TO boss@'127.0.0.1' WITH GRANT OPTION",
                        ]
                    ),
                ]
            )
            address = f"{QUOTED}@127.0.0.1:{port}/shop"
            dump = [
                "mariadb-dump",
                "--no-defaults",
                f"--socket={sock}",
                "-u",
                "root",
                "--all-databases",
                "--routines",
                "--events",
                "--skip-dump-date",
                "--skip-comments",
            ]
            count = [
                *shell,
                "-N",
                "-e",
                "SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND "
                "command NOT IN ('Sleep', 'Daemon')",
            ]
            yield Server(
                "mysql",
                *(f"mysql://{name}:{address}" for name in ("owner", "reader", "boss")),
                open_folder(folder),
                partial(dumped, dump),
                partial(counted, count),
                process,
                port,
            )


def open_folder(folder: Path) -> Path:
    """One in it that everybody may write to."""
    out = folder / "out"
    out.mkdir()
    out.chmod(0o777)
    return out


def each(flag: str, values: list[str]) -> list[str]:
    return [part for value in values for part in (flag, value)]


def quietly(command: list[str], user: str | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", **as_user(user) if user else {})
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"


@contextlib.contextmanager
def running(command: list[str], log: Path, user: str):
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **as_user(user),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(command: list[str], process: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        if subprocess.run(command, capture_output=True, cwd="/").returncode == 0:
            return
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace"))


@contextlib.contextmanager
def started(kind: str):
    """A running server of its own; where none is installed, or it does not start, the test is skipped with the
    reason.
    """
    if reason := missing(kind):
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(MAKERS[kind]())
        except (AssertionError, OSError, LookupError, subprocess.SubprocessError) as error:
            pytest.skip(f"{kind} does not start here: {error}")
        yield server


MAKERS = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mariadb}


def opened(url):
    """What the attempt to open a database says; nothing of it may be the password."""
    from sqlora.databases.live import open_database
    from sqlora.system.errors import UserError

    with pytest.raises(UserError) as caught:
        open_database(url, 5).close()
    assert PASSWORD not in str(caught.value)
    assert QUOTED not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)
