"""Adapters that others made: each answers as PEFT's own loading on an untouched base does, or is refused in a line."""

import functools
import json
import os
import time
from types import SimpleNamespace

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from sqlora.generation import answer_writer
from sqlora.model import adapter, adapter_kinds, base_models, device, loading, merging
from sqlora.storage.checkpoints import WEIGHTS
from sqlora.system.errors import UserError

CPU = device.choose_device("cpu", "float32")
IDS = torch.arange(5, 65).reshape(3, 20)
TARGETS = ["q_proj", "v_proj", "down_proj"]
ROWS = [
    {"question": f"Which {name}?", "context": "CREATE TABLE t (a INTEGER, b TEXT)", "answer": ""} for name in "abcdef"
]
LORA = {
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 4}, "layers_to_transform": [0]},
    "regex": {"target_modules": r".*\.(q|v)_proj", "exclude_modules": ".*0.*"},
    "tokens": {"trainable_token_indices": [5, 6, 7]},
    "saved": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "parameters": {"target_modules": [], "target_parameters": ["mlp.down_proj.weight"]},
    "biases": {"bias": "all"},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
}
OTHERS = {
    "IA3": peft.IA3Config(target_modules=TARGETS, feedforward_modules=["down_proj"]),
    "VERA": peft.VeraConfig(r=8, target_modules=["q_proj", "v_proj"]),
    "OFT": peft.OFTConfig(r=0, oft_block_size=8, target_modules=TARGETS),
    "LOHA": peft.LoHaConfig(target_modules=TARGETS),
    "LOKR": peft.LoKrConfig(target_modules=TARGETS),
    "HRA": peft.HRAConfig(target_modules=TARGETS),
    "LN_TUNING": peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "MISS": peft.MissConfig(target_modules=TARGETS),
    "SHIRA": peft.ShiraConfig(r=4, target_modules=TARGETS),
    "TRAINABLE_TOKENS": peft.TrainableTokensConfig(target_modules=["embed_tokens"], token_indices=[5, 6]),
}
CHANGING = {"biases", "pissa", "olora"}


def lora(**settings):
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": TARGETS, "task_type": "CAUSAL_LM"} | settings)


@pytest.fixture(scope="module")
def plain(qwen2_folder):
    """Loads the base by transformers alone: it has biases, and its embeddings are tied."""
    return lambda: AutoModelForCausalLM.from_pretrained(qwen2_folder, attn_implementation="sdpa").eval()


@pytest.fixture
def load(qwen2_folder, make_settings):
    def load(low_bit="none"):
        return loading.load_base(base_models.find_base_model(str(qwen2_folder)), low_bit, CPU, training=False)

    return load


@pytest.fixture
def make(plain, tmp_path):
    """Writes an adapter as PEFT does, all its weights moved away from their start."""

    def make(config):
        config.task_type = "CAUSAL_LM"
        torch.manual_seed(1)
        model = peft.get_peft_model(plain(), config)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data += 0.1 * torch.randn_like(weight)
        model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
        return tmp_path / "adapter"

    return make


@torch.inference_mode()
def logits(model):
    return model.eval()(IDS).logits.double()


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("name", [*LORA, *OTHERS])
def test_it_answers_and_is_merged_as_pefts_own_loading(plain, load, make, name):
    folder = make(lora(**LORA[name]) if name in LORA else OTHERS[name])
    expected, base = logits(peft.PeftModel.from_pretrained(plain(), folder)), logits(plain())
    assert distance(expected, base) > 0.01
    model = adapter.load_adapter(load(), folder)
    assert distance(logits(model), expected) < 1e-6
    with model.disable_adapter():
        assert (distance(logits(model), base) > 1e-6) == (name in CHANGING)
    assert adapter.changes_base(folder) == (name in CHANGING)
    assert distance(logits(merging.merge_adapter(model)), expected) < 1e-5


@pytest.mark.parametrize("name", ["olora", "biases"])
def test_the_base_answers_before_an_adapter_that_changes_it(
    plain, load, make, make_settings, qwen2_folder, monkeypatch, name
):
    monkeypatch.setattr(answer_writer.template, "extract_sql", str)  # a random model writes none
    folder, settings = make(lora(**LORA[name])), make_settings("--low-bit", "none")
    tokenizer = loading.load_tokenizer(base_models.find_base_model(str(qwen2_folder)))
    kept = SimpleNamespace(written={}, add=lambda who, row, texts: kept.written.update({(who, row): texts}))
    add_adapter = functools.partial(adapter.load_adapter, folder=folder)
    answers = answer_writer.answer_rows(load(), tokenizer, ROWS, settings, kept, add_adapter)
    alone = answer_writer.SqlWriter(plain(), tokenizer, settings).write(ROWS)
    with_it = answer_writer.SqlWriter(peft.PeftModel.from_pretrained(plain(), folder), tokenizer, settings).write(ROWS)
    assert [row["base"] for row in answers] == alone
    assert [row["adapter"] for row in answers] == with_it
    assert alone != with_it


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lora(alora_invocation_tokens=[5, 6]), "alora_invocation_tokens"),
        (lora(layer_replication=[[0, 2], [1, 2]]), "layer_replication"),
        (lora(init_lora_weights="pissa_niter_4"), "random numbers"),
        (peft.PromptTuningConfig(num_virtual_tokens=4), "PROMPT_TUNING"),
        (peft.PrefixTuningConfig(num_virtual_tokens=4), "PREFIX_TUNING"),
    ],
)
def test_what_is_not_run_is_refused_before_a_weight_is_loaded(make, config, words):
    with pytest.raises(UserError, match=words):
        adapter_kinds.read_kind(make(config))


