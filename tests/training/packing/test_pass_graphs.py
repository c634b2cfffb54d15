"""Passes as graphs: a padded tree is the same mathematics, and a replayed pass that of the tree itself."""

import pytest
import torch
from small_data import FEW_ROWS as ROWS
from small_data import SIZES
from transformers import LlamaConfig, LlamaForCausalLM

from sqlora.training.packing import attention, packed_batches, packed_loss, pass_graphs


@pytest.mark.parametrize(
    ("size", "each", "expected"), [(1, 8, 1), (7, 8, 7), (17, 8, 18), (33, 16, 34), (64, 16, 64), (1025, 8, 1152)]
)
def test_the_ladder(size, each, expected):
    assert pass_graphs.rung(size, each) == expected


def test_a_padded_tree_has_the_same_loss_and_gradients():
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).double().train()
    (batch,) = packed_batches.make_batches(ROWS, "tree", 10_000)
    padded = packed_batches.pad_tree(batch, 3 * packed_batches.BLOCK, 16)
    assert padded["input_ids"].shape == padded["position_ids"].shape == (1, 3 * packed_batches.BLOCK)
    assert len(padded["targets"]) == len(padded["target_indices"]) == len(padded["weights"]) == 16
    losses, gradients = [], []
    for one in (batch, padded):
        model.zero_grad()
        loss = packed_loss.loss_sum(model, one, model)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are captured on a GPU")
def test_a_graph_replays_what_eager_computes_for_each_rung():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES | {"hidden_size": 64})).cuda().train()
    model.set_attn_implementation(attention.TREE_ATTENTION)
    trained = list(model.parameters())

    def loss_sum(batch):
        return packed_loss.loss_sum(model, batch, model)

    def gradients():
        return torch.cat([parameter.grad.flatten() for parameter in trained])

    graphs = pass_graphs.PassGraphs(trained, loss_sum)
    for times in (1, 40, 90, 1, 40):  # tokens of the rows
        rows = [{key: [*ids, *([ids[-1]] * times)] for key, ids in row.items()} for row in ROWS]
        (batch,) = packed_batches.make_batches(rows, "tree", 10_000)
        batch = {name: tensor.cuda() for name, tensor in batch.items()}
        found = []

        def eager(batch):
            loss_sum(batch).div(7).backward()

        def replayed(batch):
            graphs.add_gradients(batch, 7)

        for ways in ((eager, eager, eager), (eager, replayed, replayed), (replayed, eager, replayed)):
            model.zero_grad()
            for add in ways:  # the passes of a step
                add(batch)
            found.append(gradients().clone())
        assert graphs.works
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], rtol=1e-3, atol=1e-4)
    assert len(graphs._graphs) == 3
