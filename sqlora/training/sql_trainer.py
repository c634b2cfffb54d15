"""The Trainer of a run: passes that fit, checks of the loss, and whole checkpoints."""

from __future__ import annotations

import json
import math
import pickle
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PrinterCallback
from transformers.trainer_utils import EvalLoopOutput

from sqlora.data.streaming import Stream
from sqlora.data.tokenise import TokenisedSplits
from sqlora.model.base_models import BaseModel
from sqlora.model.device import Device
from sqlora.settings.settings import Settings
from sqlora.system import distributed, signals
from sqlora.system.console import note
from sqlora.system.errors import UserError
from sqlora.training import memory_estimate, samplers
from sqlora.training.arguments import training_arguments
from sqlora.training.checkpointing import PROGRESS, SavingTrainer, bad_loss
from sqlora.training.packing import packed_batches, packed_loss, plan
from sqlora.training.run_folder import METRICS
from sqlora.training.run_log import RunLog

DEVICE_LOST = re.compile(r"CUDA error|HIP error|level_zero|UR_RESULT|DEVICE_LOST|device lost", re.IGNORECASE)


@dataclass(frozen=True)
class Rows:
    """This process's rows of a micro-batch, the most tokens that its passes may have, and the micro-batch's last row,
    whosever.

    Not a list, which would be searched for tensors, number by number.
    """

    rows: list[packed_batches.TokenisedExample]
    most_tokens: int
    last: packed_batches.TokenisedExample


