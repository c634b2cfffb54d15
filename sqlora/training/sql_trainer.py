"""The Trainer of a run: packed batches that fit into memory, checks of the loss, and whole checkpoints."""

from __future__ import annotations

import contextlib
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback
from transformers.trainer_utils import EvalLoopOutput

from sqlora.data.streaming import Stream
from sqlora.data.tokenise import TokenisedSplits
from sqlora.model.base_models import BaseModel
from sqlora.model.device import Device, available_memory, failure_of_device
from sqlora.model.transformers_compat import Trainer
from sqlora.settings.settings import Settings
from sqlora.system import distributed
from sqlora.system.console import note
from sqlora.system.errors import UserError
from sqlora.training import memory_estimate, samplers
from sqlora.training.arguments import training_arguments
from sqlora.training.checkpointing import CheckpointWriter, bad_loss, folder_of, read_progress
from sqlora.training.packing import packed_batches, packed_loss, pass_graphs, plan
from sqlora.training.run_folder import METRICS
from sqlora.training.run_log import RunLog
from sqlora.training.stopping import Stopping

GRAPH_SHARE = 0.25  # of the free memory: a graph keeps what its pass takes


@dataclass(frozen=True)
class Rows:
    """This rank's rows of an optimiser step, the token limit of its packed batches, and the last row of the step.

    The last row may belong to another rank. Not a list, which Trainer would search for tensors, number by number.
    """

    rows: list[packed_batches.TokenisedExample]
    most_tokens: int
    last: packed_batches.TokenisedExample


