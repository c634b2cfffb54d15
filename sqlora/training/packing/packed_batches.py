"""Packed batches: the rows of an optimiser step as a prefix tree, as a shared prefix with its remainders, or padded.

All three are the same mathematics: every target token of every row is predicted from that row's own previous tokens.

In the tree every token prefix that rows share appears once. Its nodes are in preorder, a node's position is its depth,
and node q sees node k iff `k <= q < ends[k]`, where ends[k] is the end of k's subtree. So one vector gives causality,
separates rows, and shares their prefixes.

A PackedBatch is a dict of int64 tensors: `input_ids` [1 or rows, length]; except for padded rows `position_ids` [1,
length]; for a tree `ends` [length]; for a prefix of P tokens with remainders of S tokens `attention_mask`, bool [1, 1,
S, P + S]. `target_indices` [targets] has the indices of the flattened tokens that predict, `targets` [targets] the
predicted tokens, and `weights` [targets], float32, the number of rows with this target there.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from sqlora.data.tokenise import IGNORED_LABEL
from sqlora.model.device import LENGTH_STEP

TokenisedExample = dict[str, list[int]]
PackedBatch = dict[str, torch.Tensor]
LAYOUTS = ("tree", "prefix", "off")  # values of PACKING
BLOCK = 128  # trees are padded to a multiple of it, the block size of FlexAttention's masks
COPIES = 8  # of a tree's first block of keys


def make_batches(
    rows: Sequence[TokenisedExample], packing: str, most_tokens: int, most_rows: int = 1 << 30
) -> list[PackedBatch]:
    """Packs rows in one of LAYOUTS, in batches of at most `most_tokens` tokens, or of a single row.

    "alone" has each row in a batch without padding. A tree has none either; in the other layouts, sorted by length, a
    batch has at most `most_rows`, so that little is padded.

        make_batches([{"input_ids": [1, 5, 6, 2], "labels": [-100, -100, 6, 2]}, ...], "tree", 16_384)
    """
    rows = sorted(rows, key=lambda row: row["input_ids"] if packing == "tree" else len(row["input_ids"]))
    builders: dict[str, Callable[[list[TokenisedExample]], PackedBatch]] = {
        "tree": build_tree,
        "prefix": build_prefix,
        "off": build_padded,
        "alone": functools.partial(build_padded, step=1),
    }
    return [builders[packing](part) for part in _split(rows, packing, most_tokens, most_rows)]


def count_targets(rows: list[TokenisedExample]) -> int:
    """The number of predicted tokens; the first token of a row never is one."""
    return sum(label != IGNORED_LABEL for row in rows for label in row["labels"][1:])


def build_tree(rows: list[TokenisedExample]) -> PackedBatch:
    """The prefix tree of rows, which must be sorted by their ids."""
    ids: list[int] = []
    positions: list[int] = []
    ends: list[int] = []
    path: list[int] = []  # indices of the last row's tokens
    before: list[int] = []
    wanted: Counter = Counter()
    for row in rows:
        tokens = row["input_ids"]
        shared = _shared(before, tokens)
        for token_index in path[shared:]:
            ends[token_index] = len(ids)
        path = [*path[:shared], *range(len(ids), len(ids) + len(tokens) - shared)]
        ids += tokens[shared:]
        positions += range(shared, len(tokens))
        ends += [0] * (len(tokens) - shared)
        wanted.update(_targets(row, path))
        before = tokens
    for token_index in path:
        ends[token_index] = len(ids)
    padding = -len(ids) % BLOCK
    # A padding token sees only itself: an empty row of the mask would give NaN.
    ends += range(len(ids) + 1, len(ids) + padding + 1)
    return {
        "input_ids": torch.tensor([ids + [0] * padding]),
        "position_ids": torch.tensor([positions + [0] * padding]),
        "ends": torch.tensor(ends),
    } | _tensors(wanted)


def pad_tree(batch: PackedBatch, tokens: int, targets: int) -> PackedBatch:
    """A tree with more tokens, which see only themselves, and more targets, which have no weight."""
    more = tokens - len(batch["ends"])
    alone = torch.arange(len(batch["ends"]) + 1, tokens + 1, device=batch["ends"].device)
    pad = torch.nn.functional.pad
    return {
        "input_ids": pad(batch["input_ids"], (0, more)),
        "position_ids": pad(batch["position_ids"], (0, more)),
        "ends": torch.cat([batch["ends"], alone]),
    } | {name: pad(batch[name], (0, targets - len(batch[name]))) for name in ("target_indices", "targets", "weights")}


def build_prefix(rows: list[TokenisedExample]) -> PackedBatch:
    """The P tokens that all rows share, once, and then the remainder of each row, padded on the right to S tokens.

    The mask says what the S tokens of any row see of the prefix and of themselves. A row has at least one token of its
    own after the prefix.
    """
    first, last = min(row["input_ids"] for row in rows), max(row["input_ids"] for row in rows)
    # What the first and the last in order share, all between them share.
    shared = min(_shared(first, last), *(len(row["input_ids"]) - 1 for row in rows))
    length = _padded_length(rows, shared)
    ids, positions = first[:shared], [*range(shared)]
    wanted: Counter = Counter()
    for row in rows:
        wanted.update(_targets(row, [*range(shared), *range(len(ids), len(ids) + length)]))
        rest = row["input_ids"][shared:]
        ids = ids + rest + [0] * (length - len(rest))
        positions += range(shared, shared + length)
    mask = torch.ones(length, shared + length, dtype=torch.bool).tril(shared)
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": mask[None, None],
    } | _tensors(wanted)


def build_padded(rows: list[TokenisedExample], step: int = LENGTH_STEP) -> PackedBatch:
    """Rows padded on the right, to a multiple of `step`, without a mask: causal attention never sees the padding."""
    length = _padded_length(rows, step=step)
    wanted: Counter = Counter()
    for number, row in enumerate(rows):
        wanted.update(_targets(row, range(number * length, (number + 1) * length)))
    padded = [row["input_ids"] + [0] * (length - len(row["input_ids"])) for row in rows]
    return {"input_ids": torch.tensor(padded)} | _tensors(wanted)


def tree_mask(ends: torch.Tensor) -> torch.Tensor:
    """Which key (last dimension) each query sees: bool [1, 1, length, length]."""
    index = torch.arange(len(ends), device=ends.device)
    return ((index <= index[:, None]) & (index[:, None] < ends))[None, None]


def tree_block_mask(ends: torch.Tensor):
    """The same mask for FlexAttention, computed from the ends without a [length, length] tensor.

    Below the diagonal a block of queries from q on sees part of a block of keys iff one of the keys' ends is beyond q,
    and all of it iff none ends before the last query.

    The first block of keys, which all rows share, is read from COPIES behind the others, each by as many blocks of
    queries: a program of the backward pass has all queries that see a block, and the others would wait for this one.
    """
    from torch.nn.attention.flex_attention import BlockMask

    blocks = ends.view(-1, BLOCK)
    block = torch.arange(len(blocks), device=ends.device)
    start, below = block[:, None] * BLOCK, block[:, None] > block
    full = below & (blocks.amin(dim=1) >= start + BLOCK)
    some = (below & (blocks.amax(dim=1) > start) | (block[:, None] == block)) & ~full
    # The queries that see a key, from one to another.
    index = torch.arange(len(ends), device=ends.device)
    since, until = with_copies(index, 0), with_copies(ends, 0)
    first_reader = -(-torch.arange(COPIES + 1, device=ends.device) * len(blocks) // COPIES)
    since[len(ends) :].unflatten(0, (COPIES, BLOCK)).clamp_(min=BLOCK * first_reader[:-1, None])
    until[len(ends) :].unflatten(0, (COPIES, BLOCK)).clamp_(max=BLOCK * first_reader[1:, None])
    until[:BLOCK] = 0

    def sees(batch, head, query, key):
        return (since[key] <= query) & (query < until[key])

    def listed(seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        reads = (first_reader[:-1] <= block[:, None]) & (block[:, None] < first_reader[1:])
        seen = torch.cat([torch.zeros_like(seen[:, :1]), seen[:, 1:], seen[:, :1] & reads], dim=1)
        order = seen.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        return seen.sum(dim=1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None]

    return BlockMask.from_kv_blocks(
        *listed(some), *listed(full), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(len(ends), len(since))
    )


def with_copies(states: torch.Tensor, dimension: int) -> torch.Tensor:
    """A tree's keys or values, or numbers of its tokens, with the copies of the first block that its mask reads."""
    return torch.cat([states, *[states.narrow(dimension, 0, BLOCK)] * COPIES], dim=dimension)


