"""The summed loss of packed batches: that of the model itself, row by row, with logits only for targets."""

import pytest
import torch
from small_data import FEW_ROWS as ROWS
from small_data import SIZES
from transformers import GraniteConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.granite import GraniteForCausalLM

from sqlora.training.packing import packed_batches, packed_loss


def by_row(model, row):
    """The model's own loss, a mean, times its targets."""
    ids, labels = (torch.tensor([row[key]]) for key in ("input_ids", "labels"))
    return model(input_ids=ids, labels=labels).loss * packed_batches.count_targets([row])


@pytest.mark.parametrize("layout", ["tree", "prefix", "off", "alone"])
@pytest.mark.parametrize(
    "model", [LlamaForCausalLM(LlamaConfig(**SIZES)), GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=4.0))]
)
def test_the_sum_is_that_of_the_rows_by_themselves(model, layout):
    model = model.double().eval()
    model.set_attn_implementation("sqlora_prefix" if layout == "prefix" else "sdpa")
    batches = packed_batches.make_batches(ROWS, layout, 10_000)
    with torch.no_grad():
        got = sum(packed_loss.loss_sum(model, batch, model) for batch in batches)
        model.set_attn_implementation("eager")
        # the model's own loss is float32, whatever its weights are
        torch.testing.assert_close(got.float(), sum(by_row(model, row) for row in ROWS))


def test_only_targets_get_logits_and_the_model_is_left_as_it_was():
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    widths = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: widths.append(output.shape[1]))
    (batch,) = packed_batches.make_batches(ROWS, "off", 10_000)
    packed_loss.loss_sum(model, batch, model)
    model(input_ids=batch["input_ids"])
    hook.remove()
    assert widths == [packed_batches.count_targets(ROWS), batch["input_ids"].shape[1]]


def test_a_failed_pass_leaves_no_hook():
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    (batch,) = packed_batches.make_batches(ROWS, "off", 10_000)
    with pytest.raises(IndexError):
        packed_loss.loss_sum(model, batch | {"target_indices": torch.tensor([10_000])}, model)
    assert not model.get_output_embeddings()._forward_pre_hooks
