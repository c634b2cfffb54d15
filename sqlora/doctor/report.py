"""What the doctor writes for others to read (`--report FILE`): its checks, and a short run beside the expected one.

No names and no paths of the user's are in it. expected.json is the run of a CPU in float32, which this module prints:

    python -m sqlora.doctor.report > sqlora/doctor/expected.json
"""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlora.doctor.environment import ROOT
from sqlora.doctor.result import OK, WRONG, CheckResult
from sqlora.settings.settings import Settings
from sqlora.storage import atomic
from sqlora.storage.outputs import FileKind
from sqlora.system.errors import UserError, one_line

if TYPE_CHECKING:
    import torch

    from sqlora.model.device import Device

REPORT = FileKind("a report of the doctor", lambda file: '"sqlora report"' in file.read_text(encoding="utf-8")[:80])
EXPECTED = Path(__file__).with_name("expected.json")
COUNT = 10  # of training steps, and of answers
TRAIN = f"--max-steps {COUNT} --warmup-steps 2 --logging-steps 1 --eval-steps {COUNT} --save-steps {COUNT} " + (
    "--validation-rows 8 --packing prefix --compile off"  # rows in one order, whatever the device
)
ANSWER = "--model adapter --no-evaluate --constrain off --max-new-tokens 40"
# Largest share by which a loss may differ. In bfloat16 1.4 % was seen on a CPU.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05}
LEAST_SAME = COUNT // 2  # answers: rounding alone may turn one
PRIVATE = ("base model", "memory", "disk")  # checks of the user's own files
VARIABLES = ("CCL_", "ZE_", "SYCL_", "UR_", "IGC_", "NEO", "CUDA_VISIBLE", "OMP_")
A_PATH = re.compile(r"(?<![\w.])(?:~\w*|[A-Za-z]:)?[\\/](?:[^\s\\/]+[\\/])+")


def write_report(file: Path, settings: Settings, results: list[CheckResult]) -> list[CheckResult]:
    """Writes the report with these results of the doctor and with those of the short run, which are returned."""
    device, run = None, None
    try:
        from sqlora.model import loading

        device = loading.choose_device(settings)
        run = demo_run(device.type, _name(device.dtype))
        further = list(compare_with_expected(device, run))
    except (UserError, ImportError) as error:
        further = [CheckResult("short run", WRONG, one_line(error), "the lines above may say what to do")]
    text = make_report(device, results + further, run)
    atomic.replace_file(file, lambda partial: partial.write_text(text, encoding="utf-8"))
    return further


def compare_with_expected(device: Device, run: dict[str, Any]) -> Iterator[CheckResult]:
    """The losses and answers of `demo_run` on a device, against those of a CPU in float32."""
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    dtype = _name(device.dtype)
    off = [abs(here / there - 1) for here, there in zip(run["losses"], expected["losses"], strict=True)]
    same = sum(here == there for here, there in zip(run["answers"], expected["answers"], strict=True))
    remedy = "send the report (docs/xpu.md); DEVICE (--device) cpu computes right"
    for name, right, detail in (
        (
            "training steps",
            all(one <= TOLERANCE[dtype] for one in off),
            f"losses differ by {max(off):.2g} at most, limit {TOLERANCE[dtype]:g}",
        ),
        ("answers", same >= LEAST_SAME, f"{same} of {COUNT} are the expected ones, at least {LEAST_SAME} have to be"),
    ):
        yield CheckResult(f"{COUNT} {name}", OK if right else WRONG, detail, "" if right else remedy)


def demo_run(device: str, dtype: str) -> dict[str, Any]:
    """Losses of ten steps of the demo's model, and its answers to ten questions. Raises UserError where a script fails.

    The scripts run in processes of their own, so that a driver that crashes does not take the report with it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = (ROOT / "demo" / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "questions.jsonl").write_text("".join(lines[:COUNT]), encoding="utf-8")
        common = f"--preset tiny --device {device} --dtype {dtype} --checkpoint-dir run --model-path adapter"
        _call(folder, f"finetune.py {common} {TRAIN}")
        _call(folder, f"generate.py {common} {ANSWER} --test-data questions.jsonl --output answers.jsonl")
        steps, answers = (
            [json.loads(line) for line in (folder / file).read_text(encoding="utf-8").splitlines()]
            for file in ("run/metrics.jsonl", "answers.jsonl")
        )
    return {
        "losses": [round(step["loss"], 5) for step in steps],
        "answers": [answer["adapter"] for answer in answers],
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _call(folder: Path, command: str) -> None:
    script, *flags = command.split()
    done = subprocess.run(
        [sys.executable, ROOT / script, *flags], cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise UserError(f"{script} ended with {done.returncode}: {last[0]}; python {command} shows all")


def make_report(device: Device | None, results: list[CheckResult], run: dict[str, Any] | None) -> str:
    """The report as JSON: the checks, the device, versions, variables of drivers, and the run beside the expected."""
    report = {
        "sqlora report": 1,
        "checks": [asdict(result) for result in results if result.name not in PRIVATE],
        "device": _properties(device),
        "versions": _versions(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)},
        "run": run,
        "expected": json.loads(EXPECTED.read_text(encoding="utf-8")),
    }
    return json.dumps(_map_text(report), indent=1) + "\n"


def without_paths(text: str) -> str:
    """The text without folders, and without the user's name."""
    for private in (str(ROOT), str(Path.home()), os.getcwd(), tempfile.gettempdir()):
        text = text.replace(private + os.sep, "/") if len(private) > 1 else text
    text = A_PATH.sub("…/", text)
    return re.sub(rf"\b{re.escape(getpass.getuser())}\b", "…", text)


def _map_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _map_text(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_map_text(one) for one in value]
    return without_paths(value) if isinstance(value, str) else value


def _properties(device: Device | None) -> dict[str, Any]:
    import torch

    if device is None or device.type == "cpu":
        return {"name": device.name} if device else {}
    properties = torch.get_device_module(device.type).get_device_properties()
    names = [name for name in dir(properties) if not name.startswith("_") and "uuid" not in name]  # which tells cards
    values = {name: getattr(properties, name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, (str, int, float))}


def _versions() -> dict[str, str]:
    """Of torch, what it was built with, and the libraries above it."""
    wanted = ["torch", "triton", "pytorch-triton-xpu", "transformers", "peft", "accelerate", "bitsandbytes"]
    wanted += [re.split(r"[=<>;\s\[]", line)[0] for line in metadata.requires("torch") or [] if "extra" not in line]
    installed = {name.lower().replace("_", "-"): one.version for one in metadata.distributions() if (name := one.name)}
    return {name: installed[name] for name in wanted if name in installed}


if __name__ == "__main__":
    print(json.dumps(demo_run("cpu", "float32"), indent=1))
