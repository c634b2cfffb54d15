"""Several real processes on the CPU, started by accelerate launch: one run, the same as that of one process."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

import finetune
from sqlora.storage import checkpoints
from sqlora.system import distributed

ROOT = Path(__file__).parents[2]
PLAIN, FSDP = ("--multi_gpu",), ("--use_fsdp", "--fsdp_version", "2")
STEPS = 4


@pytest.fixture
def flags(llama_folder, tmp_path):
    """Of a short run in float32: 2 epochs of 18 rows, in micro-batches of 5, and at their ends of 3."""
    file = tmp_path / "rows.jsonl"
    rows = [
        {
            "question": f"How many {i}?" + " really" * (i % 4),
            "context": f"CREATE TABLE t{i} (a INTEGER)",
            "answer": f"SELECT {i} FROM t{i}" + " WHERE a > 1" * (i % 3),
        }
        for i in range(23)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "base-model": llama_folder,
        "data-path": file,
        "max-steps": STEPS,
        "warmup-steps": 0,
        "eval-steps": 2,
        "save-steps": 2,
        "logging-steps": 1,
        "device": "cpu",
        "dtype": "float32",
        "validation-rows": 5,
        "batch-size": 5,
        "lora-r": 4,
        "gradient-accumulation-steps": 2,
        "lora-dropout": 0,
        "learning-rate": 0.01,
        "check-data": "off",
    }
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


@pytest.fixture
def launch(tmp_path):
    """Starts a script in so many processes by accelerate launch, in a folder of its own."""
    started = []

    def start(count: int, how: tuple[str, ...], folder: Path, script: str, *arguments: str) -> subprocess.Popen:
        folder.mkdir(exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            *how,
            "--num_processes",
            str(count),
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "--main_process_port",
            "0",
            ROOT / script,
            *arguments,
        ]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()


def done(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "lora_models" / "metrics.jsonl").read_text().splitlines()]


def assert_alike(one: Path, other: Path) -> None:
    """The same steps with the same losses, and the same adapter, within the noise of float32."""
    for ours, theirs in zip(logged(one), logged(other), strict=True):
        for name in ("step", "loss", "eval_loss", "learning_rate"):
            assert ours.get(name) == pytest.approx(theirs.get(name), abs=2e-5)
    ours, theirs = (load_file(folder / "saved_model" / checkpoints.WEIGHTS) for folder in (one, other))
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).norm() <= 1e-3 * tensor.norm(), name


def train_alone(folder: Path, make_settings, flags: list[str]) -> None:
    outputs = ("--checkpoint-dir", str(folder / "lora_models"), "--model-path", str(folder / "saved_model"))
    finetune.main(make_settings(*flags, *outputs))


def rank_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("RANK")
    except psutil.Error:
        return None


@pytest.mark.slow
def test_two_processes_are_as_one_in_luck_and_out_of_it(launch, flags, make_settings, tmp_path):
    alone = tmp_path / "alone"
    train_alone(alone, make_settings, flags)
    runs = [
        ["straight"],
        ["short of memory"],
        ["interrupted"],
        ["straight", "--lora-dropout", "0.1"],
        ["none fits", "--checkpoint-dir", "bad", "--model-path", "bad2"],
    ]
    process = launch(2, PLAIN, tmp_path / "two", "tests/launched.py", json.dumps(runs), *flags)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 1, output
    folders = [tmp_path / "two" / str(number) for number in range(len(runs))]

    assert_alike(alone, folders[0])
    assert output.count("SQLoRA fine-tuning") == len(runs), output
    assert "10 rows a step, over 2 processes" in output
    assert {path.name for path in (folders[0] / "saved_model").iterdir()} == {
        ".lock",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "sqlora.json",
    }
    assert (folders[0] / "lora_models" / "loss.png").is_file()
    assert (folders[0] / "lora_models" / f"checkpoint-{STEPS}" / "rng_state_1.pth").is_file()

    assert_alike(alone, folders[1])

    assert [(folders[2] / f"rank_{rank}").read_text() for rank in range(2)] == [str(int(signal.SIGINT))] * 2
    assert [path.name for path in sorted((folders[2] / "lora_models").glob("checkpoint-*"))] == [
        "checkpoint-2",
        "checkpoint-3",
    ]
    assert json.loads((folders[2] / "saved_model" / "sqlora.json").read_text())["status"] == "interrupted"
    assert output.count("SIGINT: finishing this step") == 1

    assert output.count("error: a row of ") == 1  # of the second process, which alone fails
    assert "2" in (codes := re.findall(r"exitcode  : (-?\d+)", output))
    assert {*codes} <= {"2", "143"}  # on a slow machine the launcher may be faster
    assert "Error:" not in output.partition("error: a row of ")[0]

    # A process that is killed takes the other with it, soon, and the run goes on from its last whole checkpoint.
    killed = tmp_path / "killed"
    more = ["--lora-dropout", "0.1"]
    process = launch(2, PLAIN, killed, "finetune.py", *flags, *more)
    end = time.monotonic() + 200
    while not (checkpoint := checkpoints.newest(killed / "lora_models")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    ranks = {rank_of(child): child for child in psutil.Process(process.pid).children(recursive=True)}
    ranks["1"].kill()
    start = time.monotonic()
    output, _ = process.communicate(timeout=100)
    assert process.returncode != 0
    assert time.monotonic() - start < 60
    assert not ranks["0"].is_running()
    assert output.count("error: one of the 2 processes has ended") == 1, output
    assert checkpoints.step_of(checkpoint) == 2
    assert "Traceback" not in output.partition("torch/distributed/elastic")[0], output
    done(launch(2, PLAIN, killed, "finetune.py", *flags, *more, "--resume"))
    assert_alike(folders[3], killed)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "how", "more"), [(4, PLAIN, ()), (2, FSDP, ("--max-tokens-per-pass", "150"))])
def test_four_processes_and_a_base_that_two_share_are_as_one(launch, flags, make_settings, tmp_path, count, how, more):
    alone, together = tmp_path / "alone", tmp_path / "together"
    train_alone(alone, make_settings, flags)
    output = done(launch(count, how, together, "finetune.py", *flags, *more))
    assert_alike(alone, together)
    assert ("which share the base (FSDP2)" in output) == (how is FSDP)


def test_what_is_wrong_for_all_is_reported_once(launch, tmp_path):
    process = launch(2, PLAIN, tmp_path / "run", "finetune.py", "--batch-sise", "4")
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert output.count("--batch-sise") == 1


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_hold_every_row_once(monkeypatch, world):
    for count in (1, 5, 8, 33):
        shares = []
        for rank in range(world):
            monkeypatch.setattr(
                distributed, "rank_info", lambda rank=rank: distributed.RankInfo(rank, world, rank, world, False)
            )
            shares.append(distributed.rows_of_rank(list(range(count))))
        assert [*itertools.chain(*shares)] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (
            {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"},
            (3, 4, 1, 2, True),
        ),
        (
            {
                "OMPI_COMM_WORLD_RANK": "1",
                "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            },
            (1, 2, 1, 2, False),
        ),
        ({"ACCELERATE_USE_FSDP": "true", "RANK": "0", "WORLD_SIZE": "1"}, (0, 1, 0, 1, False)),
    ],
)
def test_launchers_are_understood_and_hidden(names, found):
    environment = {name: value for name, value in os.environ.items() if "RANK" not in name and "WORLD" not in name}
    program = (
        "import os, sys; from sqlora.system import distributed as d; h = d.rank_info(); d.configure_rank(); "
        "known = {*os.environ}; "
        "print((h.rank, h.world, h.local_rank, h.local_world, h.sharded), known & {'RANK', 'ACCELERATE_USE_FSDP'}, "
        "os.environ.get('CUDA_VISIBLE_DEVICES'), 'torch' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment | names | {"CUDA_VISIBLE_DEVICES": "5,7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    device = "5,7" if found[1] == 1 else "7"
    assert output == f"{found} set() {device} False\n"


@pytest.mark.parametrize(
    ("given", "local_rank", "left"),
    [
        (None, 1, "1"),
        ("5,7", 1, "7"),
        ("5,7", 2, ""),
        ("5", 0, "5"),
        ("GPU-a", 1, "GPU-a"),
        ("", 1, ""),
        ("-1", 1, "-1"),
    ],
)
def test_a_process_gets_a_device_of_those_that_it_may_have(monkeypatch, given, local_rank, left):
    for name in distributed.VISIBLE:
        monkeypatch.delenv(name, raising=False)
        if given is not None:
            monkeypatch.setenv(name, given)
    monkeypatch.setattr(distributed, "rank_info", lambda: distributed.RankInfo(local_rank, 4, local_rank, 4, False))
    distributed.configure_rank()
    assert [os.environ[name] for name in distributed.VISIBLE] == [left, left]
    for name in distributed.VISIBLE:
        monkeypatch.delenv(name)


WAITS = """
import sys, time
from datetime import timedelta
from sqlora.system import distributed

distributed.TIMEOUT = timedelta(seconds=2)
distributed.configure_rank()
distributed.init_process_group("cpu")
if not distributed.is_main_process():
    time.sleep(5)
print(distributed.gather_bytes(b"x"), flush=True)
if not distributed.is_main_process():
    time.sleep(8)
try:
    distributed.all_gather_int(0, distributed.TIMEOUT)
except distributed.PeerLost:
    print("lost", flush=True)
"""


@pytest.mark.slow
def test_who_works_is_waited_for_and_who_hangs_in_training_is_not():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WAITS],
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert outputs[0] == "[b'x', b'x']\nlost\n"
    assert outputs[1].startswith("None\n")


def test_orders_to_accelerate_that_would_not_be_carried_out_are_refused():
    environment = os.environ | {"RANK": "0", "WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}
    ended = subprocess.run([sys.executable, ROOT / "finetune.py"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "fsdp_version 1; set it to 2" in ended.stderr
