"""The Trainer of a run: its arguments from the settings, right-padded batches, checks of the loss, and the run's log."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch.utils.data import Sampler
from transformers import PrinterCallback, TrainerCallback

from sqlora import adapter, memory, packing, passes, sampling
from sqlora.console import console, note, progress_bar
from sqlora.data import TokenisedSplits
from sqlora.device import Device, peak_memory
from sqlora.errors import UserError
from sqlora.hub import BaseModel
from sqlora.run_folder import METRICS
from sqlora.settings import Settings
from sqlora.stack import Trainer, TrainingArguments


def check_tracker(name: str) -> None:
    """Raises UserError if the experiment tracker that REPORT_TO names is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise UserError(f"REPORT_TO (--report-to) is {name!r}, which is not installed; pip install {name}, or set it to none")


def training_arguments(settings: Settings, device: Device) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=settings.CHECKPOINT_DIR,
        max_steps=settings.MAX_STEPS,
        per_device_train_batch_size=settings.BATCH_SIZE,
        per_device_eval_batch_size=settings.BATCH_SIZE,
        gradient_accumulation_steps=settings.GRADIENT_ACCUMULATION_STEPS,
        learning_rate=settings.LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=settings.WARMUP_STEPS,
        max_grad_norm=settings.MAX_GRAD_NORM,
        logging_steps=settings.LOGGING_STEPS,
        logging_nan_inf_filter=False,  # a bad loss is to be seen, not smoothed away
        eval_strategy="steps",
        eval_steps=settings.EVAL_STEPS,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=settings.SAVE_STEPS,
        save_total_limit=settings.SAVE_TOTAL_LIMIT,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        seed=settings.SEED,
        bf16=device.dtype == torch.bfloat16,
        fp16=device.dtype == torch.float16,
        use_cpu=device.type == "cpu",
        activation_checkpointing=settings.GRADIENT_CHECKPOINTING,
        activation_checkpointing_kwargs={"use_reentrant": False},
        dataloader_pin_memory=device.type != "cpu",
        accelerator_config={"non_blocking": device.type != "cpu"},  # a copy that is waited for would end the CPU's head start
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=settings.REPORT_TO,
        disable_tqdm=True,
    )
    # One process, one device: a quantised model cannot be copied to further GPUs, as Trainer would do with more in sight.
    arguments.device  # noqa: B018 (counts the devices)
    arguments._n_gpu = 1
    return arguments


@dataclass(frozen=True)
class Rows:
    """Rows that go along with a micro-batch; a list would be searched for tensors, number by number."""

    rows: list[packing.Row]