class SqlTrainer(SavingTrainer):
    """transformers' Trainer, with passes that fit the memory, whole checkpoints, and an end where the loss goes bad.

    Of several processes (processes.py) each has one, which takes its share of every micro-batch's rows. Losses and
    gradients are summed over them, so that all take the same steps; the first process alone writes.
    """

    def __init__(
        self,
        model: PeftModel,
        settings: Settings,
        device: Device,
        base: BaseModel,
        fingerprint: dict,
        splits: TokenisedSplits,
        form: plan.PackingPlan,
    ):
        self.base = base
        self.fingerprint = fingerprint
        self.form = form
        self.settings = settings
        self.room = memory_estimate.TokenBudget(model, splits.validation.rows, settings, device, form)
        self.most_tokens = self.room.most_tokens
        self.stop = signals.Stop()
        self.stopped_by = 0  # the signal that ended the run, in whichever process it came
        self.rows_seen = 0
        self.place: tuple | None = None  # in a stream, after the rows that were trained on
        self.seconds_before = 0.0  # of training, before the run was resumed
        self.seconds_aside = 0.0  # spent in evaluations and checkpoints
        self.unchecked: list[tuple[int, torch.Tensor]] = []
        self.unlogged: list[tuple[int, float]] = []
        super().__init__(
            model=model,
            args=training_arguments(settings, device),
            data_collator=self.collate,
            train_dataset=splits.train.rows,
            eval_dataset=splits.validation.rows,
        )
        self.remove_callback(PrinterCallback)
        self.run_log = RunLog(self, Path(settings.CHECKPOINT_DIR) / METRICS, device)
        self.add_callback(self.run_log)

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run before its last step."""
        return bool(self.stopped_by) and self.state.global_step < self.state.max_steps

    def train(self, checkpoint: Path | None = None) -> None:
        """Trains to the last step, or until `stop` has a signal, after which `interrupted` is true and a checkpoint
        written.

        Goes on from `checkpoint` if there is one, which must be whole. Raises UserError where the loss goes
        bad or the device fails.
        """
        if checkpoint:
            self._take_up(json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8")))
        if distributed.is_distributed():
            torch.manual_seed(
                self.settings.SEED + distributed.rank_info().rank
            )  # the rows of each have their own dropout
        with self.run_log.progress:  # which gives the terminal back, however the run ends
            try:
                super().train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            except pickle.UnpicklingError as error:  # torch reads tensors and plain values alone
                raise UserError(
                    f"RESUME (--resume): {checkpoint} is not one that finetune.py wrote "
                    f"({str(error).partition('.')[0]}); delete it, and resume from the one before"
                ) from error
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError) or not DEVICE_LOST.search(str(error)):
                    raise
                told = str(error).splitlines()[0]
                raise UserError(
                    f"the device failed after step {self.state.global_step}: {told}; what was saved before is whole: "
                    f"see to the device, then continue with --resume"
                ) from error

    def collate(self, rows: list[packed_batches.TokenisedExample]) -> dict[str, object]:
        """A micro-batch: the lengths of its rows and the number of their targets, in all processes; the passes of this
        one's.
        """
        share = distributed.rows_of_rank(rows)
        return {
            "lengths": torch.tensor([len(row["input_ids"]) for row in rows]),
            "targets": packed_batches.count_targets(rows),
            "passes": self._make_passes(share, self.most_tokens),
            "rows": Rows(share, self.most_tokens, rows[-1]),
        }

    def _make_passes(
        self, rows: list[packed_batches.TokenisedExample], most_tokens: int
    ) -> list[packed_batches.PackedBatch]:
        size = self.settings.BATCH_SIZE  # of which a Trainer may bring several at once (see legacy.py)
        return [
            one
            for start in range(0, len(rows), size)
            for one in packed_batches.make_batches(rows[start : start + size], self.form.name, most_tokens)
        ]

    def _get_train_sampler(self, train_dataset=None) -> samplers.Shuffled:
        return samplers.make_sampler(self.train_dataset, self.form.name, self.settings)

    def get_train_dataloader(self) -> DataLoader:
        streamed = isinstance(self.train_dataset, Stream)
        return self.train_dataset.loader(self.args, self.collate) if streamed else super().get_train_dataloader()

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int:
        """Targets in the micro-batches of an optimiser step, over all processes."""
        return sum(batch["targets"] for batch in batch_samples)

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """This process's share of the step's loss, its gradients added to those that are there; after the step's last
        micro-batch they are those of all processes."""
        model.train()
        if num_items_in_batch is None:  # the batch is all of the step
            num_items_in_batch = inputs["targets"]
        self.rows_seen += len(inputs["lengths"])
        self.place = inputs["rows"].last.get("place")
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        before = [None if parameter.grad is None else parameter.grad.clone() for parameter in trained]

        def undo() -> None:
            for parameter, gradient in zip(trained, before, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()

        loss = self._within_memory(inputs, lambda inputs: self._backward(model, inputs, num_items_in_batch), undo)
        self.unchecked.append((self.state.global_step + 1, loss))
        if distributed.is_distributed() and self.accelerator.sync_gradients:
            for parameter in trained:
                if parameter.grad is None:  # there were fewer rows than processes
                    parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce_sum([parameter.grad for parameter in trained])
        return loss

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ) -> EvalLoopOutput:
        """The mean loss of a target, over the rows of all processes."""
        self.model.eval()
        self.callback_handler.eval_dataloader = dataloader
        losses, targets, rows = [], 0, 0
        for inputs in dataloader:
            losses.append(self._within_memory(inputs, self._forward))
            targets += inputs["targets"]
            rows += len(inputs["lengths"])
        total = torch.stack(losses).sum()
        distributed.all_reduce_sum([total])
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": total.item() / targets}, rows)

    def _backward(self, model, inputs, num_items_in_batch) -> torch.Tensor:
        total = torch.zeros((), device=self.args.device)
        for one in inputs["passes"]:
            loss = packed_loss.loss_sum(model, one, self.model.get_base_model()) / num_items_in_batch
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    @torch.no_grad()
    def _forward(self, inputs) -> torch.Tensor:
        total = torch.zeros((), device=self.args.device)
        for one in inputs["passes"]:
            total += packed_loss.loss_sum(self.model, one, self.model.get_base_model())
        return total

    def _within_memory(
        self, inputs: dict, compute: Callable[[dict], torch.Tensor], undo: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        """What `compute` gives for a micro-batch.

        Where the memory does not hold its passes, `undo` is called and they are made anew, smaller, from the same rows,
        for the same result. Raises UserError if they have a row each already, or if the base is spread over processes,
        which go through its layers together.
        """
        if (fits := self.room.shrunk(self.most_tokens)) < self.most_tokens:
            note(f"other processes have taken memory; from here on a pass has at most {fits:,} tokens")
            self.most_tokens = fits
        if inputs["rows"].most_tokens > self.most_tokens:  # it was made before memory ran out
            inputs = self._with_passes_of(self.most_tokens, inputs)
        inputs = self._prepare_inputs(self._in_step(inputs))
        failed = 0
        while True:
            try:
                result = compute(inputs)
                break
            except torch.OutOfMemoryError:
                longest = max(one["input_ids"].numel() for one in inputs["passes"])
                if distributed.rank_info().sharded:
                    raise UserError(
                        f"a pass of {longest:,} tokens did not fit into the memory of process "
                        f"{distributed.rank_info().rank}; set MAX_TOKENS_PER_PASS (--max-tokens-per-pass) to less, "
                        f"or turn GRADIENT_CHECKPOINTING on; what was saved before is whole: continue with --resume"
                    ) from None
            # Not where the error is caught, since it holds on to what was computed.
            undo()
            failed = failed or longest
            if len(inputs["passes"]) == len(inputs["rows"].rows):
                raise UserError(
                    f"a row of {longest} tokens does not fit into the device's memory beside the model; set LOW_BIT "
                    f"(--low-bit) to nf4, turn GRADIENT_CHECKPOINTING on, or lower MAX_LENGTH (--max-length)"
                )
            if self.args.device.type != "cpu":
                torch.accelerator.empty_cache()
            self.most_tokens = longest // 2
            inputs = self._with_passes_of(self.most_tokens, inputs)
        if failed:
            note(
                f"a pass of {failed:,} tokens did not fit into the memory; from here on a pass has at most "
                f"{self.most_tokens:,}"
            )
        return result

    def _with_passes_of(self, most_tokens: int, inputs: dict) -> dict:
        rows = inputs["rows"].rows
        return self._prepare_inputs(inputs | {"passes": self._make_passes(rows, most_tokens)})

    def _in_step(self, inputs: dict) -> dict:
        """With as many passes as any process has, where they go through the base's layers together."""
        if not distributed.rank_info().sharded:
            return inputs
        made = inputs["passes"]
        missing = distributed.all_reduce_max(len(made)) - len(made)
        (one,) = self._make_passes([inputs["rows"].last], self.most_tokens)
        empty = one | {"weights": torch.zeros_like(one["weights"])}  # it counts for nothing
        return inputs | {"passes": [*made, *missing * [empty]]}

    def check_losses(self) -> None:
        """Raises UserError at the first loss since the last check that is NaN, infinite or exactly 0.0.

        Kept apart from the step, since reading a loss makes the CPU wait for the device.
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
        if "loss" in logs:  # which Trainer knows from the last resumption on
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
