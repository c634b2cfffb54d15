"""The numeric checks: right numbers pass in every type, and faults like those that real devices had are found."""

import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from torch.nn.attention import SDPBackend, sdpa_kernel

import finetune
from sqlora.doctor import numerics
from sqlora.doctor.result import OK, SLOW, WRONG
from sqlora.generation import kv_cache
from sqlora.model import bitsandbytes, device
from sqlora.system.errors import UserError
from sqlora.training.packing import packed_batches, plan

FLOAT32, BFLOAT16 = (device.choose_device("cpu", dtype) for dtype in ("float32", "bfloat16"))
FLOAT16 = device.Device("cpu", "a CPU", "", torch.float16, "")
PREFIX = plan.PackingPlan("prefix", "", False, "")


class Pretended(device.Device):
    """An XPU whose tensors are on the CPU."""

    torch_device = "cpu"


XPU = Pretended("xpu", "Pretended GPU", "", torch.bfloat16, "")


def every_check(chosen):
    yield numerics.matrix_products(chosen, numerics.LARGE_SHAPES[:3])
    yield numerics.attention(chosen, False, numerics.HEAD_SIZES)
    yield numerics.attention(chosen, True, numerics.HEAD_SIZES)
    yield numerics.slot_attention(chosen)
    yield from numerics.four_bit(chosen, "nf4")
    yield from numerics.four_bit(chosen, "fp4")


@pytest.mark.parametrize("chosen", [FLOAT32, BFLOAT16, FLOAT16], ids=lambda chosen: str(chosen.dtype))
def test_right_numbers_are_ok(chosen):
    state = torch.get_rng_state()
    results = list(every_check(chosen))
    assert [(result.status, result.remedy) for result in results] == [(OK, "")] * 10, results
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("form", ["prefix", "tree", "off"])
@pytest.mark.parametrize("chosen", [FLOAT32, BFLOAT16], ids=lambda chosen: str(chosen.dtype))
def test_right_passes_are_ok(chosen, form):
    state = torch.get_rng_state()
    assert numerics.packed_pass(chosen, plan.PackingPlan(form, "", False, "")).status == OK
    assert torch.equal(torch.get_rng_state(), state)


def nan(product):
    return torch.full_like(product, float("nan"))


def one_number(product):
    product = product.clone()
    product[-1, -1] = -product[-1, -1] - product.std()
    return product


def shifted(product):
    return product.roll(1, dims=-1)


def a_twentieth_more(product):
    return product * 1.05


@pytest.mark.parametrize("fault", [nan, torch.zeros_like, one_number, shifted, a_twentieth_more])
def test_a_wrong_matrix_product(monkeypatch, fault):
    right = torch.nn.functional.linear

    def wrong(x, weight, bias=None):
        product = right(x, weight, bias)
        return fault(product) if x.dtype == torch.bfloat16 and x.shape[-1] >= 512 else product

    monkeypatch.setattr(torch.nn.functional, "linear", wrong)
    result = numerics.matrix_products(BFLOAT16, numerics.SMALL_SHAPES)
    assert result.status == WRONG
    assert "512 x 512 x 512" in result.detail
    assert "1 x 320" not in result.detail
    assert "DTYPE (--dtype) float32" in result.remedy
    assert numerics.matrix_products(FLOAT32, numerics.SMALL_SHAPES).status == OK


@pytest.mark.parametrize(("rows", "label"), [(1, "one row"), (8, "8 rows")])
def test_a_wrong_gemv(monkeypatch, rows, label):
    """As on Arc's A series before bitsandbytes 0.50: inputs beyond the first 256 get lost."""
    import bitsandbytes

    right = bitsandbytes.matmul_4bit

    def wrong(x, *arguments, **keywords):
        if x.numel() == rows * x.shape[-1]:
            x = torch.cat([x[..., :256], torch.zeros_like(x[..., 256:])], dim=-1)
        return right(x, *arguments, **keywords)

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", wrong)
    result = numerics.four_bit_product(BFLOAT16, "nf4")
    assert (result.status, result.detail.partition(":")[0]) == (WRONG, label)
    assert "LOW_BIT (--low-bit) none" in result.remedy
    assert "0.50" in numerics.four_bit_product(XPU, "nf4").remedy


def test_weights_that_come_back_wrong(monkeypatch):
    from bitsandbytes import functional

    right = functional.dequantize_4bit
    monkeypatch.setattr(functional, "dequantize_4bit", lambda *arguments: right(*arguments).roll(1, dims=-1))
    result = numerics.round_trip(FLOAT32, "nf4")
    assert (result.status, bool(result.remedy)) == (WRONG, True)


def test_a_gradient_that_vanishes_in_an_evaluation(monkeypatch):
    from bitsandbytes.nn import Linear4bit

    right = Linear4bit.forward

    def forward(self, x):
        self.evaluated = getattr(self, "evaluated", False) or not self.training
        return right(self, x).detach() if self.evaluated else right(self, x)

    monkeypatch.setattr(Linear4bit, "forward", forward)
    result = numerics.gradient_after_evaluation(BFLOAT16, "nf4")
    assert (result.status, result.detail.partition(":")[0]) == (WRONG, "after one")
    assert "not learn" in result.remedy


