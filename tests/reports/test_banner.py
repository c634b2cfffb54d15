"""The lines about a run."""

from pathlib import Path

import pytest

from sqlora.model.device import Device, described_device
from sqlora.reports import banner
from sqlora.training.packing.plan import PackingPlan


def test_how_rows_go_through_the_model(capsys):
    banner.print_packing(PackingPlan("tree", "as PACKING asks", False, "no Triton here"))
    assert "tree (as PACKING asks); compile off (no Triton here)" in capsys.readouterr().out


def test_a_warm_up_as_long_as_the_run_is_noted(make_settings, capsys):
    import torch

    cpu = Device("cpu", "a CPU", "", torch.float32, "")
    banner.print_training(make_settings("--max-steps", "4", "--warmup-steps", "2"), cpu)
    assert "note" not in capsys.readouterr().out
    banner.print_training(make_settings("--max-steps", "4", "--warmup-steps", "4"), cpu)
    assert "note: WARMUP_STEPS is 4 of 4 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fingerprint", "said"),
    [(None, "no sqlora.json"), ({"quantisation": "nf4"}, "trained on nf4 weights"), ({"quantisation": "none"}, "")],
)
def test_what_of_an_adapter_could_not_be_checked(fingerprint, said, capsys):
    banner.print_adapter(Path("adapter"), fingerprint, "none")
    shown = capsys.readouterr().out
    assert said in shown
    assert ("note" in shown) == bool(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "yes"),
        ({"LOW_BIT": "nf4", "GRADIENT_CHECKPOINTING": True}, "no: add --low-bit nf4 --gradient-checkpointing"),
        (None, "no: take a smaller model, or lower MAX_LENGTH (--max-length)"),
    ],
)
def test_whether_a_run_fits_on_a_card_that_is_not_here(changes, said, capsys):
    banner.print_fit(described_device("xpu", "auto", 16_000_000_000), changes)
    assert capsys.readouterr().out.split(maxsplit=4) == ["fits", "into", "16.0", "GB", said + "\n"]
