"""The step engine: the prefix outside the slots, and compiled layers."""

import functools
import sys
from types import SimpleNamespace

import pytest
import torch
from decoding import SHAPE, alone, attend_rows, made, one_at_a_time, prompts, written
from transformers import (
    MistralConfig,
    MistralForCausalLM,
)

from sqlora.generation import kv_cache, packed_attention


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2"])
def model(request):
    return made(request.param)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_the_prefix_beside_the_slots(make_settings, monkeypatch, kind):
    """As on NVIDIA's GPUs, with the kernel's part written out, in float64."""

    def attend_slots(query, keys, values, lengths, first_keys, first_values, scaling):
        kv_cache, room, repeats = len(query), keys.shape[1], query.shape[1] // keys.shape[2]
        keys, values = (
            torch.cat([first.transpose(0, 1).expand(kv_cache, -1, -1, -1), own], dim=1).repeat_interleave(
                repeats, dim=2
            )
            for first, own in ((first_keys, keys), (first_values, values))
        )
        scores = torch.einsum("shd,swhd->shw", query, keys) * scaling
        beyond = torch.arange(-first_keys.shape[1], room) > lengths[:, None, None]
        return torch.einsum("shw,swhd->shd", scores.masked_fill(beyond, -torch.inf).softmax(-1), values)

    monkeypatch.setattr(kv_cache, "reads_lengths", lambda *_: True)
    monkeypatch.setitem(sys.modules, "sqlora.generation.kv_cache_attention", SimpleNamespace(attend_slots=attend_slots))
    monkeypatch.setattr(packed_attention, "attend_rows", attend_rows)
    settings = make_settings("--generation-batch-size", "5", "--max-new-tokens", "25", "--num-beams", "2")
    assert written(made(kind), settings, prompts(17)) == alone(kind, 17, max_new_tokens=25, num_beams=2)


@pytest.mark.slow
def test_compiled_layers_share_their_programs(make_settings, monkeypatch):
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    torch.manual_seed(6)
    model = MistralForCausalLM(
        MistralConfig(**SHAPE | {"num_hidden_layers": 12}, num_key_value_heads=2, sliding_window=None)
    )
    model, ids = model.double().eval(), prompts(17)
    expected = one_at_a_time(model, ids, max_new_tokens=9)
    settings = make_settings("--generation-batch-size", "5", "--max-new-tokens", "9", "--compile", "on")
    assert written(model, settings, ids) == expected
    assert 3 <= counter.frame_count < 8  # of twelve layers; torch.compile gives up after eight


def test_a_compiler_that_fails_is_done_without(make_settings, monkeypatch, capsys):
    def fails(*_, **__):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", fails)
    settings = make_settings("--max-new-tokens", "25", "--compile", "on")
    assert written(made.__wrapped__("llama"), settings, prompts(17)) == alone("llama", 17, max_new_tokens=25)
    assert "not compiled" in capsys.readouterr().out
