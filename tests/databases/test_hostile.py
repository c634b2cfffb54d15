"""Hundreds of hostile statements against each kind of database: none changes a byte, reaches a file or hangs."""

import bisect
import contextlib
import socket
import threading
import time
from collections import Counter

import hostile
import pytest
import servers

from sqlora.databases.live import GRACE_SECONDS, LiveDatabase
from sqlora.sql import readonly
from sqlora.sql.parsing import SqlError
from sqlora.system.errors import UserError

DEADLINE = 0.25
took: list[float] = []  # seconds of each statement; -s shows the longest


class Listener:
    """Counts who connects to a port of this machine."""

    def __init__(self):
        self.visitors = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self):
        with contextlib.suppress(OSError):
            while True:
                self.socket.accept()[0].close()
                self.visitors += 1


@pytest.fixture
def listener():
    listener = Listener()
    took.clear()
    yield listener
    listener.socket.close()
    print(f"\n{len(took)} statements, the longest {max(took):.2f} s")


def refusal(ask, sql):
    """Why a statement was refused, or None; it ends in time. One that is late has two more tries, for a busy
    machine.
    """
    for _ in range(3):
        start, error = time.monotonic(), None
        try:
            ask(sql)
        except (SqlError, UserError) as caught:
            error = caught
        seconds = time.monotonic() - start
        if seconds <= DEADLINE + 1:
            took.append(seconds)
            return error
    pytest.fail(f"late: {sql}")


def check_idle(server, start):
    """A statement that began at `start` is over on the server too, two seconds after its deadline."""
    while server.busy():
        assert time.monotonic() - start < DEADLINE + 2
        time.sleep(0.05)


def changed(before, after):
    """The first lines that stand in one dump alone: pytest's own comparison of megabytes would take all memory."""
    if before == after:
        return []
    one, other = (Counter(dump.split(b"\n")) for dump in (before, after))
    return [line[:300] for line in [*(one - other), *(other - one), b"the order of lines"]][:5]


def test_nothing_hostile_passes_the_parse_tree_even_for_one_who_may_do_all(server, listener):
    statements = hostile.forbidden(server.kind, str(server.out), listener.port)
    assert len(statements) >= 300
    before = server.dump()
    with LiveDatabase(server.root, DEADLINE) as live:
        passed = [sql for sql in statements if refusal(live.run, sql) is None]
        assert passed == []
        assert [sql for sql in statements if refusal(live.check, sql) is None] == []
        for sql in hostile.exhausting(server.kind, str(server.out), listener.port):
            refusal(live.run, sql)
            check_idle(server, time.monotonic() - DEADLINE)
        assert live.run("SELECT name FROM singer ORDER BY name")[0].rows == [("Ann",), ("Bo",), ("Cy",)]
    assert changed(before, server.dump()) == []
    assert not list(server.out.iterdir())
    assert listener.visitors == 0


def test_behind_the_parse_tree_the_database_refuses_too(server, listener):
    """The same statements as if the parse tree had let them through, asked by the owner of the tables."""
    statements = [
        *hostile.forbidden(server.kind, str(server.out), listener.port, hostile.PLACES[::3]),
        *hostile.exhausting(server.kind, str(server.out), listener.port),
    ]
    before = server.dump()
    with LiveDatabase(server.url, DEADLINE) as live:

        def ask(sql):
            return live._call(DEADLINE + GRACE_SECONDS, "run", sql, 1000)

        for sql in statements:
            error = refusal(ask, sql)
            assert error is None or servers.PASSWORD not in str(error)
        check_idle(server, time.monotonic())
        assert live.run("SELECT name FROM singer ORDER BY name")[0].rows == [("Ann",), ("Bo",), ("Cy",)]
    assert changed(before, server.dump()) == []
    assert not list(server.out.iterdir())
    assert listener.visitors == 0


MOST = 40


def accepted(live, kind, shape):
    """The largest of a family of growing statements that the parse tree lets through."""

    def is_refused(count):
        try:
            readonly.check(hostile.growing(kind, count)[shape], live.reflected.dialect, live.schema)
        except SqlError:
            return True
        return False

    count = bisect.bisect_left(range(1, MOST), True, key=is_refused)
    return hostile.growing(kind, count)[shape] if count else ""


def test_what_grows_is_refused_and_what_is_just_let_through_leaves_the_server_idle(server):
    with LiveDatabase(server.reader, DEADLINE) as live:
        for shape, sql in enumerate(hostile.growing(server.kind, MOST)):
            with pytest.raises(SqlError) as caught:
                live.run(sql)
            assert caught.value.kind == "too large", sql
            longest = accepted(live, server.kind, shape)
            assert longest
            for attempt in range(3):  # two more for a busy machine
                start = time.monotonic()
                with contextlib.suppress(SqlError):
                    live.run(longest)
                try:
                    check_idle(server, start)
                    break
                except AssertionError:
                    if attempt == 2:
                        raise
