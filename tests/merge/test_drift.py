"""The measured drift is that of the two models."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from sqlora.data import tokenise
from sqlora.merge import drift


def test_the_measured_drift_is_that_of_the_two_models(llama_folder, llama_tokenizer, make_settings):
    rows = [
        {"question": f"How many {i}?", "context": f"CREATE TABLE t{i} (a INTEGER)", "answer": f"SELECT {i} FROM t{i}"}
        for i in range(3)
    ]
    tokenised = tokenise.tokenise_rows(rows, llama_tokenizer, make_settings()).rows
    model = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    before = drift.answer_scores(model, tokenised)
    loss = -before.logs.mean().item()
    assert drift.measure_drift(before, before) == drift.Drift(len(before.logs), 1.0, 0.0, 0.0, (loss, loss))
    with torch.no_grad():
        model.lm_head.weight.add_(torch.randn(model.lm_head.weight.shape))
    after, apart = (
        drift.answer_scores(model, tokenised),
        drift.measure_drift(before, drift.answer_scores(model, tokenised)),
    )
    singly = [row_logs(model, row) for row in sorted(tokenised, key=lambda row: len(row["input_ids"]))]
    assert torch.allclose(after.logs, torch.cat(singly), atol=1e-4)
    assert apart.mean == pytest.approx((before.logs - after.logs).abs().mean().item())
    assert apart.largest == pytest.approx((before.logs - after.logs).abs().max().item())
    assert apart.loss[1] - apart.loss[0] == pytest.approx((before.logs - after.logs).mean().item(), rel=1e-3)
    assert apart.same < 1


@torch.inference_mode()
def row_logs(model, row):
    """The log-probabilities of a row's answer, the row alone in the model."""
    logs = model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(dim=-1)
    return torch.stack([logs[i - 1, label] for i, label in enumerate(row["labels"]) if label != tokenise.IGNORED_LABEL])
