"""What differs between model families, from a model's configuration: row length, attention, rotary embeddings, EOS.

A further family that is packed and decoded with a KV cache is a line in KNOWN_MODELS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from transformers.pytorch_utils import Conv1D

from sqlora.prompt import encoding
from sqlora.prompt.template import DEFAULT_LAYOUT
from sqlora.system.errors import UserError

# Families whose attention training/packing and generation/kv_cache.py compute, unless a window or a rope prevents it;
# tests/training/test_agreement.py compares each with plain transformers.
KNOWN_MODELS = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "granite",
    "olmo",
    "olmo2",
    "olmo3",
    "smollm3",
    "gemma",
    "gemma3_text",
    "phi3",
    "starcoder2",
    "helium",
    "cohere",
)
# names of the longest row's length in a configuration: of most models, MPT, RWKV
LENGTHS = ("max_position_embeddings", "max_seq_len", "context_length")
CHANGING_ROPES = ("dynamic", "longrope")  # their frequencies depend on the longest row of a batch


def longest_row(config) -> float:
    """The most tokens that the model sees; infinite for a model without a limit (Bloom, Mamba)."""
    lengths = (getattr(config, name, None) for name in LENGTHS)
    return next((length for length in lengths if length), float("inf"))


def why_inexact(config, longest: int) -> str | None:
    """Why rows of at most `longest` tokens cannot share prefixes or a KV cache exactly; None if they can."""
    if config.model_type not in KNOWN_MODELS:
        return f"a {config.model_type} model is not known to pack exactly"
    if getattr(config, "attn_logit_softcapping", None):
        return "the model caps its attention's scores"
    if getattr(config, "use_bidirectional_attention", False):
        return "the model's tokens attend to tokens on their right"
    if rope := next(_changing_ropes(config), None):
        return f"the model's rotary embeddings change with the length of a row ({rope[0]})"
    window = narrowest_window(config)
    if window and window < longest:
        return f"the model's attention reaches only {window} tokens, and rows have up to {longest}"
    return None


def own_dropout(config) -> str | None:
    """The name of a dropout that the base model itself has in training, besides the adapter's; None if it has none."""
    unused = ("classifier", "summary")  # heads that the model does not have
    return next(
        (
            name
            for name, value in config.to_dict().items()
            if "drop" in name and not name.startswith(unused) and isinstance(value, float) and value > 0
        ),
        None,
    )


def narrowest_window(config) -> int | None:
    """The tokens, including itself, that a token sees in the layer with the smallest window; None without windows."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    slides = any("full" not in kind for kind in kinds) if kinds else getattr(config, "use_sliding_window", True)
    return window if window and slides else None


def goes_alone(config, longest: int) -> bool:
    """Whether rows of up to `longest` tokens must be computed one at a time, since a longer one changes their rope."""
    return any(longest > length for _, length in _changing_ropes(config))


def _changing_ropes(config) -> Iterator[tuple[str, float]]:
    """The kind of each rope whose frequencies change with the row's length, and the length up to which they do not."""
    ropes = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for rope in (ropes, *ropes.values()):  # one, or one for each kind of layer
        kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, dict) else None
        if kind in CHANGING_ROPES:
            yield kind, rope.get("original_max_position_embeddings") or longest_row(config)


def adaptable_layers(model) -> list[str]:
    """The names of the linear layers that can have an adapter: all but the output layer."""
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not model.get_output_embeddings()
        }
    )


def known_tokens(model) -> int:
    """The number of tokens for which the model has embeddings, whatever an adapter has put around them."""
    layer = model.get_input_embeddings()
    return next(module for module in layer.modules() if hasattr(module, "num_embeddings")).num_embeddings


def end_tokens(model, tokenizer, layout: str = DEFAULT_LAYOUT) -> set[int]:
    """The tokens that end an answer: that of training, the tokenizer's EOS, and those of the model's two
    configurations.
    """
    named = [
        encoding.answer_end(tokenizer, layout),
        tokenizer.eos_token_id,
        *(
            getattr(config, "eos_token_id", None)
            for config in (model.config, getattr(model, "generation_config", None))
        ),
    ]
    listed = [token for tokens in named for token in (tokens if isinstance(tokens, Iterable) else [tokens])]
    known = known_tokens(model)
    return {token for token in listed if type(token) is int and 0 <= token < known}


def check_tokens(model, tokenizer, layout: str = DEFAULT_LAYOUT) -> None:
    """Raises UserError if text can become a token for which the model has no embedding.

    Special tokens do not count, except BOS, EOS and those of the prompt: text never becomes one (prompt/encoding.py).
    """
    used = {tokenizer.bos_token_id, tokenizer.eos_token_id, encoding.answer_end(tokenizer, layout)}
    special = set(tokenizer.all_special_ids) - used.union(encoding.trial_text(tokenizer, layout))
    highest = max((token for token in tokenizer.get_vocab().values() if token not in special), default=0)
    known = known_tokens(model)
    if highest >= known:
        raise UserError(
            f"BASE_MODEL (--base-model): its tokenizer has tokens up to {highest:,}, and the model has embeddings for "
            f"only {known:,}; use the tokenizer files that the model was trained with"
        )
