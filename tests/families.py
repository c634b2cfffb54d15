"""Tiny random models of many families, of transformers' own configurations, with a tokenizer: what base models users
have.
"""

from pathlib import Path

import torch
from snapshots import byte_level_bpe
from transformers import AutoConfig, AutoModelForCausalLM

COMMON = {"vocab_size": 400, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
LLAMA_LIKE = COMMON | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
}
MIXTURE = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
GPT_LIKE = COMMON | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024, "initializer_range": 0.2}

# Packed, and answered in slots.
KNOWN = {
    "llama": {
        "rope_parameters": {
            "rope_type": "yarn",
            "factor": 4.0,
            "rope_theta": 1e4,
            "original_max_position_embeddings": 256,
        }
    },
    "mistral": {"sliding_window": 1024},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"head_dim": 16},
    "granite": {
        "logits_scaling": 4.0,
        "residual_multiplier": 0.3,
        "embedding_multiplier": 6.0,
        "attention_multiplier": 0.1,
    },
    "olmo": {"clip_qkv": 8.0},
    "olmo2": {},
    "olmo3": {"sliding_window": 1024},
    "smollm3": {"num_hidden_layers": 4, "no_rope_layer_interval": 2},
    "gemma": {"head_dim": 16},
    "gemma3_text": {
        "head_dim": 16,
        "num_hidden_layers": 3,
        "sliding_window": 1024,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 24,
    },
    "phi3": {},
    "starcoder2": {"sliding_window": None, "residual_dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": 0.0},
    "helium": {"head_dim": 8},
    "cohere": {"logit_scale": 0.25, "use_qk_norm": True},
}
# Padded, and answered by transformers' generate, or refused in a line.
OTHERS = {
    "gpt2": GPT_LIKE,
    "gpt_bigcode": GPT_LIKE,
    "gptj": GPT_LIKE | {"rotary_dim": 4},
    "codegen": GPT_LIKE | {"rotary_dim": 4},
    "gpt_neo": COMMON
    | {
        "hidden_size": 32,
        "num_layers": 2,
        "attention_types": [[["global", "local"], 1]],
        "num_heads": 4,
        "window_size": 32,
        "intermediate_size": 48,
        "initializer_range": 0.2,
    },
    "gpt_neox": {},
    "opt": COMMON
    | {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
        "init_std": 0.2,
        "pad_token_id": 0,
    },
    "bloom": COMMON | {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "mpt": COMMON | {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 1024, "initializer_range": 0.2},
    "falcon": COMMON | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2},
    "mamba": COMMON | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.2},
    "mamba2": COMMON
    | {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "state_size": 8,
        "num_heads": 8,
        "head_dim": 8,
        "n_groups": 2,
        "initializer_range": 0.2,
    },
    "falcon_mamba": COMMON | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.2},
    "rwkv": COMMON | {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 1024},
    "gemma2": LLAMA_LIKE
    | {"head_dim": 16, "sliding_window": 1024, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 3.0},
    "gpt_oss": LLAMA_LIKE
    | MIXTURE
    | {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 32},
    "mixtral": LLAMA_LIKE | MIXTURE | {"output_router_logits": True},
    "qwen2_moe": LLAMA_LIKE
    | MIXTURE
    | {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "output_router_logits": True},
    "qwen3_moe": LLAMA_LIKE | MIXTURE | {"moe_intermediate_size": 24, "head_dim": 16},
    "olmoe": LLAMA_LIKE | MIXTURE,
    "granitemoe": LLAMA_LIKE | MIXTURE | {"logits_scaling": 4.0},
    "phi": LLAMA_LIKE,
    "phimoe": LLAMA_LIKE | MIXTURE,
    "nemotron": LLAMA_LIKE,
    "stablelm": LLAMA_LIKE,
    "persimmon": LLAMA_LIKE,
    "cohere2": LLAMA_LIKE | {"logit_scale": 0.25, "sliding_window": 32},
    "glm": LLAMA_LIKE | {"head_dim": 8},
    "glm4": LLAMA_LIKE | {"head_dim": 8},
    "exaone4": LLAMA_LIKE | {"sliding_window": 32},
    "ernie4_5": LLAMA_LIKE | {"head_dim": 8},
    "seed_oss": LLAMA_LIKE | {"head_dim": 8},
    "hunyuan_v1_dense": LLAMA_LIKE | {"head_dim": 8},
    "llama4_text": LLAMA_LIKE | MIXTURE | {"head_dim": 8, "intermediate_size_mlp": 48, "attention_chunk_size": 64},
    "ministral": LLAMA_LIKE
    | {"head_dim": 8, "sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]},
    "ministral3": LLAMA_LIKE | {"head_dim": 8},
    "nanochat": LLAMA_LIKE,
    "lfm2": LLAMA_LIKE | {"layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": LLAMA_LIKE | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 32},
    "falcon_h1": LLAMA_LIKE
    | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1},
    "jamba": LLAMA_LIKE
    | {
        "num_hidden_layers": 4,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
        "mamba_d_state": 8,
        "use_mamba_kernels": False,
        "num_experts": 4,
        "expert_layer_period": 2,
    },
    "deepseek_v3": LLAMA_LIKE
    | {
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 24,
        "first_k_dense_replace": 1,
    },
    "bert": COMMON
    | {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "is_decoder": True,
        "pad_token_id": 0,
    },
    "xglm": COMMON | {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48, "pad_token_id": 0},
    "biogpt": COMMON
    | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "pad_token_id": 0},
    "diffllama": LLAMA_LIKE,
    "apertus": LLAMA_LIKE,
    "arcee": LLAMA_LIKE,
    "bitnet": LLAMA_LIKE,
    "zamba2": LLAMA_LIKE
    | {
        "mamba_d_state": 8,
        "n_mamba_heads": 4,
        "mamba_ngroups": 1,
        "hybrid_layer_ids": [1],
        "use_mem_rope": False,
        "layers_block_type": ["mamba", "hybrid"],
    },
}
OTHERS["gpt_neox"] = {key: value for key, value in LLAMA_LIKE.items() if key != "num_key_value_heads"}


def make_config(kind: str, **changes):
    return AutoConfig.for_model(kind, **(LLAMA_LIKE | KNOWN[kind] if kind in KNOWN else OTHERS[kind]) | changes)


def make_model(kind: str, **changes):
    """In float32, with eager attention; random, but so that its answers differ and end."""
    torch.manual_seed(7)
    return AutoModelForCausalLM.from_config(make_config(kind, **changes), attn_implementation="eager").eval()


def make_folder(kind: str, folder: Path, **changes) -> Path:
    make_model(kind, **changes).save_pretrained(folder)
    byte_level_bpe("<s>", "</s>").save_pretrained(folder)
    return folder
