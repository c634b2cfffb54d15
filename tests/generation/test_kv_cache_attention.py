"""The kernel of slots against the same in float64: where there is no GPU by Triton's interpreter, in a process of its
own, since
Triton reads that it is to interpret as it is imported."""

import functools
import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from decoding import attend_rows
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from sqlora.doctor import numerics
from sqlora.doctor.result import OK
from sqlora.generation import continuous_batching, kv_cache, packed_attention
from sqlora.model import device
from sqlora.settings.command_line import load_settings

EOS = 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"
runs = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETS, reason="run by test_by_the_interpreter, where there is Triton"
)
SHAPES = [(2, 2, 128, 0), (4, 2, 64, 97), (2, 2, 100, 70), (16, 1, 32, 5)]
CLOSE = {torch.float32: 5e-6, torch.float16: 2e-3}
DTYPES = CLOSE if DEVICE == "cpu" else [torch.float16]  # the tiles of float32 are too large for many GPUs


@pytest.mark.slow
@pytest.mark.skipif(
    DEVICE != "cpu" or INTERPRETS or not importlib.util.find_spec("triton"), reason="no Triton, or a GPU"
)
def test_by_the_interpreter():
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", __file__],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout


@runs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "key_heads", "size", "prefix"), SHAPES)
def test_it_attends_to_each_row_and_to_the_prefix(heads, key_heads, size, prefix, dtype):
    from sqlora.generation.kv_cache_attention import attend_slots

    torch.manual_seed(0)
    rows, room = 69, 192  # rows that fill one tile of the prefix, and begin another
    drawn = functools.partial(torch.randn, device=DEVICE, dtype=dtype)
    query = drawn(rows, heads, 2, size)[:, :, 0]  # as a model's are, not side by side
    own = [drawn(rows, room, key_heads, size) for _ in range(2)]
    first = [drawn(key_heads, prefix, size) if prefix else None for _ in range(2)]
    if prefix:
        first[1] = first[1].transpose(0, 1).contiguous().transpose(0, 1)  # the same in another order of memory
    lengths = torch.randint(room, (rows,), device=DEVICE)
    lengths[:4] = torch.tensor([0, 63, 64, room - 1])
    for kept in own:  # what stands beyond a row is not read
        kept[torch.arange(room, device=DEVICE) > lengths[:, None]] = torch.nan
    found = attend_slots(query, *own, lengths, *first, size**-0.5)
    assert found.shape == query.shape
    assert found.dtype == dtype
    for row, length in enumerate(lengths.tolist()):
        keys, values = (kept[row, : length + 1].transpose(0, 1).double() for kept in own)
        if prefix:
            keys, values = (
                torch.cat([shared.double(), kept], dim=1) for shared, kept in zip(first, (keys, values), strict=True)
            )
        keys, values = (states.repeat_interleave(heads // key_heads, dim=0) for states in (keys, values))
        expected = torch.nn.functional.scaled_dot_product_attention(query[row].double()[:, None], keys, values)[:, 0]
        assert (found[row] - expected).abs().max() < CLOSE[dtype]


@pytest.mark.skipif(not INTERPRETS, reason="a GPU's doctor does that")
def test_the_doctor_s_check_of_it(monkeypatch):
    monkeypatch.setattr(kv_cache, "reads_lengths", lambda *_: True)
    result = numerics.slot_attention(device.Device("cpu", "a CPU", "", torch.float16, ""))
    assert (result.status, result.detail.partition(",")[0]) == (OK, "its own kernel")


@pytest.mark.skipif(not INTERPRETS, reason="a GPU's own test is in test_kv_cache.py")
@pytest.mark.parametrize("compiled", ["off", "on"])
def test_a_model_writes_what_it_writes_alone(monkeypatch, compiled):
    monkeypatch.setattr(kv_cache, "reads_lengths", lambda *_: True)
    monkeypatch.setattr(continuous_batching, "reads_lengths", lambda *_: True)
    monkeypatch.setattr(packed_attention, "attend_rows", attend_rows)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch.manual_seed(1)
    shape = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    model = LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2, initializer_range=0.3)).eval()
    start = list(range(3, 33))
    prompts = [[*start, *range(4, 5 + i % 7), 40 + i] for i in range(5)]
    found = {}
    settings = load_settings(["--max-new-tokens", "4", "--generation-batch-size", "3", "--compile", compiled], "")
    continuous_batching.BatchWriter(model, settings, EOS).write(
        prompts, lambda number, answers: found.__setitem__(number, answers[0][0])
    )
    way = GenerationConfig(max_new_tokens=4, do_sample=False, eos_token_id=EOS, pad_token_id=0)
    for number, ids in enumerate(prompts):
        inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))}
        alone = model.generate(**inputs, generation_config=way)[0, len(ids) :].tolist()
        assert found[number] == (alone[: alone.index(EOS)] if EOS in alone else alone)
