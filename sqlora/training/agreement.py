"""Checks at the start of every run that the model trains here as it does in plain transformers."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence

import torch

from sqlora.model import architecture, precision
from sqlora.model.backend import backend
from sqlora.model.reference import faults_in_one_line, reference_model
from sqlora.system.errors import UserError
from sqlora.training.packing import packed_batches, plan

SEEN = 1000  # rows, of which the two shortest are tried
DROPPED = 0.1  # by which a gradient's norm may differ where each way draws its own dropout


def check_training(model, packing: plan.PackingPlan, rows: Sequence[packed_batches.TokenisedExample]) -> None:
    """Raises UserError unless the loss and gradient norm of two short rows are those of the model as transformers
    runs it: each row by itself, the model's own loss, attention by its definition (eager), nothing compiled.

    They are real rows: on made-up ones a trained model's gradient changes with every rounding.

    They differ by rounding alone, of which precision.py says how large it may be. Nothing is left behind.
    """
    with faults_in_one_line(
        model, "trained", "try LOW_BIT (--low-bit) none or other LORA_TARGETS (--lora-targets), or "
    ):
        # In evaluation mode there is no dropout. But a compiled layer would be compiled anew for it, and a backend may
        # have no gradient there; then both sides use dropout, which leaves the loss as it is, since a fresh adapter
        # adds nothing to it.
        drops = (packing.compiled or not backend.GRADIENT_IN_EVAL) and not architecture.own_dropout(model.config)
        few = heapq.nsmallest(2, itertools.islice(rows, SEEN), key=lambda row: len(row["input_ids"]))
        ours = _measured(model, drops, lambda: plan.loss_of(model, packing, few))
        with reference_model(model):
            theirs = _measured(model, drops, lambda: _plain_loss(model, few))
    dtype, config = backend.rounding(model), model.config
    layers, size = getattr(config, "num_hidden_layers", 1), getattr(config, "hidden_size", 1)
    limits = (precision.limit_of_loss(dtype, size), precision.limit_of_gradient(dtype, size, layers) + drops * DROPPED)
    for name, one, other, most in zip(("summed loss", "gradient norm"), ours, theirs, limits, strict=True):
        if not abs(one - other) <= most * abs(other):  # which NaN is not
            raise UserError(
                f"this {config.model_type} model cannot be trained here: the {name} of two rows is {one:.6g}, and in "
                f"plain transformers {other:.6g}; try PACKING (--packing) off, COMPILE (--compile) off or DTYPE "
                f"(--dtype) float32, or take another BASE_MODEL (--base-model)"
            )


def _measured(model, training: bool, compute) -> tuple[float, float]:
    """The loss that `compute` gives, and the norm of the gradient that it leaves."""
    with plan.state_kept(model, training):
        loss = compute().item()
        gradients = [parameter.grad.double().norm() for parameter in model.parameters() if parameter.grad is not None]
        return loss, torch.stack(gradients).norm().item() if gradients else 0.0


def _plain_loss(model, rows: list[packed_batches.TokenisedExample]) -> torch.Tensor:
    """The loss summed over all targets, from the model's own mean loss of each row; leaves its gradients."""
    total = torch.zeros((), device=model.device)
    for row in rows:
        ids, labels = (torch.tensor([row[key]], device=model.device) for key in ("input_ids", "labels"))
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss * packed_batches.count_targets([row])
        loss.backward()
        total = total + loss.detach()
    return total
