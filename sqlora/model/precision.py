"""How far off a right kernel may be.

A kernel rounds some numbers on its way to the compute type (inputs, scales, weights, the result), each by at most half
an eps of that type, with random signs. bfloat16 products are added in float32; float16 and float32 ones may be added in
their own type, where k roundings of random sign come to sqrt(k) of one. So the root mean square of the error, as a
share of the result's, is below `eps + sqrt(k) * eps of the sums`, whatever the shape and the kernel: at most three
quarters of that was measured (docs/doctor.md). The limit is three times that. The faults known so far are far beyond:
zeros and NaN (torch-xpu-ops 5220, compute-runtime 1000), no gradient at all, a gemv with 180 times the error of a right
one (bitsandbytes 1932).
"""

from __future__ import annotations

import torch

MARGIN = 3  # between what a right kernel may be off and the limit


def limit(dtype: torch.dtype, terms: int) -> float:
    """The largest error of sums of so many terms, computed in `dtype`, that a right kernel may have."""
    eps = torch.finfo(dtype).eps
    added = torch.finfo(torch.float32 if dtype == torch.bfloat16 else dtype).eps
    return MARGIN * (eps + added * terms**0.5)


def limit_of_loss(dtype: torch.dtype, size: int) -> float:
    """By how much of itself the mean loss of some dozens of targets may differ between two right ways through a model.

    `size` is that of its hidden states. A logit is a sum of so many terms, whose errors have random signs in the mean.
    Sums in float16 are taken for no worse than bfloat16's, which the matrix units of today's devices keep; and float64
    for no better than float32, in which transformers' models compute their norms and softmax.
    """
    return max(min(limit(dtype, size), limit(torch.bfloat16, size)), limit(torch.float32, size))


def limit_of_gradient(dtype: torch.dtype, size: int, layers: int) -> float:
    """The same of the norm of a gradient, which has come through all layers: errors of random sign grow with the root
    of them.
    """
    return limit_of_loss(dtype, size) * layers**0.5
