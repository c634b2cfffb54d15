"""Attention over slots, against the same in float64; on a GPU, the kernel's and graphs too."""

import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from sqlora.generation import decoder, kv_cache
from sqlora.generation.continuous_batching import BatchWriter
from sqlora.settings.command_line import load_settings

gpu = pytest.mark.skipif(not torch.cuda.is_available() and not torch.xpu.is_available(), reason="there is no GPU")
SHAPES = [(8, 8, 128, 0), (8, 2, 64, 0), (8, 8, 128, 37), (8, 2, 64, 37)]


def attended(device: str, dtype: torch.dtype, heads: int, key_heads: int, size: int, prefix: int, cache=None):
    """What slot_attention gives, and what it should give, both float64 [slots, heads, size]."""
    torch.manual_seed(0)
    rows, room = 6, 192
    query = torch.randn(rows, heads, 1, size, dtype=dtype)
    own = [torch.randn(rows, room, key_heads, size, dtype=cache or dtype) for _ in range(2)]
    first = [torch.randn(1, key_heads, prefix, size, dtype=cache or dtype) for _ in range(2)]
    lengths = torch.tensor([0, 5, 63, 64, 100, 190])
    given = [(kept.to(device), shared.to(device) if prefix else None) for kept, shared in zip(own, first, strict=True)]
    reads_lengths = kv_cache.reads_lengths(torch.device(device), dtype, size)
    found, _ = kv_cache.slot_attention(
        None,
        query.to(device),
        *given,
        None,
        scaling=size**-0.5,
        lengths=lengths.to(device),
        reads_lengths=reads_lengths,
    )
    assert found.dtype == dtype
    expected = []
    for row, length in enumerate(lengths.tolist()):
        keys, values = (
            torch.cat([shared[0], kept[row, : length + 1].transpose(0, 1)], dim=1)
            .double()
            .repeat_interleave(heads // key_heads, dim=0)
            for shared, kept in zip(first, own, strict=True)
        )
        expected.append(torch.nn.functional.scaled_dot_product_attention(query[row].double(), keys, values)[:, 0])
    return found[:, 0].double().cpu(), torch.stack(expected)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape[3]])
def test_on_a_cpu(shape):
    found, expected = attended("cpu", torch.float64, *shape)
    assert torch.allclose(found, expected, atol=1e-10)
    found, expected = attended("cpu", torch.bfloat16, *shape, cache=torch.float32)
    assert (found - expected).abs().max() < 0.02


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_gpu(shape):
    kind = torch.accelerator.current_accelerator().type
    if shape[3] and not kv_cache.reads_lengths(torch.device(kind), torch.bfloat16, shape[2]):
        pytest.skip("the prefix stands in the slots here")
    found, expected = attended(kind, torch.bfloat16, *shape)
    assert (found - expected).abs().max() < 0.03


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_write_what_steps_without_them_do(dtype, monkeypatch):
    kind = torch.accelerator.current_accelerator().type
    torch.manual_seed(1)
    shape = {
        "vocab_size": 64,
        "hidden_size": 256,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    model = LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.3)).to(kind, dtype).eval()
    start = list(range(3, 33))
    prompts = [[*start, *range(4, 5 + i % 7), 40 + i] for i in range(20)]

    def written() -> list[list[int]]:
        found = {}
        settings = load_settings(["--max-new-tokens", "20", "--generation-batch-size", "6", "--compile", "off"], "")
        BatchWriter(model, settings, eos=2).write(
            prompts, lambda number, answers: found.__setitem__(number, answers[0][0])
        )
        return [found[number] for number in range(len(prompts))]

    with_graphs = written()
    real = decoder.Decoder.__init__

    def without(self, *arguments):
        real(self, *arguments)
        self.graphs_work = False

    monkeypatch.setattr(decoder.Decoder, "__init__", without)
    assert written() == with_graphs
    if dtype == torch.float32:
        way = GenerationConfig(max_new_tokens=20, do_sample=False, eos_token_id=2, pad_token_id=0)
        alone = [
            model.generate(
                input_ids=torch.tensor([ids], device=kind),
                attention_mask=torch.ones(1, len(ids), device=kind),
                generation_config=way,
            )[0, len(ids) :].tolist()
            for ids in prompts
        ]
        assert with_graphs == [ids[: ids.index(2)] if 2 in ids else ids for ids in alone]


@pytest.mark.parametrize(
    ("capability", "hip", "triton", "dtype", "size", "reads"),
    [
        ((8, 0), None, True, torch.bfloat16, 128, True),
        ((9, 0), None, True, torch.float16, 100, True),  # OpenLLaMA-3B's heads
        ((7, 5), None, True, torch.float16, 128, False),  # whose shared memory is too small
        ((9, 0), "6.4", True, torch.bfloat16, 128, False),
        ((9, 0), None, False, torch.bfloat16, 128, False),
        ((9, 0), None, True, torch.float32, 128, False),
        ((9, 0), None, True, torch.bfloat16, 256, False),
    ],
)
def test_where_the_kernel_runs(monkeypatch, capability, hip, triton, dtype, size, reads):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(kv_cache, "has_triton", lambda: triton)
    monkeypatch.setattr(kv_cache, "_kernel_works", lambda *_: True)
    assert kv_cache.reads_lengths(torch.device("cuda"), dtype, size) is reads
    assert not kv_cache.reads_lengths(torch.device("xpu"), dtype, size)
    assert not kv_cache.reads_lengths(torch.device("cpu"), dtype, size)


def test_a_kernel_that_does_not_work_is_done_without(monkeypatch, capsys):
    def no_compiler(*_):
        raise RuntimeError("Failed to find C compiler.\nPlease specify")

    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(kv_cache, "has_triton", lambda: True)
    monkeypatch.setitem(sys.modules, "sqlora.generation.kv_cache_attention", SimpleNamespace(attend_slots=no_compiler))
    works = kv_cache._kernel_works.__wrapped__
    monkeypatch.setattr(kv_cache, "_kernel_works", lambda device, *kind: works(torch.device("cpu"), *kind))
    assert not kv_cache.reads_lengths(torch.device("cuda"), torch.bfloat16, 128)
    assert "Triton does not work here (RuntimeError: Failed to find C compiler.)" in capsys.readouterr().out
