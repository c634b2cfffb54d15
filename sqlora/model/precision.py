"""How far off a right kernel may be.

A kernel rounds some numbers on its way to the compute type (inputs, scales, weights, the result), each by at most half an eps of
that type, with random signs. bfloat16 products are added in float32; float16 and float32 ones may be added in their own type,
where k roundings of random sign come to sqrt(k) of one. So the root mean square of the error, as a share of the result's, is
below `eps + sqrt(k) * eps of the sums`, whatever the shape and the kernel: at most half of that was measured. The limit is three
times that. The faults known so far are far beyond: zeros and NaN (torch-xpu-ops 5220, compute-runtime 1000), no gradient at all,
a gemv with 180 times the error of a right one (bitsandbytes 1932).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sqlora.doctor.result import OK, WRONG, Result, one_line
from sqlora.model.device import Device

MARGIN = 3  # between what a right kernel may be off and the limit
OUTLIER = 5  # one number of a million with normally distributed errors is off by five times their root mean square


@dataclass(frozen=True)
class Error:
    """How far a result is from the right one: root mean square and worst number, as shares of the right one's size."""

    mean: float
    worst: float
    limit: float

    @property
    def small(self) -> bool:
        return self.mean <= self.limit and self.worst <= OUTLIER * self.limit  # which NaN is not


def limit(dtype: torch.dtype, terms: int) -> float:
    """The largest error of sums of so many terms, computed in `dtype`, that a right kernel may have."""
    eps = torch.finfo(dtype).eps
    added = torch.finfo(torch.float32 if dtype == torch.bfloat16 else dtype).eps
    return MARGIN * (eps + added * terms**0.5)


def limit_of_loss(dtype: torch.dtype, size: int) -> float:
    """By how much of itself the mean loss of some dozens of targets may differ between two right ways through a model.

    `size` is that of its hidden states. A logit is a sum of so many terms, whose errors have random signs in the mean. Sums in
    float16 are taken for no worse than bfloat16's, which the matrix units of today's devices keep; and float64 for no better than
    float32, in which transformers' models compute their norms and softmax.
    """
    return max(min(limit(dtype, size), limit(torch.bfloat16, size)), limit(torch.float32, size))


def limit_of_gradient(dtype: torch.dtype, size: int, layers: int) -> float:
    """The same of the norm of a gradient, which has come through all layers: errors of random sign grow with the root of them."""
    return limit_of_loss(dtype, size) * layers**0.5


def error_of(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype, terms: int) -> Error:
    """Of `got`, sums of so many terms, computed in `dtype`; `want` is float64 on the CPU."""
    off, size = (got.detach().double().cpu() - want).abs(), want.square().mean().sqrt()
    return Error((off.square().mean().sqrt() / size).item(), (off / (size + want.abs())).max().item(), limit(dtype, terms))


def judge(name: str, remedy: str, measure: Callable[[], dict[str, Error]]) -> Result:
    """The errors that `measure` finds as a Result; what it raises, as kernels do, is one too."""
    try:
        errors = measure()
    except torch.OutOfMemoryError:
        return Result(name, WRONG, "there is no memory left for it", "end what else holds the device's memory")
    except Exception as error:  # whatever a kernel may raise
        return Result(name, WRONG, one_line(error), remedy)
    wrong = {label: error for label, error in errors.items() if not error.small}
    if not wrong:
        largest = max(errors.values(), key=lambda error: error.mean / error.limit)
        return Result(name, OK, f"error {largest.mean:.2g}, below {largest.limit:.2g}")
    told = (f"{label}: error {error.mean:.2g} (a right one is below {error.limit:.2g})" for label, error in wrong.items())
    return Result(name, WRONG, ", ".join(itertools.islice(told, 3)), remedy)


def drawn(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Normally distributed numbers on the CPU, the same ones every time; torch's own random numbers are left as they were."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def leaf(tensor: torch.Tensor, device: Device) -> torch.Tensor:
    """The tensor on the device, to take a gradient."""
    return tensor.detach().to(device.place).requires_grad_()


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