class SqlTrainer(Trainer):
    """transformers' Trainer, with this project's checkpoints, and an end to the run where the loss goes bad."""

    def __init__(self, model: PeftModel, settings: Settings, device: Device, base: BaseModel, fingerprint: dict,
                 splits: TokenisedSplits, form: passes.Form):
        self.base = base
        self.fingerprint = fingerprint
        self.form = form
        self.settings = settings
        self.most_tokens = settings.MAX_TOKENS_PER_PASS or memory.tokens_per_pass(model, settings, device, form)
        self.rows_seen = 0
        self.seconds_aside = 0.0  # spent in evaluations and checkpoints
        self.unchecked: list[tuple[int, torch.Tensor]] = []
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

    def collate(self, rows: list[packing.Row]) -> dict[str, object]:
        """A micro-batch: its passes, how many targets they have, and, first, since Trainer counts them, the rows' lengths."""
        return {"lengths": torch.tensor([len(row["input_ids"]) for row in rows]), "targets": packing.count_targets(rows),
                "passes": self._make_passes(rows), "rows": Rows(rows)}

    def _make_passes(self, rows: list[packing.Row]) -> list[packing.Pass]:
        size = self.settings.BATCH_SIZE  # of which a Trainer may bring several at once (see legacy.py)
        return [one for start in range(0, len(rows), size)
                for one in packing.make_passes(rows[start : start + size], self.form.name, self.most_tokens)]

    def _get_train_sampler(self, train_dataset=None) -> Sampler:
        return sampling.make_sampler(self.train_dataset, self.form.name, self.settings)

    def train(self, *arguments, **keywords):
        with self.run_log.progress:  # which gives the terminal back, however the run ends
            return super().train(*arguments, **keywords)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int:
        """Targets in the micro-batches of an optimiser step, over all processes."""
        count = sum(batch["targets"] for batch in batch_samples)
        return self.accelerator.gather(torch.tensor(count, device=device)).sum() if self.args.world_size > 1 else count

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """A micro-batch's share of the step's loss, its gradients added to those that are there.

        Where the memory does not hold its passes they are made anew, smaller, from the same rows, for the same gradients.
        """
        model.train()
        if num_items_in_batch is None:  # the batch is all of the step
            num_items_in_batch = inputs["targets"]
        self.rows_seen += len(inputs["lengths"])
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        before = [None if parameter.grad is None else parameter.grad.clone() for parameter in trained]
        inputs = self._prepare_inputs(inputs)
        while (loss := self._unless_out_of_memory(self._backward, model, inputs, num_items_in_batch)) is None:
            for parameter, gradient in zip(trained, before, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()
            inputs = self._with_smaller_passes(inputs)
        self.unchecked.append((self.state.global_step + 1, loss))
        return loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None) -> tuple[torch.Tensor, None, None]:
        inputs = self._prepare_inputs(inputs)
        while (loss := self._unless_out_of_memory(self._forward, model, inputs)) is None:
            inputs = self._with_smaller_passes(inputs)
        return loss, None, None

    def _backward(self, model, inputs, num_items_in_batch) -> torch.Tensor:
        total = torch.zeros((), device=self.args.device)
        for number, one in enumerate(inputs["passes"], start=1):
            # Processes may have different numbers of passes, so they wait for each other at the last alone.
            last = number == len(inputs["passes"])
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                loss = passes.loss_sum(model, one, self.model.get_base_model()) / num_items_in_batch
                # Gradients are averaged over the processes, and here they are to be added.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        return total

    @torch.no_grad()
    def _forward(self, model, inputs) -> torch.Tensor:
        losses = [passes.loss_sum(model, one, self.model.get_base_model()) for one in inputs["passes"]]
        return sum(losses) / inputs["targets"]

    def _unless_out_of_memory(self, compute, *arguments) -> torch.Tensor | None:
        """None where the device's memory ran out, once what was computed is gone from it."""
        try:
            return compute(*arguments)
        except torch.OutOfMemoryError:
            if self.args.world_size > 1:  # the other processes wait for a pass that will not come
                raise
            return None

    def _with_smaller_passes(self, inputs: dict) -> dict:
        """Raises UserError if the passes have a row each already."""
        rows = inputs["rows"].rows
        longest = max(one["input_ids"].numel() for one in inputs["passes"])
        if len(inputs["passes"]) == len(rows):
            raise UserError(f"a row of {longest} tokens does not fit into the device's memory beside the model; set LOW_BIT "
                            f"(--low-bit) to nf4, turn GRADIENT_CHECKPOINTING on, or lower MAX_LENGTH (--max-length)")
        if self.args.device.type != "cpu":
            torch.accelerator.empty_cache()
        self.most_tokens = longest // 2
        note(f"a pass of {longest:,} tokens did not fit into the memory; from here on a pass has at most {self.most_tokens:,}")
        return self._prepare_inputs(inputs | {"passes": self._make_passes(rows)})

    def check_losses(self) -> None:
        """Raises UserError at the first loss since the last check that is NaN, infinite or exactly 0.0.

        Kept apart from the step, since reading a loss makes the CPU wait for the device.
        """
        if not self.unchecked:
            return
        steps, losses = zip(*self.unchecked, strict=True)
        self.unchecked = []
        for step, loss in zip(steps, torch.stack(losses).tolist(), strict=True):
            if not math.isfinite(loss) or loss == 0.0:
                raise bad_loss("loss", loss, step)

    def evaluate(self, *arguments, **keywords) -> dict[str, float]:
        start = time.perf_counter()
        metrics = super().evaluate(*arguments, **keywords)
        self.seconds_aside += time.perf_counter() - start
        if not math.isfinite(metrics["eval_loss"]):
            raise bad_loss("evaluation loss", metrics["eval_loss"], self.state.global_step)
        return metrics

    def _determine_best_metric(self, metrics, trial) -> bool:
        # An evaluation between two checkpoints cannot be the best that is kept.
        return self.control.should_save and super()._determine_best_metric(metrics, trial)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        adapter.write_adapter(self.accelerator.unwrap_model(self.model), Path(output_dir or self.args.output_dir), self.base)

    def _save_checkpoint(self, model, trial) -> None:
        start = time.perf_counter()
        folder = Path(self.args.output_dir)
        with adapter.full_disk_as_user_error(folder):
            super()._save_checkpoint(model, trial)
            step = self.state.global_step
            adapter.seal(folder / f"checkpoint-{step}", self.fingerprint, "checkpoint", self.run_log.metrics())
        self.seconds_aside += time.perf_counter() - start