@pytest.mark.parametrize("name", ["pissa", "LOHA"])
def test_on_low_bit_weights_the_remedy_is_reported(load, make, name):
    folder = make(lora(**LORA[name]) if name in LORA else OTHERS[name])
    with pytest.raises(UserError, match="--low-bit\\) to none"):
        adapter.load_adapter(load("nf4"), folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda tensors: {name.replace("layers.1", "layers.7"): tensors[name] for name in tensors},
            "6 of its tensors do not exist in this base",
        ),
        (
            lambda tensors: {name.replace("model.model", "model.h"): tensors[name] for name in tensors},
            "12 of its tensors do not exist",
        ),
        (lambda tensors: dict(sorted(tensors.items())[:6]), "6 of its tensors are missing.*layers.1.*and .*layers.1"),
        (
            lambda tensors: {name: value[:, :5].clone() for name, value in tensors.items()},
            "6 of its tensors have other shapes",
        ),
        (
            lambda tensors: {name: value / 0 for name, value in tensors.items()},
            "12 of its tensors hold numbers that are not finite",
        ),
    ],
)
def test_one_that_does_not_fit_is_refused_with_counts_and_names(load, make, change, words):
    folder = make(lora())
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    with pytest.raises(UserError, match=words):
        adapter.load_adapter(load(), folder)


@pytest.mark.parametrize(
    "change",
    [
        {"task_type": "SEQ_CLS"},
        {"peft_type": "NONESUCH"},
        {"peft_type": 5},
        {"peft_type": ["LORA"]},
        {"use_something_new": True},
        {"r": 10**9},
        {"rank_pattern": {"q_proj": 10**9}},
        {"target_modules": "("},
        {"target_modules": 7},
    ],
)
def test_an_odd_configuration_is_one_line(load, make, change):
    folder = make(lora())
    file = folder / adapter_kinds.CONFIGURATION
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match="--lora-checkpoint"):
        adapter.load_adapter(load(), folder)


@pytest.mark.parametrize("content", ["[]", "7", '{"a": ' * 100_000, "{", ""])
def test_a_configuration_that_is_no_object_is_one_line(make, content):
    folder = make(lora())
    (folder / adapter_kinds.CONFIGURATION).write_text(content)
    with pytest.raises(UserError, match="damaged"):
        adapter_kinds.read_kind(folder)
    os.remove(folder / adapter_kinds.CONFIGURATION)
    with pytest.raises(UserError, match="cannot be read"):
        adapter_kinds.read_kind(folder)


def test_a_key_that_peft_does_not_know_and_that_says_nothing_is_passed_over(make):
    folder = make(lora())
    file = folder / adapter_kinds.CONFIGURATION
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_something_new": False, "another": None}))
    assert not adapter_kinds.read_kind(folder).changes_base


@pytest.mark.parametrize("setting", ["target_modules", "exclude_modules", "rank_pattern"])
def test_a_regular_expression_without_end_is_stopped(load, make, monkeypatch, setting):
    monkeypatch.setattr(adapter_kinds, "PATTERN_SECONDS", 1)
    folder = make(lora())
    file = folder / adapter_kinds.CONFIGURATION
    endless = r"(([a-z0-9_.])+)+#"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {setting: {endless: 2} if setting == "rank_pattern" else endless})
    )
    start = time.monotonic()
    with pytest.raises(UserError, match="regular expression.*longer than 1 s"):
        adapter.load_adapter(load(), folder)
    assert time.monotonic() - start < 20


def test_a_checkpoint_of_another_adapter_is_not_resumed(load, make, make_settings):
    folder = make(lora(lora_dropout=0.05))
    run = peft.get_peft_model(load(), lora())
    adapter.resume_adapter(run, folder)
    assert all(weight.requires_grad for name, weight in run.named_parameters() if "lora_" in name)
    tensors = load_file(folder / WEIGHTS)
    save_file(dict(list(tensors.items())[:6]), folder / WEIGHTS)
    with pytest.raises(UserError, match="6 of its tensors are missing"):
        adapter.resume_adapter(run, folder)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(UserError, match="use_rslora"):
        adapter.resume_adapter(peft.get_peft_model(load(), lora(use_rslora=True)), folder)


def test_a_weight_of_the_base_that_the_adapter_does_not_declare_changes_the_base(make):
    folder = make(lora())
    tensors = load_file(folder / "adapter_model.safetensors")
    assert not adapter_kinds.read_kind(folder).changes_base
    for name in ("base_model.model.model.norm.weight", "weight"):
        save_file(tensors | {name: torch.ones(4)}, folder / "adapter_model.safetensors")
        assert adapter_kinds.read_kind(folder).changes_base
