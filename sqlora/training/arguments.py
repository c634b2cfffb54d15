"""transformers' TrainingArguments, from the settings."""

from __future__ import annotations

import importlib.util

import torch
from transformers import TrainingArguments

from sqlora.model.device import Device
from sqlora.model.transformers_compat import make_training_arguments
from sqlora.settings.settings import Settings
from sqlora.system import distributed
from sqlora.system.errors import UserError

BEST_BY = {"loss": "loss", "execution": "execution_match"}  # the metric of an evaluation that each value compares


def check_tracker(name: str) -> None:
    """Raises UserError if the experiment tracker that REPORT_TO names is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise UserError(
            f"REPORT_TO (--report-to) is {name!r}, which is not installed; pip install {name}, or set it to none"
        )


def check_step(rows: int) -> None:
    """Raises UserError unless each rank gets one of the `rows` of an optimiser step."""
    if rows < distributed.rank_info().world:
        raise UserError(
            f"BATCH_SIZE (--batch-size) and GRADIENT_ACCUMULATION_STEPS make {rows} rows a step, which "
            f"{distributed.rank_info().world} processes are to share; raise them to that number at least"
        )


def training_arguments(settings: Settings, device: Device, best_by: str) -> TrainingArguments:
    """What the settings say, in transformers' names; most of what Trainer would choose by itself is fixed here.

    `best_by` is BEST_BY as this run can follow it.
    """
    arguments = make_training_arguments(
        output_dir=settings.CHECKPOINT_DIR,
        max_steps=settings.MAX_STEPS,
        per_device_train_batch_size=settings.step_rows,  # cut into passes by memory alone
        per_device_eval_batch_size=settings.BATCH_SIZE,
        learning_rate=settings.LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=settings.WARMUP_STEPS,
        max_grad_norm=settings.MAX_GRAD_NORM,
        logging_steps=settings.LOGGING_STEPS,
        logging_nan_inf_filter=False,  # show a bad loss, do not smooth it away
        eval_strategy="steps",
        eval_steps=settings.EVAL_STEPS,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=settings.SAVE_STEPS,
        save_total_limit=None,  # checkpointing.py deletes: with a limit of 1 Trainer would delete an interrupt's
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{BEST_BY[best_by]}",
        greater_is_better=best_by == "execution",
        seed=settings.SEED,
        ignore_data_skip=settings.STREAMING,  # a stream resumes by itself
        bf16=device.dtype == torch.bfloat16,
        fp16=device.dtype == torch.float16,
        use_cpu=device.type == "cpu",
        activation_checkpointing=settings.GRADIENT_CHECKPOINTING,
        activation_checkpointing_kwargs={"use_reentrant": False},
        dataloader_pin_memory=device.type != "cpu",
        accelerator_config={"non_blocking": device.type != "cpu"},  # lets the CPU run ahead of the device
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=settings.REPORT_TO if distributed.is_main_process() else "none",
        disable_tqdm=True,
    )
    # One process uses one device: Trainer would copy the model to all GPUs, and a quantised model cannot be copied.
    arguments.device  # noqa: B018 (counts the devices)
    arguments._n_gpu = 1
    return arguments
