"""The limits of rounding errors: above what right kernels have, below what wrong ones do."""

import pytest
import torch

from sqlora.model import precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("terms", [64, 4096])
def test_a_product_rounded_once_is_within_and_one_of_a_lost_term_is_not(dtype, terms):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, terms, generator=generator).to(dtype) for _ in range(2))
    exact = a.double() @ b.double().T
    size = exact.square().mean().sqrt()

    def error(got):
        return ((got.double() - exact).square().mean().sqrt() / size).item()

    assert error((a.float() @ b.float().T).to(dtype)) < precision.limit(dtype, terms)
    half = (a[:, ::2].double() @ b[:, ::2].double().T).to(dtype)
    assert error(half) > precision.limit(dtype, terms)


def test_limits_grow_with_terms_and_layers_and_shrink_with_precision():
    assert precision.limit(torch.float16, 4096) > precision.limit(torch.float16, 64)
    assert precision.limit(torch.float32, 64) < precision.limit(torch.bfloat16, 64)
    assert precision.limit_of_gradient(torch.bfloat16, 64, 32) > precision.limit_of_gradient(torch.bfloat16, 64, 2)


def test_a_loss_in_float64_is_not_expected_to_be_more_exact_than_the_models_own_float32_parts():
    assert precision.limit_of_loss(torch.float64, 64) == precision.limit_of_loss(torch.float32, 64)
    assert precision.limit_of_loss(torch.float16, 4096) <= precision.limit(torch.bfloat16, 4096)
