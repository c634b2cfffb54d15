"""The error of a kernel against the right result, and the check that says whether it is too large."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sqlora.doctor.result import OK, WRONG, CheckResult
from sqlora.model.device import Device
from sqlora.model.precision import limit
from sqlora.system.errors import one_line

OUTLIER = 5  # one of a million normally distributed errors is five times their root mean square


@dataclass(frozen=True)
class Error:
    """The error of a result: root mean square and largest, as shares of the right result's size."""

    mean: float
    worst: float
    limit: float

    @property
    def small(self) -> bool:
        return self.mean <= self.limit and self.worst <= OUTLIER * self.limit  # False for NaN


def error_of(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype, terms: int) -> Error:
    """The error of `got`, sums of `terms` terms computed in `dtype`; `want` is float64 on the CPU."""
    off, size = (got.detach().double().cpu() - want).abs(), want.square().mean().sqrt()
    return Error(
        (off.square().mean().sqrt() / size).item(), (off / (size + want.abs())).max().item(), limit(dtype, terms)
    )


def check_kernel(name: str, remedy: str, measure: Callable[[], dict[str, Error]]) -> CheckResult:
    """The errors that `measure` finds, as a CheckResult; what a kernel raises is WRONG too."""
    try:
        errors = measure()
    except torch.OutOfMemoryError:
        return CheckResult(
            name, WRONG, "there is no memory left for it", "end other programs that hold the device's memory"
        )
    except Exception as error:  # whatever a kernel may raise
        return CheckResult(name, WRONG, one_line(error), remedy)
    wrong = {label: error for label, error in errors.items() if not error.small}
    if not wrong:
        largest = max(errors.values(), key=lambda error: error.mean / error.limit)
        return CheckResult(name, OK, f"error {largest.mean:.2g}, below {largest.limit:.2g}")
    messages = (
        f"{label}: error {error.mean:.2g} (a right one is below {error.limit:.2g})" for label, error in wrong.items()
    )
    return CheckResult(name, WRONG, ", ".join(itertools.islice(messages, 3)), remedy)


def random_tensors(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Normally distributed numbers on the CPU, the same ones every time; torch's own random numbers are left as they
    were.
    """
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def on_device(tensor: torch.Tensor, device: Device) -> torch.Tensor:
    """The tensor on the device, as a leaf that gets a gradient."""
    return tensor.detach().to(device.torch_device).requires_grad_()


def dtype_name(dtype: torch.dtype) -> str:
    """torch.bfloat16 -> bfloat16"""
    return str(dtype).removeprefix("torch.")