def _split(
    rows: Sequence[TokenisedExample], packing: str, most_tokens: int, most_rows: int
) -> list[list[TokenisedExample]]:
    parts: list[list[TokenisedExample]] = []
    tokens = 0  # of the last part
    for row in rows:
        length = len(row["input_ids"])
        if packing == "tree":
            grown = tokens + length - (_shared(parts[-1][-1]["input_ids"], row["input_ids"]) if parts else 0)
        else:
            grown = (len(parts[-1]) + 1) * length if parts else length
        is_full = packing == "alone" or (packing != "tree" and parts and len(parts[-1]) == most_rows)
        if not parts or grown > most_tokens or is_full:
            parts.append([row])
            tokens = length
        else:
            parts[-1].append(row)
            tokens = grown
    return parts


def _shared(first: list[int], second: list[int]) -> int:
    """The length of the common prefix."""
    for i, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return i
    return min(len(first), len(second))


def _padded_length(rows: list[TokenisedExample], shared: int = 0, step: int = LENGTH_STEP) -> int:
    longest = max(len(row["input_ids"]) for row in rows) - shared
    return longest + -longest % step


def _targets(row: TokenisedExample, token_indices: list[int] | range) -> list[tuple[int, int]]:
    return [(token_indices[i], label) for i, label in enumerate(row["labels"][1:]) if label != IGNORED_LABEL]


def _tensors(wanted: Counter) -> PackedBatch:
    token_indices, targets = zip(*wanted, strict=True) if wanted else ((), ())
    return {
        "target_indices": torch.tensor(token_indices, dtype=torch.int64),
        "targets": torch.tensor(targets, dtype=torch.int64),
        "weights": torch.tensor(list(wanted.values()), dtype=torch.float32),
    }
