"""Attention over packed rows equals attention over each row by itself."""

from types import SimpleNamespace

import pytest
import torch

from sqlora.training.packing import attention

HEADS, GROUPS, SIZE = 4, 2, 8


@pytest.mark.parametrize("prefix", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_shared_prefix_and_each_rows_own_tokens(prefix, dtype):
    rows, length = 3, 4
    generator = torch.Generator().manual_seed(0)
    total = prefix + rows * length
    query = torch.randn(1, HEADS, total, SIZE, generator=generator).to(dtype)
    key, value = (torch.randn(1, HEADS // GROUPS, total, SIZE, generator=generator).to(dtype) for _ in range(2))
    mask = torch.ones(length, prefix + length, dtype=torch.bool).tril(prefix)[None, None]
    module = SimpleNamespace(num_key_value_groups=GROUPS)
    got, _ = attention.prefix_attention(module, query, key, value, mask, scaling=0.3)
    assert got.shape == (1, total, HEADS, SIZE)
    assert got.dtype == dtype
    for row in range(rows):
        start = prefix + row * length
        tokens = [*range(prefix), *range(start, start + length)]
        q, k, v = (states[0, :, tokens].double() for states in (query, key, value))
        k, v = (states.repeat_interleave(GROUPS, dim=0) for states in (k, v))
        causal = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
        want = (q @ k.mT * 0.3).masked_fill(~causal, float("-inf")).softmax(-1) @ v
        tolerance = {} if dtype == torch.float64 else {"rtol": 0.02, "atol": 0.02}
        torch.testing.assert_close(got[0, tokens].transpose(0, 1).double(), want, **tolerance)