def bad_loss(name: str, value: float, step: int) -> UserError:
    return UserError(f"the {name} is {value} at step {step}; nothing of it was saved: lower LEARNING_RATE (--learning-rate), "
                     f"lengthen WARMUP_STEPS (--warmup-steps), or set DTYPE (--dtype) to float32")


class RunLog(TrainerCallback):
    """What a run tells: a progress bar, a line for each logged step, and the same as JSON in metrics.jsonl."""

    def __init__(self, trainer: SqlTrainer, path: Path, device: Device):
        self.trainer = trainer
        self.path = path
        self.device = device
        self.entry: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.progress = progress_bar()

    def metrics(self) -> dict[str, float]:
        """The latest known figures of the run."""
        return self.last | self.entry

    def on_train_begin(self, args, state, control, **_) -> None:
        self.started = self.mark = time.perf_counter()
        self.rows_at_mark = 0
        self.aside_at_mark = 0.0
        self.path.write_text("")
        self.bar = self.progress.add_task("training", total=state.max_steps)

    def on_step_begin(self, args, state, control, **_) -> None:
        self._flush()

    def on_step_end(self, args, state, control, **_) -> None:
        self.progress.update(self.bar, completed=state.global_step)
        if state.global_step >= state.max_steps:
            control.should_log = control.should_evaluate = control.should_save = True
        if control.should_log or control.should_evaluate or control.should_save:
            self.trainer.check_losses()

    def on_log(self, args, state, control, logs=None, **_) -> None:
        self.entry["step"] = state.global_step
        self.entry |= {key: logs[key] for key in ("loss", "eval_loss", "learning_rate") if key in logs}
        if "loss" in logs:
            now, aside, rows = time.perf_counter(), self.trainer.seconds_aside, self.trainer.rows_seen
            seconds = now - self.mark - (aside - self.aside_at_mark)
            self.entry["rows_per_second"] = round((rows - self.rows_at_mark) / seconds, 3)
            self.entry["peak_memory_bytes"] = peak_memory(self.device.type)
            self.mark, self.aside_at_mark, self.rows_at_mark = now, aside, rows

    def on_train_end(self, args, state, control, **_) -> None:
        self._flush()
        seconds = time.perf_counter() - self.started - self.trainer.seconds_aside
        self.last["rows_per_second"] = round(self.trainer.rows_seen / seconds, 3)
        self.last["train_seconds"] = round(seconds, 1)
        self.last["peak_memory_bytes"] = peak_memory(self.device.type)
        self.last["best_step"] = state.best_global_step
        self.last["best_eval_loss"] = state.best_metric

    def _flush(self) -> None:
        if "loss" not in self.entry and "eval_loss" not in self.entry:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(self.entry) + "\n")
        console.print(_line(self.entry, self.trainer.state.max_steps), highlight=False, soft_wrap=True)
        self.last |= self.entry
        self.entry = {}


def _line(entry: dict[str, float], max_steps: int) -> str:
    parts = [f"step {entry['step']:>{len(str(max_steps))}}/{max_steps}"]
    for key, name, form in (
        ("loss", "loss", ".4f"),
        ("eval_loss", "eval loss", ".4f"),
        ("learning_rate", "learning rate", ".2e"),
        ("rows_per_second", "rows/s", ".1f"),
    ):
        if key in entry:
            parts.append(f"{name} {entry[key]:{form}}")
    return "  ".join(parts)
