"""The order in which rows come to training: at random, in batches of rows that go well together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import RandomSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from sqlora.packing import Row
from sqlora.settings import Settings


def make_sampler(rows: list[Row], form: str, settings: Settings) -> Sampler:
    """The order for one of packing.FORMS."""
    if form != "off" and settings.PROMPT_ORDER == "schema_first":
        return ShuffledPrefixGroups(settings.BATCH_SIZE, rows)
    if form == "tree":  # which pads nothing
        return RandomSampler(rows)
    return ShuffledLengthGroups(settings.BATCH_SIZE * settings.GRADIENT_ACCUMULATION_STEPS, rows)


class ShuffledLengthGroups(LengthGroupedSampler):
    """Rows of like length together, in batches that come in random order, but for the first, with the longest row.

    transformers' own sampler goes from long rows to short ones, again and again, and the loss goes up and down with them.
    """

    def __init__(self, batch_size: int, rows: list[Row]):
        super().__init__(batch_size, lengths=[len(row["input_ids"]) for row in rows])

    def __iter__(self) -> Iterator[int]:
        order = list(super().__iter__())
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        last = [batches.pop()] if len(batches[-1]) < self.batch_size else []  # in the middle it would shift the others
        shuffled = [batches[i + 1] for i in torch.randperm(max(0, len(batches) - 1)).tolist()]
        return iter([index for batch in [*batches[:1], *shuffled, *last] for index in batch])


class ShuffledPrefixGroups(Sampler[int]):
    """Rows that begin alike together, as the questions on one schema do with PROMPT_ORDER schema_first, in batches that come
    in random order. Where one batch ends and the next begins is random too."""

    def __init__(self, batch_size: int, rows: list[Row]):
        self.batch_size = batch_size
        self.order = sorted(range(len(rows)), key=lambda i: rows[i]["input_ids"])

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        start = int(torch.randint(len(self.order), ()))
        order = self.order[start:] + self.order[:start]
        full = len(order) // self.batch_size * self.batch_size
        batches = torch.tensor(order[:full], dtype=torch.int64).view(-1, self.batch_size)
        shuffled = batches[torch.randperm(len(batches))].flatten().tolist()
        return iter(shuffled + order[full:])
