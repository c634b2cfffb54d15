"""The doctor as a user runs it: whole, with faults injected, and with careless flags."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import patience
import pytest
import torch

from sqlora.doctor import __main__ as doctor

ROOT = Path(__file__).parents[2]


def run(*flags):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "sqlora.doctor", *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )


def exit_status(*flags):
    with pytest.raises(SystemExit) as ended:
        doctor.main(list(flags))
    return ended.value.code


def test_this_machine_is_able_and_right(tmp_path):
    done = run("--preset", "tiny", "--device", "cpu", "--json", "--checkpoint-dir", str(tmp_path / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["status"] in ("ok", "slow")
    assert all(check.keys() == {"name", "status", "detail", "remedy"} for check in found["checks"])
    assert all(check["detail"] and bool(check["remedy"]) == (check["status"] != "ok") for check in found["checks"])
    names = [check["name"] for check in found["checks"]]
    for name in (
        "versions",
        "libraries",
        "device cpu",
        "chosen device",
        "matrix products, float16",
        "bitsandbytes library",
        "nf4 round trip",
        "packed pass, prefix",
        "FlexAttention",
        "torch.compile",
        "base model",
        "memory",
        "disk",
    ):
        assert name in names
    assert sum(name.startswith(("attention, ", "slot attention, ", "4-bit ")) for name in names) == 5
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_is_reported_with_its_remedy(monkeypatch, capsys):
    right = torch.nn.functional.linear

    def wrong(x, weight, bias=None):
        return right(x, weight, bias) * (1 if x.dtype == torch.float64 else float("nan"))

    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(torch.nn.functional, "linear", wrong)
    assert exit_status("--preset", "tiny", "--device", "cpu", "--low-bit", "none") == 1
    shown = capsys.readouterr().out
    assert "WRONG  matrix products" in shown
    assert "remedy: update torch" in shown
    assert "WRONG  packed pass, prefix" in shown
    assert "round trip" not in shown
    assert " WRONG" in shown.splitlines()[-1]


def test_nothing_is_tried_without_what_it_needs(monkeypatch, capsys):
    right = metadata.version

    def version(name):
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return right(name)

    monkeypatch.setattr(metadata, "version", version)
    assert exit_status("--json") == 1
    (found,) = json.loads(capsys.readouterr().out)["checks"]
    assert (found["name"], found["remedy"]) == ("versions", "pip install -r requirements.txt")


def test_a_device_that_is_not_there_is_wrong(capsys):
    absent = "cuda" if not torch.cuda.is_available() else "xpu"
    assert exit_status("--device", absent, "--json") == 1
    found = json.loads(capsys.readouterr().out)["checks"][-1]
    assert (found["name"], found["status"]) == ("chosen device", "WRONG")
    assert "use one of these or auto" in found["remedy"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--devise", "cpu"), "--device"),
        (("cpu",), "unexpected extra argument (cpu)"),
        (("--json=yes",), "--json"),
        (("--device", "gpu"), "--device"),
        (("--device",), "--device"),
    ],
)
def test_a_careless_flag_is_one_line(capsys, flags, message):
    assert exit_status(*flags) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert message in shown.err


def test_help_needs_no_torch():
    done = run("--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    assert "--base-model" in done.stdout
    code = "import sys, sqlora.doctor.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=patience.SECONDS).returncode == 0
