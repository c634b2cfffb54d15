"""What a configuration says about a model: row length, windows, ropes, dropout, the tokens that end an answer."""

from types import SimpleNamespace

import peft
import pytest
import transformers
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config

from sqlora.model import architecture
from sqlora.system.errors import UserError

LONG_ROPE = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}


def small(config):
    return AutoModelForCausalLM.from_config(config)


def test_the_longest_row():
    assert architecture.longest_row(LlamaConfig(max_position_embeddings=99)) == 99
    assert architecture.longest_row(BloomConfig()) == float("inf")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (LlamaConfig(), None),
        (GPT2Config(), "a gpt2 model is not known"),
        (MistralConfig(sliding_window=64), "reaches only 64 tokens"),
        (MistralConfig(sliding_window=1000), None),
        (LlamaConfig(rope_parameters=LONG_ROPE), "rotary embeddings change"),
    ],
)
def test_which_models_share_prefixes_exactly(config, reason):
    found = architecture.why_inexact(config, longest=100)
    assert found is None if reason is None else reason in found


def test_the_narrowest_window():
    assert architecture.narrowest_window(MistralConfig(sliding_window=64)) == 64
    assert architecture.narrowest_window(Qwen2Config(use_sliding_window=False, sliding_window=64)) is None
    assert architecture.narrowest_window(LlamaConfig()) is None


def test_rows_beyond_a_changing_rope_go_alone():
    config = LlamaConfig(rope_parameters=LONG_ROPE, max_position_embeddings=128)
    assert not architecture.goes_alone(config, 128)
    assert architecture.goes_alone(config, 129)
    assert not architecture.goes_alone(LlamaConfig(max_position_embeddings=128), 10_000)


def test_a_models_own_dropout():
    assert architecture.own_dropout(LlamaConfig()) is None
    assert architecture.own_dropout(LlamaConfig(attention_dropout=0.1)) == "attention_dropout"


SIZES = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_the_output_layer_gets_no_adapter():
    assert architecture.adaptable_layers(small(LlamaConfig(**SIZES, num_key_value_heads=2))) == [
        "down_proj",
        "gate_proj",
        "k_proj",
        "o_proj",
        "q_proj",
        "up_proj",
        "v_proj",
    ]
    gpt2 = small(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))
    assert architecture.adaptable_layers(gpt2) == ["c_attn", "c_fc", "c_proj"]


def test_all_tokens_that_end_an_answer_and_exist():
    model = small(LlamaConfig(**SIZES, eos_token_id=[2, 5]))
    model.generation_config = transformers.GenerationConfig(eos_token_id=[7, 64])
    assert architecture.end_tokens(model, SimpleNamespace(eos_token_id=3)) == {2, 3, 5, 7}
    for odd in ("2", [[2]], {"a": 1}):
        model.generation_config.eos_token_id = odd
        assert architecture.end_tokens(model, SimpleNamespace(eos_token_id=3)) == {2, 3, 5}


def test_a_token_without_an_embedding_is_refused(llama_tokenizer):
    model = small(LlamaConfig(**{**SIZES, "vocab_size": len(llama_tokenizer) - 1}))
    with pytest.raises(UserError, match="--base-model.*embeddings for only"):
        architecture.check_tokens(model, llama_tokenizer)
    architecture.check_tokens(small(LlamaConfig(**{**SIZES, "vocab_size": len(llama_tokenizer)})), llama_tokenizer)


@pytest.mark.parametrize(
    "more", [{"target_modules": ["q_proj", "embed_tokens"]}, {"trainable_token_indices": {"embed_tokens": [3, 4]}}]
)
def test_an_adapter_round_the_embeddings_does_not_hide_how_many_there_are(more):
    config = LlamaConfig(
        vocab_size=90, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    model = AutoModelForCausalLM.from_config(config)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**({"target_modules": ["q_proj"]} | more)))
    assert architecture.known_tokens(model) == architecture.known_tokens(wrapped) == 90
