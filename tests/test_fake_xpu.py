"""Large models on an Intel GPU that is not here (fake_xpu.py), and faults that must not get through."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import patience
import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None or sys.platform != "linux", reason="needs g++, to make the card"),
]


def run(shape: str, root: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, root / "tests" / "fake_xpu.py", shape],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )


@pytest.mark.parametrize(("shape", "vocabulary", "layers"), [("codellama-7b", 32016, 32), ("openllama-3b", 32000, 26)])
def test_a_step_of_training_and_answers(shape, vocabulary, layers):
    done = run(shape)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["training"] == ["xpu:0", "torch.float32", []]
    assert found["answers"] == ["xpu:0", "torch.float32", [3, vocabulary]]
    # seven layers each: of answers the prefix, the rests and a step; of training a pass and its way back to the adapter
    assert found["operations"]["bitsandbytes.gemm_4bit.default"] == 4 * 7 * layers
    assert found["operations"]["bitsandbytes.dequantize_4bit.default"] == 7 * layers - 3


@pytest.mark.parametrize(
    ("file", "sound", "faulty", "error"),
    [
        (
            "sqlora/generation/decoder.py",
            "torch.zeros(len(self.lengths), dtype=torch.int64, device=self.device)",
            "torch.zeros(len(self.lengths), dtype=torch.int64)",
            "back to the CPU",
        ),
        (
            "sqlora/training/packing/packed_loss.py",
            '(losses * inputs["weights"])',
            '(losses * inputs["weights"].cpu())',
            "back to the CPU",
        ),
        (
            "sqlora/generation/kv_cache.py",
            "    if (\n        device.type",
            "    return True\n    if (\n        device.type",
            "is a kernel for CUDA alone",
        ),
    ],
    ids=["a buffer on the CPU", "a result on the CPU", "a kernel for CUDA"],
)
def test_a_fault_is_caught(tmp_path, file, sound, faulty, error):
    for name in ("sqlora", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "config.py", tmp_path)
    text = (tmp_path / file).read_text()
    assert sound in text
    (tmp_path / file).write_text(text.replace(sound, faulty, 1))
    done = run("two-layers", tmp_path)
    assert done.returncode != 0
    assert error in done.stderr
