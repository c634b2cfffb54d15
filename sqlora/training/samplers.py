"""The order of training rows: random, in batches of rows that go well together.

The order depends only on the run's seed and the epoch, so a resumed run sees the rows that it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from sqlora.data.schema_variants import EpochRows
from sqlora.settings.settings import Settings
from sqlora.training.packing.packed_batches import TokenisedExample


def make_sampler(rows: Sequence[TokenisedExample], form: str, settings: Settings) -> Shuffled:
    """The order for a form of packed_batches.make_batches."""
    if settings.STREAMING:  # rows come as they are read
        return Shuffled(rows, settings.SEED, settings.BATCH_SIZE)
    if form in ("tree", "prefix") and settings.PROMPT_ORDER == "schema_first":
        return ShuffledPrefixGroups(rows, settings.SEED, settings.BATCH_SIZE)
    if form == "tree":  # which pads nothing
        return Shuffled(rows, settings.SEED, settings.BATCH_SIZE)
    return ShuffledLengthGroups(rows, settings.SEED, settings.step_rows)


class Shuffled(Sampler[int]):
    """All rows in random order."""

    def __init__(self, rows: Sequence[TokenisedExample], seed: int, batch_size: int):
        self.rows = rows
        self.seed = seed
        self.batch_size = batch_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if isinstance(self.rows, EpochRows):
            self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(torch.Generator().manual_seed(self.seed + self.epoch)))

    def order(self, generator: torch.Generator) -> list[int]:
        return torch.randperm(len(self.rows), generator=generator).tolist()


class ShuffledLengthGroups(Shuffled):
    """Batches of rows of similar length, in random order, except that the first batch has the longest row.

    transformers' own order goes from long rows to short ones again and again, and the loss goes up and down with it.
    """

    def order(self, generator: torch.Generator) -> list[int]:
        lengths = [len(row["input_ids"]) for row in self.rows]
        order = get_length_grouped_indices(lengths, self.batch_size, generator=generator)
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        last = [batches.pop()] if len(batches[-1]) < self.batch_size else []  # elsewhere it would shift the others
        shuffled = [batches[i + 1] for i in torch.randperm(max(0, len(batches) - 1), generator=generator).tolist()]
        return [index for batch in [*batches[:1], *shuffled, *last] for index in batch]


class ShuffledPrefixGroups(Shuffled):
    """Batches of rows with a common prefix, in random order, with random boundaries between the batches.

    With PROMPT_ORDER schema_first the questions on one schema have a common prefix.
    """

    def order(self, generator: torch.Generator) -> list[int]:
        order = sorted(range(len(self.rows)), key=lambda i: self.rows[i]["input_ids"])
        start = int(torch.randint(len(order), (), generator=generator))
        order = order[start:] + order[:start]
        full = len(order) // self.batch_size * self.batch_size
        batches = torch.tensor(order[:full], dtype=torch.int64).view(-1, self.batch_size)
        return batches[torch.randperm(len(batches), generator=generator)].flatten().tolist() + order[full:]
