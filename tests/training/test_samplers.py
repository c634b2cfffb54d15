"""The order of rows: batches that go well together, at random otherwise."""

import torch

from sqlora.training import samplers


def assert_seeded(sampler, order):
    """The order is that of the seed and the epoch, whatever else draws random numbers."""
    torch.rand(3)
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert list(sampler) != order
    sampler.set_epoch(0)
    assert list(sampler) == order
    assert list(type(sampler)(sampler.rows, 1, sampler.batch_size)) != order


def test_batches_are_of_like_length_in_no_order_of_length():
    lengths = [5 + (i * 37) % 100 for i in range(203)]
    sampler = samplers.ShuffledLengthGroups([{"input_ids": [0] * length} for length in lengths], 0, 4)
    order = list(sampler)
    assert sorted(order) == list(range(203))
    batches = [[lengths[i] for i in order[start : start + 4]] for start in range(0, 203, 4)]
    assert max(batches[0]) == max(lengths)  # so that a lack of memory shows at once
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 10
    heads = [batch[0] for batch in batches]
    assert heads != sorted(heads, reverse=True)
    assert_seeded(sampler, order)
    assert sorted(samplers.ShuffledLengthGroups([{"input_ids": [0]}] * 3, 0, 4)) == [0, 1, 2]


def test_batches_begin_alike_and_their_order_changes():
    rows = [{"input_ids": [1, i % 5, i]} for i in range(43)]
    sampler = samplers.ShuffledPrefixGroups(rows, 0, 4)
    order = list(sampler)
    assert len(sampler) == 43
    assert sorted(order) == list(range(43))
    batches = [{rows[i]["input_ids"][1] for i in order[start : start + 4]} for start in range(0, 40, 4)]
    assert sum(map(len, batches)) <= 2 * len(batches)
    assert_seeded(sampler, order)
    assert sorted(samplers.ShuffledPrefixGroups(rows[:3], 0, 4)) == [0, 1, 2]


def test_rows_come_at_random():
    rows = [{"input_ids": [i]} for i in range(50)]
    order = list(samplers.Shuffled(rows, 0, 4))
    assert sorted(order) == list(range(50))
    assert_seeded(samplers.Shuffled(rows, 0, 4), order)
