"""Errors of kernels: small, too large, NaN, or an exception."""

import pytest
import torch

from sqlora.doctor import tolerance
from sqlora.doctor.result import OK, WRONG

EXACT = torch.linspace(-1, 1, 1000, dtype=torch.float64)


def result(got):
    return tolerance.check_kernel(
        "sum", "update torch", lambda: {"output": tolerance.error_of(got, EXACT, torch.bfloat16, 64)}
    )


def test_rounding_is_ok():
    assert result(EXACT.to(torch.bfloat16)).status == OK


@pytest.mark.parametrize("wrong", [EXACT * 1.1, EXACT * float("nan"), EXACT.index_fill(0, torch.tensor([500]), 9.0)])
def test_what_is_far_off_or_off_in_one_place_is_wrong(wrong):
    found = result(wrong)
    assert found.status == WRONG
    assert found.detail.startswith("output: error")
    assert found.remedy == "update torch"


def test_what_a_kernel_raises_is_wrong():
    def fail():
        raise RuntimeError("no kernel image\nfor this device")

    found = tolerance.check_kernel("sum", "update torch", fail)
    assert (found.status, found.remedy) == (WRONG, "update torch")
    assert "\n" not in found.detail
    assert "no kernel image" in found.detail


def test_random_tensors_are_the_same_each_time_and_leave_torchs_own_numbers():
    state = torch.get_rng_state()
    first, second = (tolerance.random_tensors(torch.float32, (3, 4))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
