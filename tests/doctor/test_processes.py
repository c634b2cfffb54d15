"""The doctor in several real processes: they reach one another, or one of them hangs."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import patience
import pytest

ROOT = Path(__file__).parents[2]
DOCTOR = ["-m", "sqlora.doctor", "--preset", "tiny", "--device", "cpu", "--low-bit", "none", "--json"]
HANGS = """
import time
from sqlora.system import distributed
distributed.configure_rank()
distributed.init_process_group("cpu")
print("here", flush=True)
time.sleep(1000)
"""
IN_A_SECOND = """
from datetime import timedelta
from sqlora.doctor import processes
from sqlora.model import device
from sqlora.system import distributed, shutdown
distributed.configure_rank()
result = processes.all_reduce(device.choose_device("cpu", "float32"), deadline=timedelta(seconds=1))
print(result.status, result.detail, result.remedy, sep="|", flush=True)
shutdown.end(0)
"""


@pytest.fixture
def start():
    """Starts a process of two, by its rank."""
    started = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(rank, *arguments):
        launch = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        started.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=os.environ | launch | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_one_of_two_processes_hangs(start):
    hanging, waiting = start(1, "-c", HANGS), start(0, "-c", IN_A_SECOND)
    assert waiting.communicate(timeout=patience.SECONDS)[0].startswith("WRONG|no answer in 1 s|set GLOO_SOCKET_IFNAME")
    assert hanging.stdout.readline() == "here\n"
    assert hanging.poll() is None


@pytest.mark.slow
def test_the_doctor_of_two_processes(start):
    other, main = start(1, *DOCTOR), start(0, *DOCTOR)
    checks = {check["name"]: check for check in json.loads(main.communicate(timeout=patience.SECONDS)[0])["checks"]}
    assert checks["all-reduce of 2 processes"]["detail"] == "gloo adds up right"
    assert "packed pass, prefix" in checks
    assert other.communicate(timeout=patience.SECONDS)[0] == ""
    assert (main.returncode, other.returncode) == (0, 0)


@pytest.mark.slow
def test_the_doctor_says_that_one_of_two_processes_hangs(start):
    hanging, main = start(1, "-c", HANGS), start(0, *DOCTOR)
    hanging.stdout.readline()
    began = time.monotonic()
    checks = json.loads(main.communicate(timeout=patience.SECONDS)[0])["checks"]
    assert time.monotonic() - began < 40
    assert (checks[-1]["name"], checks[-1]["status"]) == ("all-reduce of 2 processes", "WRONG")
    assert checks[-1]["detail"] == "no answer in 20 s"
    assert main.returncode == 1
