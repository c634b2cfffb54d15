"""The first signal is kept, the second ends the program at once: real signals to a process of its own."""

import signal
import subprocess
import sys
import time

import patience
import pytest

PROGRAM = """
import time
from sqlora.system.errors import exit_on_user_error
from sqlora.system.signals import graceful

with exit_on_user_error():
    with graceful(lambda line: print(line, flush=True)) as stop:
        print("begun", flush=True)
        while not stop.signal or {stubborn}:
            time.sleep(0.01)
    print("ended by itself, after signal", stop.signal, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def start():
    def run(stubborn: bool) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(stubborn=stubborn)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "begun\n"
        return process

    return run


@pytest.mark.parametrize(("second", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_second_signal_ends_it_at_once(start, second, status):
    process = start(stubborn=True)
    process.send_signal(signal.SIGINT)
    assert "Press Ctrl-C again" in process.stdout.readline()
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(second)
    _, message = process.communicate(timeout=patience.SECONDS)
    assert (process.returncode, message) == (status, "stopped at once\n")


def test_a_burst_of_signals_is_one(start):
    process = start(stubborn=True)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    assert process.poll() is None
    process.kill()
    assert process.communicate()[0].count("SIGINT") == 1


def test_afterwards_signals_do_what_they_did_before(start):
    process = start(stubborn=False)
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM" in process.stdout.readline()
    assert process.stdout.readline() == "ended by itself, after signal 15\n"
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=patience.SECONDS)
    assert (process.returncode, message) == (130, "stopped\n")


def test_a_signal_that_is_ignored_from_the_start_stays_ignored():
    process = subprocess.Popen(
        ["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh", sys.executable, "-c", PROGRAM.format(stubborn=False)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    for number in (signal.SIGHUP, signal.SIGINT):  # as under nohup, and in the background of a script
        process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM" in process.stdout.readline()
    process.kill()
    process.communicate()
