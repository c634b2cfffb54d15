"""Passes as graphs: where launching kernels takes longer than running them, a forward and backward pass is replayed.

A graph is captured for each size of tree that comes, sizes being rungs of a ladder to which trees are padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sqlora.system.console import note
from sqlora.system.errors import one_line
from sqlora.training.packing import packed_batches

TOKEN_RUNGS, TARGET_RUNGS = 8, 4  # sizes between a power of two and the next


class PassGraphs:
    """The graphs of a model's passes over trees, which share one pool of memory; `gradients` are what they add to.

    `loss_sum` is the pass: the loss of a packed batch, summed over its targets.

        graphs = PassGraphs(trained, lambda batch: packed_loss.loss_sum(model, batch, base))
        loss = graphs.add_gradients(batch, targets)   # None if graphs do not work here
    """

    def __init__(
        self,
        trained: Sequence[torch.nn.Parameter],
        loss_sum: Callable[[packed_batches.PackedBatch], torch.Tensor],
    ) -> None:
        self.trained, self.loss_sum = trained, loss_sum
        self.gradients = [torch.zeros_like(parameter) for parameter in trained]
        self.device = trained[0].device
        self.module: Any = torch.get_device_module(self.device.type)
        self.works = True
        self._pool = None
        self._graphs: dict[tuple[int, int], tuple[Any, packed_batches.PackedBatch, torch.Tensor, torch.Tensor]] = {}

    def add_gradients(self, batch: packed_batches.PackedBatch, targets: int) -> torch.Tensor | None:
        """The loss of a tree, float32 [], divided by `targets`; its gradients are added to the parameters'. None where
        graphs do not work.
        """
        if not self.works:
            return None
        size = (
            packed_batches.BLOCK * rung(batch["input_ids"].shape[1] // packed_batches.BLOCK, TOKEN_RUNGS),
            rung(len(batch["targets"]), TARGET_RUNGS),
        )
        padded = packed_batches.pad_tree(batch, *size)
        if size not in self._graphs:
            try:
                self._graphs[size] = self._capture(padded)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    note("passes are not captured as graphs, for which there is too little memory")
                else:
                    note(f"passes are not captured as graphs, which does not work here ({one_line(error)})")
                self.works = False
                self._graphs = {}
                return None
        graph, inputs, divisor, loss = self._graphs[size]
        for name, tensor in padded.items():
            inputs[name].copy_(tensor)
        divisor.fill_(targets)
        self._take_gradients()
        graph.replay()
        return loss.clone()

    def _take_gradients(self) -> None:
        """The parameters' gradients are those that graphs add to, with what a pass without a graph added before."""
        for parameter, own in zip(self.trained, self.gradients, strict=True):
            if parameter.grad is None:
                own.zero_()
            elif parameter.grad is not own:
                own.copy_(parameter.grad)
            parameter.grad = own

    def _capture(self, batch: packed_batches.PackedBatch) -> tuple:
        """The graph of a pass, the tensors that it reads, and its loss."""
        inputs = {name: tensor.clone() for name, tensor in batch.items()}
        divisor = torch.ones((), device=self.device)
        before = [None if parameter.grad is None else parameter.grad.clone() for parameter in self.trained]
        self._take_gradients()

        def run() -> torch.Tensor:
            loss = self.loss_sum(inputs) / divisor
            loss.backward()
            return loss.detach()

        random = self.module.get_rng_state(self.device)
        side = self.module.Stream()
        side.wait_stream(self.module.current_stream())
        try:
            with self.module.stream(side):
                run()
            self.module.current_stream().wait_stream(side)
            torch.accelerator.empty_cache()  # what the passes took is the graph's now
            self.module.set_rng_state(random, self.device)
            graph = getattr(self.module, f"{self.device.type.upper()}Graph")()
            with self.module.graph(graph, pool=self._pool):
                loss = run()
            self._pool = self._pool or graph.pool()
        finally:
            self.module.set_rng_state(random, self.device)
            for parameter, own, gradient in zip(self.trained, self.gradients, before, strict=True):
                own.zero_() if gradient is None else own.copy_(gradient)
                parameter.grad = None if gradient is None else own
        return graph, inputs, divisor, loss


def rung(size: int, each: int) -> int:
    """The next of `each` sizes between a power of two and the next."""
    step = max(1, 2 ** int(math.log2(max(size, 1))) // each)
    return size + -size % step
