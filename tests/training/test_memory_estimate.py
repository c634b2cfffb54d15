"""Memory and time predicted: before any weight is loaded, and close to what was measured."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig

from sqlora.data import tokenise
from sqlora.model import device
from sqlora.model.base_models import BaseModel
from sqlora.training import memory_estimate
from sqlora.training.packing import plan
from sqlora.training.pass_bytes import PassBytes

CPU = device.choose_device("cpu", "float32")
GPU = replace(CPU, type="cuda", dtype=torch.bfloat16)
SEVEN_B = LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    vocab_size=32016,
    architectures=["LlamaForCausalLM"],
)
THREE_B = LlamaConfig(
    hidden_size=3200,
    intermediate_size=8640,
    num_hidden_layers=26,
    num_attention_heads=32,
    vocab_size=32000,
    architectures=["LlamaForCausalLM"],
)
COMPILED, PLAIN = plan.PackingPlan("tree", "", True, ""), plan.PackingPlan("off", "", False, "")


@pytest.mark.parametrize(
    ("form", "tokens", "gigabytes"),
    [
        (COMPILED, 11_904, 44.49),
        (COMPILED, 14_848, 54.15),
        (COMPILED, 3_328, 15.53),
        (PLAIN, 12_800, 62.65),
    ],
)
def test_the_peaks_that_were_measured_on_an_h200(tmp_path, monkeypatch, make_settings, form, tokens, gigabytes):
    """CodeLlama-7B's shape, NF4, r 16 on q, k, v and o, one pass of so many tokens."""
    monkeypatch.setattr(memory_estimate, "matrix_rate", lambda device: 7.6e14)
    SEVEN_B.save_pretrained(tmp_path)
    settings = make_settings("--batch-size", "1", "--max-tokens-per-pass", "1000000", "--lora-dropout", "0")
    rows = tokenise.Tokenised([{"input_ids": list(range(tokens)), "labels": [-100] * tokens}], 0)
    found = memory_estimate.estimate(BaseModel(tmp_path, "x", None, ""), rows, settings, GPU, form)
    assert found.pass_tokens == tokens
    assert found.peak_bytes == pytest.approx(1e9 * gigabytes, rel=0.15)
    assert found.step_seconds == pytest.approx(
        4 * 6.48e9 * tokens / 7.6e14 / memory_estimate.EFFICIENCY[form.compiled], rel=0.01
    )


def test_processes_that_share_the_base_have_a_part_of_it_each(tmp_path, make_settings):
    settings = make_settings()
    SEVEN_B.save_pretrained(tmp_path)
    model = memory_estimate.without_weights(BaseModel(tmp_path, "x", None, ""), settings)
    (alone, trained, linear), *shared = [
        memory_estimate.model_bytes(model, settings.LOW_BIT, torch.bfloat16, count) for count in (1, 2, 4)
    ]
    assert trained == 16 * 16_777_216
    for count, (weights, *rest) in zip((2, 4), shared, strict=True):
        assert rest == [trained, linear]
        assert alone - weights == pytest.approx(linear * 0.5 * (1 - 1 / count - 2 / 32))


def without_weights(folder, settings):
    SEVEN_B.save_pretrained(folder)
    return memory_estimate.without_weights(BaseModel(folder, "x", None, ""), settings).to(torch.bfloat16)


@pytest.mark.parametrize(
    ("targets", "dropout", "gigabytes"),
    [
        ("q_proj,k_proj,v_proj,o_proj", "0", 20.65),
        ("q_proj,k_proj,v_proj,o_proj", "0.05", 28.54),
        ("all-linear", "0", 26.50),
        ("all-linear", "0.05", 39.68),
    ],
)
def test_the_passes_that_were_measured_on_an_h100(tmp_path, make_settings, targets, dropout, gigabytes):
    """CodeLlama-7B's shape, NF4, compiled, a tree of 6,016 tokens (benchmarks/memory.py), beside the weights."""
    settings = make_settings("--lora-targets", targets, "--lora-dropout", dropout)
    token = memory_estimate.compiled_token_bytes(without_weights(tmp_path, settings), settings)
    assert 6016 * token == pytest.approx(1e9 * gigabytes, rel=0.05)


def test_more_free_memory_lets_more_tokens_through(tmp_path, monkeypatch, make_settings):
    def tokens(free, *flags):
        monkeypatch.setattr(device, "free_memory", lambda kind: free)
        settings = make_settings(*flags)
        per_pass = PassBytes(0.0, memory_estimate.compiled_token_bytes(without_weights(tmp_path, settings), settings))
        return memory_estimate.fitting_tokens(per_pass, 0.0, GPU, settings.MAX_LENGTH)

    assert tokens(0) == 512  # a row of MAX_LENGTH must go through
    assert 512 < tokens(8e9) < tokens(16e9) < tokens(None, "--gradient-checkpointing")
    monkeypatch.setattr(device, "free_memory", lambda kind: 1e12)
    assert memory_estimate.fitting_tokens(PassBytes(0.0, 1e6), 0.0, CPU, 256) == memory_estimate.CPU_TOKENS


def test_the_rate_of_this_machine_is_a_number_above_zero():
    assert memory_estimate.matrix_rate(CPU) > 1e8


@pytest.mark.parametrize(
    ("shape", "gigabytes", "flags", "changes"),
    [
        (SEVEN_B, 12, "", {}),
        (THREE_B, 12, "", {}),
        (SEVEN_B, 16, "--low-bit none", {"LOW_BIT": "nf4"}),
        (SEVEN_B, 16, "--max-tokens-per-pass 8000", {"MAX_TOKENS_PER_PASS": 0}),
        (SEVEN_B, 6, "", {"GRADIENT_CHECKPOINTING": True}),
        (SEVEN_B, 6, "--low-bit none", {"LOW_BIT": "nf4", "GRADIENT_CHECKPOINTING": True}),
        (SEVEN_B, 48, "--low-bit none", {}),
        (SEVEN_B, 4, "", None),
    ],
)
def test_what_must_change_to_fit_on_a_card_that_is_not_here(tmp_path, make_settings, shape, gigabytes, flags, changes):
    shape.save_pretrained(tmp_path)
    settings = make_settings(*f"--device xpu --estimate --memory {gigabytes}GB --batch-size 128 {flags}".split())
    card = device.described_device(settings.DEVICE, "auto", settings.MEMORY)
    rows = tokenise.Tokenised([{"input_ids": [i] * 90, "labels": [i] * 90} for i in range(200)], 0)
    base = BaseModel(tmp_path, "x", None, "")
    assert memory_estimate.changes_to_fit(base, rows, settings, card, COMPILED) == changes
    estimated = memory_estimate.estimate(base, rows, settings, card, COMPILED)
    assert estimated.step_seconds is None
    assert (estimated.peak_bytes <= 1e9 * gigabytes) == (changes == {})
