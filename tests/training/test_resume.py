"""A run that is interrupted and killed, and goes on: with real signals to finetune.py, and the same result bit for
bit.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import patience
import pytest

import finetune
from sqlora.storage import checkpoints
from sqlora.system.errors import UserError
from sqlora.training import run_folder

ROOT = Path(__file__).parents[2]
STEPS = 40
# finetune.py, to which a signal comes in the middle of a step.
SIGNALLED = """
import os, sys
step, number, *sys.argv = sys.argv[1:]
import finetune
from sqlora.settings.command_line import load_settings
from sqlora.system.errors import exit_on_user_error
from sqlora.training.sql_trainer import SqlTrainer

rightly = SqlTrainer.training_step

def training_step(self, *arguments, **keywords):
    loss = rightly(self, *arguments, **keywords)
    if self.state.global_step + 1 == int(step):
        SqlTrainer.training_step = rightly
        os.kill(os.getpid(), int(number))
    return loss

SqlTrainer.training_step = training_step
with exit_on_user_error():
    finetune.main(load_settings(sys.argv[1:], ""))
"""

# A run, as far as its folders are concerned.
WRITES = """
import sys
from sqlora.settings.command_line import load_settings
from sqlora.training import run_folder

settings = load_settings(sys.argv[1:], "")
run_folder.check_outputs(settings)
with run_folder.locked(settings):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(llama_folder, tmp_path):
    """Starts finetune.py over rows of the test's own, in a folder."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps(
                {
                    "question": f"How many {i}?" + " really" * (i % 4),
                    "answer": f"SELECT {i} FROM t{i}",
                    "context": f"CREATE TABLE t{i} (a INTEGER)",
                }
            )
            + "\n"
            for i in range(60)
        )
    )
    flags = {
        "base-model": llama_folder,
        "data-path": rows,
        "max-steps": STEPS,
        "warmup-steps": 2,
        "eval-steps": 5,
        "save-steps": 10,
        "device": "cpu",
        "logging-steps": 7,
        "validation-rows": 4,
        "batch-size": 4,
        "gradient-accumulation-steps": 2,
        "lora-dropout": 0.1,
        "packing": "off",
    }
    started = []

    def run(folder: Path, *more: str, step: int = 0, number: int = 0) -> subprocess.Popen:
        """With `step`, the signal `number` comes in it, once half of its rows have their gradients."""
        folder.mkdir(exist_ok=True)
        given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        script = ["-c", SIGNALLED, str(step), str(number), "finetune.py"] if step else [ROOT / "finetune.py"]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
        started.append(
            subprocess.Popen(
                [sys.executable, *script, *given, *more],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=patience.SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def logged(folder: Path) -> list[tuple]:
    entries = map(json.loads, (folder / "lora_models" / "metrics.jsonl").read_text().splitlines())
    return [(entry["step"], entry.get("loss"), entry.get("eval_loss"), entry.get("learning_rate")) for entry in entries]


@pytest.mark.slow
def test_a_run_interrupted_at_step_13_and_killed_at_step_27_ends_as_a_straight_one(start, tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    done = start(straight)
    _, message = done.communicate(timeout=patience.SECONDS)
    assert done.returncode == 0, message

    first = start(broken, step=13, number=signal.SIGINT)
    _, message = first.communicate(timeout=patience.SECONDS)
    assert first.returncode == 130, message
    assert "interrupted after step 13. Resume with: python finetune.py" in message
    assert json.loads((broken / "saved_model" / "sqlora.json").read_text())["status"] == "interrupted"
    assert checkpoints.newest(broken / "lora_models").name == "checkpoint-13"

    second = start(broken, "--resume", step=27, number=signal.SIGKILL)
    second.communicate(timeout=patience.SECONDS)
    assert second.returncode == -signal.SIGKILL
    assert checkpoints.newest(broken / "lora_models").name == "checkpoint-20"
    third = start(broken, "--resume")
    _, message = third.communicate(timeout=patience.SECONDS)
    assert third.returncode == 0, message

    weights = [(folder / "saved_model" / checkpoints.WEIGHTS).read_bytes() for folder in (straight, broken)]
    assert weights[0] == weights[1]
    assert logged(straight) == logged(broken)
    again = start(broken, "--resume")
    _, message = again.communicate(timeout=patience.SECONDS)
    assert again.returncode == 2
    assert "--max-steps" in message


@pytest.mark.slow
def test_an_interrupt_s_checkpoint_stays_whatever_the_limit(start, tmp_path):
    run = start(tmp_path / "run", "--save-total-limit", "1", step=13, number=signal.SIGINT)
    _, message = run.communicate(timeout=patience.SECONDS)
    assert run.returncode == 130, message
    assert {path.name for path in (tmp_path / "run" / "lora_models").glob("checkpoint-*")} == {
        "checkpoint-10",
        "checkpoint-13",
    }


def test_sigterm_ends_with_143(start, tmp_path):
    process = start(tmp_path / "run")
    metrics = tmp_path / "run" / "lora_models" / "metrics.jsonl"
    wait_for(lambda: metrics.is_file() and metrics.read_text().count("\n") >= 1, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=patience.SECONDS)
    assert process.returncode == 143


def test_two_runs_on_one_folder(tmp_path, make_settings):
    settings = make_settings()
    run_folder.check_outputs(settings)
    flags = ["--checkpoint-dir", settings.CHECKPOINT_DIR, "--model-path", str(tmp_path / "elsewhere")]
    other = subprocess.Popen(
        [sys.executable, "-c", WRITES, *flags], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="--checkpoint-dir.*another run"), run_folder.locked(settings):
            pass
    finally:
        other.kill()
        other.communicate()
    with run_folder.locked(settings):  # a lock dies with its process
        pass


def test_there_is_nothing_to_resume(make_settings):
    with pytest.raises(UserError, match="--resume.*no whole checkpoint"):
        make_settings("--resume")


def test_a_resumed_run_keeps_its_settings(llama_folder, tmp_path, make_settings):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps(
                {
                    "question": f"How many {i}?",
                    "context": f"CREATE TABLE t{i} (a INTEGER)",
                    "answer": f"SELECT {i} FROM t{i}",
                }
            )
            + "\n"
            for i in range(24)
        )
    )
    short = (
        "--base-model",
        str(llama_folder),
        "--data-path",
        str(rows),
        "--max-steps",
        "2",
        "--eval-steps",
        "2",
        "--save-steps",
        "2",
        "--validation-rows",
        "4",
        "--lora-r",
        "4",
    )
    finetune.main(make_settings(*short))
    with pytest.raises(UserError, match="LORA_R.*--lora-r.*is 8.*has 4"):
        make_settings(*short, "--resume", "--lora-r", "8")
    settings = make_settings("--resume", "--max-steps", "4")
    assert (settings.LORA_R, settings.MAX_STEPS, settings.BASE_MODEL) == (4, 4, str(llama_folder))
    rows.write_text(rows.read_text() + rows.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match="DATA_PATH's rows have changed"):
        finetune.main(settings)
