"""The drift between two models: the difference of their scores for the tokens of known answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sqlora.training.packing import packed_batches

TOKENS_AT_ONCE = 2048  # tokens whose logits are in memory at a time


@dataclass(frozen=True)
class Scores:
    """For each answer token its log-probability, float32 [tokens], and the model's likeliest token, int64 [tokens]."""

    logs: torch.Tensor
    best: torch.Tensor


@dataclass(frozen=True)
class Drift:
    """The comparison of two models' scores over `tokens`; for the share `same` both have the same likeliest token.

    `mean` and `largest` are of the absolute difference of log-probabilities; `loss` is each model's mean loss in nats.
    """

    tokens: int
    same: float
    mean: float
    largest: float
    loss: tuple[float, float]


@torch.inference_mode()
def answer_scores(model, rows: Sequence[packed_batches.TokenisedExample]) -> Scores:
    """The model's scores of the answers' tokens, in an order that depends only on the rows."""
    model.eval()
    logs, best = [], []
    for inputs in packed_batches.make_batches(rows, "off", TOKENS_AT_ONCE):
        inputs = {key: tensor.to(model.device) for key, tensor in inputs.items()}
        logits = (
            model(input_ids=inputs["input_ids"], use_cache=False).logits.flatten(0, 1)[inputs["target_indices"]].float()
        )
        logs.append(logits.log_softmax(dim=-1).gather(1, inputs["targets"][:, None])[:, 0].cpu())
        best.append(logits.argmax(dim=-1).cpu())
    return Scores(torch.cat(logs), torch.cat(best))


def measure_drift(before: Scores, after: Scores) -> Drift:
    """The drift between the scores of two models on the same rows."""
    difference = (after.logs - before.logs).abs()
    same = (after.best == before.best).float().mean().item()
    loss = -before.logs.mean().item(), -after.logs.mean().item()
    return Drift(len(difference), same, difference.mean().item(), difference.max().item(), loss)
