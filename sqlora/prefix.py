"""What prompts begin with alike, such as the schema of one database, goes through the model once for all of them.

Its keys and values are computed on one row and repeated for the rows of each batch. What follows is padded on its left, between
the prefix and the rest; positions are counted over the attention mask, so that they are those of the prompt alone.
"""

from __future__ import annotations

import torch

from sqlora.stack import LEGACY

if not LEGACY:
    from transformers import DynamicCache

WORTH = 0.5  # share of the prompts' tokens that the prefix must have, to be worth a pass of its own


def shared_length(prompts: list[list[int]]) -> int:
    """How many tokens all prompts begin with alike, at least one less than the shortest has; 0 where it is not worth it."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # in the order of a dictionary: what these two share, all between them do
    alike = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    length = min(alike, min(map(len, prompts)) - 1)
    return length if length * len(prompts) >= WORTH * sum(map(len, prompts)) else 0


def prefill(model, ids: list[int]) -> DynamicCache | None:
    """The keys and values of a prefix; None where there is no prefix, or the model keeps something else than such a cache."""
    if not ids or LEGACY:  # whose models keep tuples
        return None
    cache = model(input_ids=torch.tensor([ids], device=model.device), use_cache=True, logits_to_keep=1).past_key_values
    if type(cache) is not DynamicCache or any(getattr(layer, "is_sliding", False) for layer in cache.layers):
        return None
    return cache


def repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """The cache for `rows` rows that all begin with its prefix; the original stays as it is."""
    fresh = DynamicCache()
    for number, layer in enumerate(cache.layers):
        fresh.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    return fresh
