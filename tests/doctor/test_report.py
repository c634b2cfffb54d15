"""The doctor's report: a short run beside the expected one, and nothing of the user's own."""

import getpass
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sqlora.doctor import __main__ as doctor
from sqlora.doctor import report
from sqlora.doctor.result import OK, WRONG, CheckResult
from sqlora.model import device
from sqlora.system.errors import UserError

CPU = device.choose_device("cpu", "float32")
EXPECTED = json.loads(report.EXPECTED.read_text())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{Path.home()}/my models/llama is a folder", "/my models/llama is a folder"),
        (f"not loaded ({report.ROOT}/.venv/lib/x.so: no such file)", "not loaded (…/x.so: no such file)"),
        ("/opt/intel/oneapi/setvars.sh", "…/setvars.sh"),
        (r"C:\Users\someone\x.dll", "…/x.dll"),
        ("~someone/run/metrics", "…/metrics"),
        (f"owner {getpass.getuser()}, 3", "owner …, 3"),
        ("(github.com/intel/torch-xpu-ops/issues/4238)", "(github.com/intel/torch-xpu-ops/issues/4238)"),
        ("bfloat16/float16, 3 / 4", "bfloat16/float16, 3 / 4"),
    ],
)
def test_paths_and_the_users_name_are_taken_out(text, shown):
    assert report.without_paths(text) == shown


def test_a_report_has_what_others_need_and_nothing_of_the_users(monkeypatch):
    monkeypatch.setenv("CCL_ALLREDUCE", "ring")
    monkeypatch.setenv("ZE_ROOT", "/home/someone/level zero")
    results = [
        CheckResult("libraries", WRONG, "torch does not load (/home/someone/lib/x.so)", "install it"),
        CheckResult("base model", OK, "someone/secret, a folder"),
    ]
    text = report.make_report(CPU, results, EXPECTED)
    assert "someone" not in text
    written = json.loads(text)
    assert [check["name"] for check in written["checks"]] == ["libraries"]
    assert written["variables"].items() >= {"CCL_ALLREDUCE": "ring"}.items()
    assert written["versions"]["torch"] == torch.__version__
    assert written["run"] == written["expected"] == EXPECTED
    assert written["device"]["name"] == CPU.name


@pytest.mark.parametrize(
    ("dtype", "loss", "changed", "statuses"),
    [
        (torch.float32, 1.0, 0, [OK, OK]),
        (torch.float32, 1.01, 0, [WRONG, OK]),
        (torch.bfloat16, 1.01, 5, [OK, OK]),
        (torch.bfloat16, 1.1, 6, [WRONG, WRONG]),
        (torch.float16, float("nan"), 0, [WRONG, OK]),
    ],
)
def test_a_run_that_is_not_the_expected_one(dtype, loss, changed, statuses):
    run = {
        "losses": [*EXPECTED["losses"][:-1], EXPECTED["losses"][-1] * loss],
        "answers": [*[""] * changed, *EXPECTED["answers"][changed:]],
    }
    found = list(report.compare_with_expected(replace(CPU, dtype=dtype), run))
    assert [result.status for result in found] == statuses
    assert [bool(result.remedy) for result in found] == [status == WRONG for status in statuses]


def test_a_script_that_fails_is_named():
    absent = "cuda" if not torch.cuda.is_available() else "xpu"
    with pytest.raises(UserError, match=r"finetune.py ended with 2: error: DEVICE \(--device\)"):
        report.demo_run(absent, "float32")


def test_a_file_of_another_kind_is_not_written_over(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--report", str(tmp_path / "thesis.txt")])
    assert ended.value.code == 2
    assert "a report of the doctor" in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_of_this_machine(tmp_path, make_settings):
    """The scripts on this CPU, in float32, give the losses and answers that the repository has."""
    results = report.write_report(tmp_path / "report.json", make_settings(), [])
    assert [result.status for result in results] == [OK, OK], results
    assert report.REPORT.fits(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert len(written["run"]["losses"]) == len(written["run"]["answers"]) == report.COUNT
    assert [check["name"] for check in written["checks"]] == ["10 training steps", "10 answers"]
