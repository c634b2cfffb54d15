"""Both scripts as on an Intel GPU, on this machine's CPU (remapped.py); and faults that must not get through."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import patience
import pytest
import small_data

from sqlora.data import dataset

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow  # each starts processes that import torch
RUN = (
    "--max-steps 4 --eval-steps 2 --save-steps 2 --logging-steps 1 --warmup-steps 1 --validation-rows 4 --batch-size 4"
)
SAME = "--dtype float32 --packing prefix --compile off --lora-dropout 0 --low-bit none --best-by loss"
ANSWERS = "--max-new-tokens 30 --dtype float32 --low-bit none --output answers.jsonl"


@pytest.fixture
def call(llama_folder, tmp_path):
    """Runs a script or a module in a folder, on the card, or on the CPU."""
    rows = tmp_path / "rows.jsonl"
    dataset.write_rows(rows, small_data.ROWS)

    def run(
        folder: str, command: str, device: str = "xpu", root: Path = ROOT, card: str = "", launcher: str = ""
    ) -> subprocess.CompletedProcess:
        first, *flags = command.split()
        (tmp_path / folder).mkdir(exist_ok=True)
        given = f"--test-data {rows}" if first == "generate.py" else f"--data-path {rows}"
        command = [sys.executable, *launcher.split(), *([root / "tests" / "remapped.py"] if device == "xpu" else [])]
        command += [first if first == "-m" else root / first, *flags, "--base-model", llama_folder, *given.split()]
        return subprocess.run(
            [*map(str, command), *(() if first == "-m" else ("--device", device))],
            cwd=tmp_path / folder,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "120", "PYTHONPATH": str(root), "CARD": card},
            capture_output=True,
            text=True,
            timeout=patience.SECONDS,
        )

    return run


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_run_is_that_of_the_cpu(call, tmp_path):
    """Trained, resumed, asked and merged, with the same losses and answers."""
    for device in ("xpu", "cpu"):
        trained = call(device, f"finetune.py {RUN} {SAME}", device)
        assert trained.returncode == 0, trained.stderr
        assert f"device                   {device}" in trained.stdout or device == "cpu"
        answered = call(device, f"generate.py {ANSWERS}", device)
        assert answered.returncode == 0, answered.stderr
        if device == "xpu":
            assert "Pretended GPU" in trained.stdout
            assert "not captured as graphs" in " ".join(answered.stdout.split())
    on_card, on_cpu = (lines(tmp_path / device / "lora_models" / "metrics.jsonl") for device in ("xpu", "cpu"))
    for one, other in zip(on_card, on_cpu, strict=True):
        assert one.keys() == other.keys()
        for key in one.keys() & {"loss", "eval_loss"}:
            assert one[key] == pytest.approx(other[key], rel=1e-4)
    answers = [lines(tmp_path / device / "answers.jsonl") for device in ("xpu", "cpu")]
    assert [row["adapter"] for row in answers[0]] == [row["adapter"] for row in answers[1]]
    merged = call("xpu", "-m sqlora.merge --output merged --device xpu --validation-rows 4")
    assert merged.returncode == 0, merged.stderr


def test_the_default_recipe_and_its_resumption(call):
    """4-bit weights, in float16, as without bfloat16; the compiler fails, and is done without.

    The card is lost in mid-run. Then it reports more memory than it has, and passes are split until they fit.
    """
    trained = call("run", f"finetune.py {RUN} --best-by loss", card="silent,lost")
    assert trained.returncode == 2, trained.stderr
    assert "float16 (the device lacks bfloat16)" in trained.stdout
    error = trained.stderr.splitlines()[-1]
    assert error.startswith("error: the device failed after step 2: level_zero")
    assert re.search("--resume, with --max-tokens-per-pass [0-9]+ if memory may have run out$", error)
    resumed = call("run", f"finetune.py {RUN} --best-by loss --resume", card="lying,short,two")
    assert resumed.returncode == 0, resumed.stderr
    shown = " ".join(resumed.stdout.split())
    assert "finished" in shown
    assert re.search("a forward pass of [0-9,]+ tokens did not fit into memory; from now on one has at most", shown)
    assert "weights are unpacked in memory" in shown


def test_two_processes(call):
    """They ask for xccl between their cards."""
    launcher = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no "
    launcher += "--dynamo_backend no --main_process_port 0"
    trained = call("two", f"finetune.py {RUN} {SAME}", launcher=launcher)
    assert trained.returncode == 0, trained.stderr
    assert "over 2 processes" in trained.stdout


def test_the_doctor_examines_the_card(call):
    done = call("doctor", "-m sqlora.doctor --json --device xpu", card="bare,silent,two")
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    names = [checks[f"device xpu:{number}"]["detail"].partition(",")[0] for number in (0, 1)]
    assert names == ["Intel(R) Pretended GPU", "Intel(R) Graphics"]
    assert "free memory is unknown" in checks["device xpu:1"]["detail"]
    assert checks["chosen device"]["detail"].startswith("xpu:0")
    assert checks["known faults"]["status"] == checks["oneAPI"]["status"] == "ok"
    assert "which is not for xpu" in checks["bitsandbytes library"]["detail"]
    assert "no Triton" in checks["torch.compile"]["detail"]


@pytest.mark.parametrize(
    ("file", "sound", "faulty", "command"),
    [
        (
            "sqlora/training/sql_trainer.py",
            "total = torch.zeros((), device=self.args.device)",
            "total = torch.zeros(()).cuda()",
            f"finetune.py {RUN} {SAME}",
        ),
        (
            "sqlora/generation/decoder.py",
            "with self._caches_given():",
            'with self._caches_given(), torch.autocast("cuda", dtype=torch.bfloat16):',
            f"generate.py --model base {ANSWERS}",
        ),
        (
            "sqlora/training/memory_estimate.py",
            "give_memory_back(always=True)",
            "torch.cuda.empty_cache()",
            f"finetune.py {RUN} {SAME}",
        ),
    ],
    ids=["cuda() in training", "autocast in generation", "torch.cuda in training"],
)
def test_a_fault_of_those_who_have_cuda_is_caught(call, tmp_path, file, sound, faulty, command):
    root = tmp_path / "copy"
    for name in ("sqlora", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("finetune.py", "generate.py", "config.py"):
        shutil.copy(ROOT / name, root)
    text = (root / file).read_text()
    assert sound in text
    (root / file).write_text(text.replace(sound, faulty, 1))
    done = call("faulty", command, root=root)
    assert done.returncode != 0
    assert "CudaAskedForError" in done.stderr
