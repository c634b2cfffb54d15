"""Attention of prompts that stand one behind the other, against the same in float64."""

import decoding
import pytest
import torch

from sqlora.generation.packed_attention import attend_rows


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(8, 8, 128), (9, 3, 64), (4, 2, 100)])
@pytest.mark.parametrize("prefix", [0, 1, 47])
@pytest.mark.parametrize("lengths", [[5, 1, 70, 128, 3], [1, 1, 1], [1]], ids=str)
def test_each_row_sees_the_prefix_and_itself(heads, key_heads, size, prefix, lengths):
    torch.manual_seed(0)
    tokens = sum(lengths)
    states = [
        torch.randn(1, number, count, size, device="cuda", dtype=torch.bfloat16)
        for number, count in ((heads, tokens), *[(key_heads, tokens)] * 2, *[(key_heads, prefix)] * 2)
    ]
    first = states[3:] if prefix else [None, None]
    starts = torch.tensor([0, *lengths], device="cuda").cumsum(0).int()
    found = attend_rows(*states[:3], *first, starts, max(lengths), size**-0.5)
    exact = [None if one is None else one.double() for one in (*states[:3], *first)]
    expected = decoding.attend_rows(*exact, starts, max(lengths), size**-0.5)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 0.03