class SqlTrainer(Trainer):
    """transformers' Trainer with packed batches that fit into memory; a checkpoint writer, a log and a stop callback.

    In a distributed run each process has one, which takes its share of every step's rows. Losses and gradients
    are summed over the processes, so that all take the same steps; only the main process writes.

    `scorer` returns the share of validation rows that the model answers rightly, by which the best checkpoint is chosen
    then; without one the evaluation loss chooses it.

        trainer = SqlTrainer(model, settings, device, base, fingerprint, splits, packing)
        trainer.train(checkpoint)
    """

    def __init__(
        self,
        model: PeftModel,
        settings: Settings,
        device: Device,
        base: BaseModel,
        fingerprint: dict,
        splits: TokenisedSplits,
        packing: plan.PackingPlan,
        scorer: Callable[[], float] | None = None,
    ):
        self.checkpoints = CheckpointWriter(base, fingerprint, settings.SAVE_TOTAL_LIMIT)
        self.packing = packing
        self.settings = settings
        self.budget = memory_estimate.TokenBudget(model, splits.validation.rows, settings, device, packing)
        self.most_tokens = self.budget.most_tokens
        self.rows_seen = 0
        self.position: tuple | None = None  # in a stream, after the rows that were trained on
        self.seconds_before = 0.0  # of training, before the run was resumed
        self.seconds_aside = 0.0  # spent in evaluations and checkpoints
        self.base_model = model.get_base_model()
        self.graphs: pass_graphs.PassGraphs | None = None
        self.graph_tokens = self._graph_tokens(device)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.scorer = scorer
        self.unchecked: list[tuple[int, torch.Tensor]] = []
        self.unlogged: list[tuple[int, float]] = []
        super().__init__(
            model=model,
            args=training_arguments(settings, device, "execution" if scorer else "loss"),
            data_collator=self.collate,
            train_dataset=splits.train.rows,
            eval_dataset=splits.validation.rows,
        )
        self.remove_callback(PrinterCallback)
        self.run_log = RunLog(self, Path(settings.CHECKPOINT_DIR) / METRICS, device)
        self.stopping = Stopping(self.check_losses)
        self.add_callback(self.run_log)
        self.add_callback(self.stopping)
        if settings.EARLY_STOPPING:
            self.add_callback(EarlyStoppingCallback(settings.EARLY_STOPPING))

    def _graph_tokens(self, device: Device) -> int:
        """The most tokens of a pass that is captured as a graph, which keeps its memory; 0 for none."""
        is_whole = not (self.settings.GRADIENT_CHECKPOINTING or distributed.rank_info().sharded)
        if not (is_whole and self.packing.compiled and self.packing.name == "tree") or device.dtype == torch.float16:
            return 0
        return self.budget.per_pass.tokens(GRAPH_SHARE * available_memory(device.type))

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run before its last step."""
        return bool(self.stopping.stopped_by) and self.state.global_step < self.state.max_steps

    def train(self, checkpoint: Path | None = None) -> None:  # type: ignore[override] # only what a run needs
        """Trains to the last step, or until a signal, after which `interrupted` is true and a checkpoint written.

        Continues from `checkpoint`, if given, which must be whole. Raises UserError for a bad loss or a failing device.
        """
        if checkpoint:
            self._resume(read_progress(checkpoint))
        if distributed.is_distributed():  # the rows of each rank have their own dropout
            torch.manual_seed(self.settings.SEED + distributed.rank_info().rank)
        with self.run_log.progress:  # restores the terminal, however the run ends
            try:
                super().train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            except pickle.UnpicklingError as error:  # torch reads only tensors and plain values
                raise UserError(
                    f"RESUME (--resume): {checkpoint} is not one that finetune.py wrote "
                    f"({str(error).partition('.')[0]}); delete it, and resume from the previous one"
                ) from error
            except RuntimeError as error:
                if not (failure := failure_of_device(error)):
                    raise
                # whose driver may say so where memory runs out (github.com/pytorch/pytorch/issues/177714)
                fewer = f", with --max-tokens-per-pass {self.most_tokens // 2} if memory may have run out"
                raise UserError(
                    f"the device failed after step {self.state.global_step}: {failure}; what was saved before is "
                    f"whole: check the device, then continue with --resume"
                    f"{fewer if self.budget.device.type == 'xpu' else ''}"
                ) from error

    def collate(self, rows: list[packed_batches.TokenisedExample]) -> dict[str, object]:
        """A step: its rows' lengths and number of targets, over all ranks; the packed batches of this rank."""
        share = distributed.rows_of_rank(rows)
        return {
            "lengths": torch.tensor([len(row["input_ids"]) for row in rows]),
            "targets": packed_batches.count_targets(rows),
            "batches": self._pack(share, self.most_tokens),
            "rows": Rows(share, self.most_tokens, rows[-1]),
        }

    def _pack(self, rows: list[packed_batches.TokenisedExample], most_tokens: int) -> list[packed_batches.PackedBatch]:
        return packed_batches.make_batches(rows, self.packing.name, most_tokens, self.settings.BATCH_SIZE)

    def _get_train_sampler(self, train_dataset=None) -> samplers.Shuffled:
        rows: Any = self.train_dataset
        return samplers.make_sampler(rows, self.packing.name, self.settings)

    def get_train_dataloader(self) -> DataLoader:
        if isinstance(self.train_dataset, Stream):
            return self.train_dataset.loader(self.args, self.collate)
        return super().get_train_dataloader()

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """This rank's share of the step's loss, float32 []; the gradients are those of all ranks then."""
        if not model.training:  # setting it takes every module its time
            model.train()
        self.rows_seen += len(inputs["lengths"])
        self.position = inputs["rows"].last.get("place")

        def undo() -> None:
            for parameter in self.trained:
                parameter.grad = None

        loss = self._within_memory(inputs, lambda inputs: self._backward(model, inputs), undo)
        self.unchecked.append((self.state.global_step + 1, loss))
        if distributed.is_distributed():
            for parameter in self.trained:
                if parameter.grad is None:  # there were fewer rows than ranks
                    parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce_sum([parameter.grad for parameter in self.trained if parameter.grad is not None])
        return loss

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ) -> EvalLoopOutput:
        """The mean loss of a target, over the rows of all ranks; and what `scorer` returns."""
        model: Any = self.model
        model.eval()
        self.callback_handler.eval_dataloader = dataloader
        losses, targets, rows = [], 0, 0
        for inputs in dataloader:
            losses.append(self._within_memory(inputs, self._forward))
            targets += inputs["targets"]
            rows += len(inputs["lengths"])
        total = torch.stack(losses).sum()
        distributed.all_reduce_sum([total])
        metrics = {f"{metric_key_prefix}_loss": total.item() / targets}
        if self.scorer:
            # Layers that are compiled for training would be compiled anew.
            eager = torch.compiler.set_stance("force_eager") if self.packing.compiled else contextlib.nullcontext()
            with plan.state_kept(model, training=False), eager:
                metrics[f"{metric_key_prefix}_execution_match"] = self.scorer()
        no_predictions: Any = None
        return EvalLoopOutput(no_predictions, None, metrics, rows)

    def _backward(self, model, inputs) -> torch.Tensor:
        total = torch.zeros((), device=self.args.device)
        for batch in inputs["batches"]:
            loss = self._replayed(model, batch, inputs["targets"])
            if loss is None:
                loss = packed_loss.loss_sum(model, batch, self.base_model) / inputs["targets"]
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _replayed(self, model, batch: packed_batches.PackedBatch, targets: int) -> torch.Tensor | None:
        """The loss of a pass whose graph adds its gradients; None where it has none."""
        if batch["input_ids"].numel() > self.graph_tokens:
            return None
        if self.graphs is None:
            self.graphs = pass_graphs.PassGraphs(
                self.trained, lambda batch: packed_loss.loss_sum(model, batch, self.base_model)
            )
        return self.graphs.add_gradients(batch, targets)

    @torch.no_grad()
    def _forward(self, inputs) -> torch.Tensor:
        total = torch.zeros((), device=self.args.device)
        for batch in inputs["batches"]:
            total += packed_loss.loss_sum(self.model, batch, self.base_model)
        return total

    def _within_memory(
        self, inputs: dict, compute: Callable[[dict], torch.Tensor], undo: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        """The result of `compute` for a step, or a batch of an evaluation.

        If its packed batches do not fit into memory, `undo` is called and they are packed again, smaller, from the same
        rows, for the same result. Raises UserError if each has a single row already, or if the base is sharded, since
        all ranks go through its layers together.
        """
        if (fits := self.budget.shrunk(self.most_tokens)) < self.most_tokens:
            note(f"other processes have taken memory; from now on a forward pass has at most {fits:,} tokens")
            self.most_tokens = fits
        if inputs["rows"].most_tokens > self.most_tokens:  # packed before memory ran out
            inputs = self._repacked(self.most_tokens, inputs)
        inputs = self._prepare_inputs(self._in_step(inputs))
        failed = 0
        while True:
            try:
                result = compute(inputs)
                break
            except torch.OutOfMemoryError:
                longest = max(batch["input_ids"].numel() for batch in inputs["batches"])
                if distributed.rank_info().sharded:
                    raise UserError(
                        f"a forward pass of {longest:,} tokens did not fit into the memory of process "
                        f"{distributed.rank_info().rank}; set MAX_TOKENS_PER_PASS (--max-tokens-per-pass) to less, "
                        f"or turn GRADIENT_CHECKPOINTING on; what was saved before is whole: continue with --resume"
                    ) from None
            # Not where the error is caught, since it references what was computed.
            undo()
            failed = failed or longest
            if len(inputs["batches"]) == len(inputs["rows"].rows):
                raise UserError(
                    f"a row of {longest} tokens does not fit into the device's memory with the model; set LOW_BIT "
                    f"(--low-bit) to nf4, turn GRADIENT_CHECKPOINTING on, or lower MAX_LENGTH (--max-length)"
                )
            if self.args.device.type != "cpu":
                torch.accelerator.empty_cache()
            self.most_tokens = longest // 2
            inputs = self._repacked(self.most_tokens, inputs)
        if failed:
            note(
                f"a forward pass of {failed:,} tokens did not fit into memory; from now on one has at most "
                f"{self.most_tokens:,}"
            )
        return result

    def _repacked(self, most_tokens: int, inputs: dict) -> dict:
        rows = inputs["rows"].rows
        return self._prepare_inputs(inputs | {"batches": self._pack(rows, most_tokens)})

    def _in_step(self, inputs: dict) -> dict:
        """Adds empty batches up to the number of the rank with most, if the base is sharded."""
        if not distributed.rank_info().sharded:
            return inputs
        batches = inputs["batches"]
        missing = distributed.all_reduce_max(len(batches)) - len(batches)
        (last,) = self._pack([inputs["rows"].last], self.most_tokens)
        empty = last | {"weights": torch.zeros_like(last["weights"])}  # its loss is 0
        return inputs | {"batches": [*batches, *missing * [empty]]}

    def check_losses(self) -> None:
        """Raises UserError at the first loss since the last check that is NaN, infinite or exactly 0.0.

        Not in each step, since reading a loss makes the CPU wait for the device.
        """
        if not self.unchecked:
            return
        steps, losses = zip(*self.unchecked, strict=True)
        self.unchecked = []
        total = torch.stack(losses)
        distributed.all_reduce_sum([total])
        for step, loss in zip(steps, total.tolist(), strict=True):
            if not math.isfinite(loss) or loss == 0.0:
                raise bad_loss("loss", loss, step)
            self.unlogged.append((step, loss))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:  # Trainer's own is wrong after a resumption
            logs["loss"] = sum(loss for _, loss in self.unlogged) / len({step for step, _ in self.unlogged})
            self.unlogged = []
        super().log(logs, start_time)

    def evaluate(self, *arguments, **keywords) -> dict[str, float]:
        start = time.perf_counter()
        metrics = super().evaluate(*arguments, **keywords)
        self.seconds_aside += time.perf_counter() - start
        if not math.isfinite(metrics["eval_loss"]):
            raise bad_loss("evaluation loss", metrics["eval_loss"], self.state.global_step)
        return metrics

    def progress(self) -> dict[str, object]:
        """The state of the run that Trainer does not save, under the keys of progress.json."""
        return {
            "unlogged": self.unlogged,
            "rows_seen": self.rows_seen,
            "seconds": self.run_log.seconds(),
            "most_tokens": self.most_tokens,
            "place": self.position,
        }

    def _resume(self, progress: dict[str, Any]) -> None:
        self.unlogged = [(step, loss) for step, loss in progress["unlogged"]]
        self.rows_seen, self.seconds_before = progress["rows_seen"], progress["seconds"]
        if isinstance(self.train_dataset, Stream):
            self.train_dataset.resume(progress["place"])
        # The same batches give the same rounding.
        self.most_tokens = self.settings.MAX_TOKENS_PER_PASS or progress["most_tokens"]

    # What Trainer calls to save and to resume.

    def _determine_best_metric(self, metrics, trial) -> bool:
        # Only regular checkpoints compete for the best, even if an interrupt adds one between two of them.
        step = self.state.global_step
        if step % self.args.save_steps and step < self.state.max_steps:
            return False
        if self.scorer and metrics["eval_execution_match"] == self.state.best_metric:
            self.state.best_global_step = step  # of equal ones the one that has seen more rows
            return True
        return super()._determine_best_metric(metrics, trial)

    def _load_best_model(self) -> None:
        if not self.interrupted and distributed.is_main_process():  # an interrupted run saves its last adapter
            super()._load_best_model()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        self.checkpoints.write_adapter(self, Path(output_dir or self.settings.CHECKPOINT_DIR))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        self.checkpoints.read_adapter(self, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model, trial) -> None:
        start = time.perf_counter()
        self.run_log.flush()
        self.checkpoints.save(self, self.progress, self.run_log.metrics)
        self.seconds_aside += time.perf_counter() - start

    def _load_rng_state(self, checkpoint: str | None) -> None:
        self.checkpoints.load_rng_state(self, checkpoint, super()._load_rng_state)

    def _init_training_state(self, *arguments) -> tuple[int, int]:
        counts = super()._init_training_state(*arguments)
        if self.state.best_global_step and (best := folder_of(self, self.state.best_global_step)).is_dir():
            self.state.best_model_checkpoint = str(best)  # wherever the run's folder was before
        return counts