@pytest.mark.skipif(not has_avx512bf16(), reason="bitsandbytes repacks weights on CPUs with AVX512_BF16 alone")
def test_the_gradient_that_bitsandbytes_loses_and_the_remedy_in_use(monkeypatch):
    assert "bitsandbytes alone loses it" in numerics.gradient_after_evaluation(BFLOAT16, "nf4").detail
    monkeypatch.setattr(bitsandbytes, "keep_4bit_unpacked", lambda layer, training: None)
    assert numerics.gradient_after_evaluation(BFLOAT16, "nf4").status == WRONG
    assert numerics.four_bit_product(FLOAT32, "nf4").status == WRONG  # computed in bfloat16


def blind(query, key, value, attn_mask=None, is_causal=False):
    return numerics.attention_by_definition(query, key, value, torch.ones(1, dtype=torch.bool))


def without_the_gradient_of_keys(query, key, value, attn_mask=None, is_causal=False):
    mask = attn_mask if attn_mask is not None else torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    return numerics.attention_by_definition(query, key * 0.5 + key.detach() * 0.5, value, mask)


def failing(*_, **__):
    raise RuntimeError("an illegal memory access\nwas encountered")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (blind, "output, heads of 64"),
        (without_the_gradient_of_keys, "dK"),
        (failing, "RuntimeError: an illegal memory access"),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_wrong_attention(monkeypatch, fault, message, masked):
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fault)
    result = numerics.attention(BFLOAT16, masked, (64,))
    assert result.status == WRONG
    assert message in result.detail
    assert "\n" not in result.detail
    assert ("PACKING" in result.remedy) == masked


def test_attention_over_slots_that_looks_beyond_a_row(monkeypatch):
    right = kv_cache.slot_attention

    def one_too_many(*arguments, lengths, **keywords):
        return right(*arguments, lengths=(lengths + 1).clamp(max=191), **keywords)

    monkeypatch.setattr(kv_cache, "slot_attention", one_too_many)
    result = numerics.slot_attention(BFLOAT16)
    assert result.status == WRONG
    assert "SDPA, heads of 64: error" in result.detail


def test_the_kernel_that_ran_is_reported_and_math_is_slow_on_a_gpu():
    assert numerics.attention(BFLOAT16, True, (64,)).detail.startswith("flash kernel")
    with sdpa_kernel(SDPBackend.MATH):
        assert numerics.attention(BFLOAT16, True, (64,)).status == OK
        masked, causal = (numerics.attention(XPU, mask, (64,)) for mask in (True, False))
    assert (masked.status, causal.status) == (SLOW, SLOW)
    assert masked.detail.startswith("math kernel")
    assert "PACKING" in masked.remedy
    assert "2.11" in causal.remedy


def test_a_pass_that_lets_rows_see_too_much(monkeypatch):
    right = packed_batches.build_prefix

    def wrong(rows):
        built = right(rows)
        return built | {"attention_mask": torch.ones_like(built["attention_mask"])}

    monkeypatch.setattr(packed_batches, "build_prefix", wrong)
    result = numerics.packed_pass(BFLOAT16, PREFIX)
    assert result.status == WRONG
    assert "PACKING (--packing) off" in result.remedy


def test_a_compiler_that_does_not_work_is_slow(monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: failing)
    result = numerics.packed_pass(BFLOAT16, plan.PackingPlan("prefix", "", True, ""))
    assert result.status == SLOW
    assert "torch.compile does not work here (RuntimeError" in result.detail
    assert "Triton" in result.remedy
    assert capsys.readouterr().out == ""


def test_a_device_without_memory_left(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("tried to allocate 2 MiB")

    monkeypatch.setattr(torch.nn.functional, "linear", full)
    result = numerics.matrix_products(BFLOAT16, numerics.SMALL_SHAPES)
    assert (result.status, "memory" in result.remedy) == (WRONG, True)


def test_finetune_stops_where_numbers_are_wrong_and_the_remedies_avoid_it(monkeypatch, make_settings):
    import bitsandbytes

    monkeypatch.setattr(
        bitsandbytes, "matmul_4bit", lambda x, weight, **_: x.new_zeros(*x.shape[:-1], numerics.OUTPUTS)
    )
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *tensors, attn_mask=None, is_causal=False: (
            blind(*tensors)
            if attn_mask is not None
            else torch._scaled_dot_product_attention_math(*tensors, is_causal=is_causal)[0]
        ),
    )
    with pytest.raises(UserError, match=r"computes wrong: attention, masked.*PACKING \(--packing\) off.*sqlora.doctor"):
        finetune.main(make_settings("--base-model", "nowhere/at-all"))
    with pytest.raises(UserError, match="computes wrong: 4-bit product.*LOW_BIT"):
        numerics.quick(FLOAT32, "bitsandbytes", "nf4", packs=False)
    numerics.quick(FLOAT32, "bitsandbytes", "none", packs=False)
