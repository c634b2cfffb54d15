"""Which form runs where and why, and that nothing that fails to compile fails a run."""

import re
from dataclasses import replace

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Phi3Config, Qwen3Config, SmolLM3Config

from sqlora.model import base_models, device, loading
from sqlora.system.errors import UserError
from sqlora.training.packing import attention, plan

CPU = device.choose_device("cpu", "float32")
GPU = replace(CPU, type="cuda", dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("flags", "on", "triton", "form", "compiled"),
    [
        ((), CPU, True, "prefix", False),
        (("--packing", "tree"), CPU, True, "tree", False),
        (("--packing", "off"), CPU, True, "off", False),
        ((), GPU, True, "tree", True),
        ((), GPU, False, "prefix", False),
        (("--packing", "tree", "--compile", "off"), GPU, True, "tree", False),
        (("--packing", "off", "--compile", "on"), GPU, True, "off", True),
    ],
)
def test_the_form_follows_the_device_and_the_settings(monkeypatch, make_settings, flags, on, triton, form, compiled):
    monkeypatch.setattr(plan, "has_triton", lambda: triton)
    found = plan.choose_plan(LlamaConfig(), make_settings(*flags), on)
    assert (found.name, found.compiled) == (form, compiled)
    assert found.reason
    assert found.compile_reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (LlamaConfig(attention_dropout=0.1), "attention dropout"),
        (Phi3Config(resid_pdrop=0.1, pad_token_id=None), "itself has dropout .resid pdrop"),
        (MistralConfig(sliding_window=64), "reaches only 64 tokens"),
        (Qwen3Config(use_sliding_window=True, sliding_window=64, max_window_layers=1), "reaches only 64 tokens"),
        (Qwen3Config(use_sliding_window=True, sliding_window=64, max_window_layers=99), None),
        (Gemma3TextConfig(sliding_window=64), "reaches only 64 tokens"),
        (Gemma3TextConfig(sliding_window=512), None),
        (SmolLM3Config(pad_token_id=None, use_sliding_window=True, sliding_window=64), "reaches only 64 tokens"),
        (SmolLM3Config(pad_token_id=None), None),
        (Gemma3TextConfig(attn_logit_softcapping=50.0), "caps its attention's scores"),
        (
            LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
            "change with the length",
        ),
        (LlamaConfig(rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}), None),
        (MistralConfig(sliding_window=4096), None),
        (LlamaConfig(), None),
    ],
)
def test_what_cannot_be_packed_exactly_is_padded(config, reason, make_settings):
    found = plan.choose_plan(config, make_settings(), CPU)
    assert (found.name == "off") == bool(reason)
    assert re.search(reason or "", found.reason)
    if reason:
        with pytest.raises(UserError, match=f"--packing.*{reason}.*auto or off"):
            plan.choose_plan(config, make_settings("--packing", "tree"), CPU)


def test_an_unknown_model_is_not_packed(make_settings):
    config = LlamaConfig()
    config.model_type = "gpt_bigcode"
    assert plan.choose_plan(config, make_settings(), CPU).name == "off"


@pytest.fixture
def model(llama_folder, make_settings):
    settings = make_settings("--low-bit", "none")
    base = base_models.find_base_model(str(llama_folder))
    return loading.wrap_with_adapter(loading.load_base(base, settings.LOW_BIT, CPU, training=True), settings)


@pytest.mark.parametrize(
    ("form", "on", "fails", "left", "notes"),
    [
        ("prefix", CPU, 0, ("prefix", True), []),
        ("prefix", CPU, 1, ("prefix", False), ["torch.compile does not work here"]),
        ("tree", GPU, 0, ("tree", True), []),
        ("tree", GPU, 1, ("tree", False), ["torch.compile does not work here"]),
        ("tree", GPU, 2, ("prefix", False), ["torch.compile does not work here", "PACKING is prefix"]),
    ],
)
def test_what_does_not_compile_is_done_without(model, monkeypatch, capsys, form, on, fails, left, notes):
    calls = []

    def trial(*_):
        torch.rand(3)
        calls.append(1)
        if len(calls) <= fails:
            raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(plan, "loss_of", trial)
    layers = model.get_base_model().get_decoder().layers
    before = torch.get_rng_state()
    found = plan.prepare_model(model, plan.PackingPlan(form, "", True, ""), on)
    assert torch.equal(torch.get_rng_state(), before)
    assert (found.name, found.compiled) == left
    wanted = {"prefix": attention.PREFIX_ATTENTION, "tree": attention.TREE_ATTENTION}[found.name]
    assert model.config._attn_implementation == wanted
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(notes)
    assert all(note in line and "RuntimeError: no compiler" in line for note, line in zip(notes, printed, strict=True))
    assert all(hasattr(layer.forward, "_torchdynamo_orig_callable") == found.compiled for layer in layers)


def test_a_lack_of_memory_is_not_taken_for_a_lack_of_a_compiler(model, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(plan, "loss_of", fail)
    with pytest.raises(torch.OutOfMemoryError):
        plan.prepare_model(model, plan.PackingPlan("prefix", "", True, ""), CPU)


@pytest.mark.parametrize("form", ["tree", "prefix", "off"])
def test_the_trial_leaves_nothing_behind(model, form):
    plan.prepare_model(model, plan.PackingPlan(form, "", False, ""), CPU)
    with plan.state_kept(model):
        tried = plan.PackingPlan(form, "", False, "")
        plan.loss_of(model, tried, plan.trial_rows(model, tried))
        assert any(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
