"""What the scripts print about a run: its settings, rows and packing before it, its results after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlora.settings.settings import flag
from sqlora.system import distributed
from sqlora.system.console import console, note, print_facts

if TYPE_CHECKING:  # not to load what a run may not need
    from sqlora.data.sql_check import Checked
    from sqlora.data.tokenise import TokenisedSplits
    from sqlora.model.device import Device
    from sqlora.settings.settings import Settings
    from sqlora.training.memory_estimate import Estimate
    from sqlora.training.packing.plan import PackingPlan


def print_training(settings: Settings, device: Device) -> None:
    """What runs, before it runs."""
    s = settings
    console.rule("[bold]SQLoRA fine-tuning")
    print_facts(
        {
            "foundation model": s.BASE_MODEL,
            "training data": f"{s.DATA_PATH}, and {s.EXTRA_DATA}, {s.EXTRA_WEIGHT} times"
            if s.EXTRA_DATA
            else s.DATA_PATH,
            "adapter save path": s.MODEL_PATH,
            "checkpoints": s.CHECKPOINT_DIR,
            "device": f"{device.type}: {device.name} ({device.reason})",
            "dtype": f"{str(device.dtype).removeprefix('torch.')} ({device.dtype_reason})",
            "batch size": f"{s.BATCH_SIZE} rows, accumulation {s.GRADIENT_ACCUMULATION_STEPS}: "
            f"{s.step_rows:,} rows a step{_shared_out()}",
            "steps": f"{s.MAX_STEPS}, warm-up {s.WARMUP_STEPS}",
            "save, eval, log every": f"{s.SAVE_STEPS}, {s.EVAL_STEPS}, {s.LOGGING_STEPS} steps; save limit "
            f"{s.SAVE_TOTAL_LIMIT}",
            "learning rate": f"{s.LEARNING_RATE}, cosine",
            "max gradient norm": s.MAX_GRAD_NORM,
            "LoRA": f"r {s.LORA_R}, alpha {s.LORA_ALPHA}, dropout {s.LORA_DROPOUT}, on {', '.join(s.LORA_TARGETS)}",
        }
    )
    if s.WARMUP_STEPS >= s.MAX_STEPS:
        note(f"WARMUP_STEPS is {s.WARMUP_STEPS} of {s.MAX_STEPS} steps, so the learning rate never reaches its height")


def _shared_out() -> str:
    here = distributed.rank_info()
    if here.world == 1:
        return ""
    return f", over {here.world} processes" + (", which share the base (FSDP2)" if here.sharded else "")


def print_generation(settings: Settings, device: Device, rows: int) -> None:
    """What answers, before it answers."""
    console.rule("[bold]SQLoRA generation")
    print_facts(
        {
            "foundation model": settings.BASE_MODEL,
            "device": f"{device.type}: {device.name} ({device.reason})",
            "questions": "as you ask them"
            if settings.DATABASE and settings.INTERACTIVE
            else f"1, {settings.QUESTION}"
            if settings.QUESTION
            else f"{rows}, {settings.QUESTIONS or settings.TEST_DATA}",
        }
    )


def print_rows(
    read: int,
    checked: Checked,
    overlaps: dict[str, int],
    separated_by: str,
    splits: TokenisedSplits,
    settings: Settings,
) -> None:
    """How many rows there are, and what became of them."""
    train, validation = splits.train, splits.validation
    shortened = train.shortened + validation.shortened
    first = "of a stream, the first " if settings.STREAMING else ""
    print_facts(
        {
            "rows": f"{first}{read:,} read, {len(train.rows):,} for training, {len(validation.rows):,} for validation",
            "validation": f"shares no {separated_by} with the training rows",
            "data check": "off" if settings.CHECK_DATA == "off" else f"{settings.CHECK_DATA}: {checked}",
            **({"schemas shortened": f"{shortened:,} rows, to the tables that fit"} if shortened else {}),
            "rows dropped": f"{train.too_long + validation.too_long:,} longer than {settings.MAX_LENGTH} tokens",
        }
    )
    if settings.HOLDOUT:
        reasons = ", ".join(f"{count:,} with a {kind} of it" for kind, count in overlaps.items()) or "none overlaps"
        print_facts({"held out": f"{sum(overlaps.values()):,} rows for {settings.HOLDOUT}: {reasons}"})
    if separated_by == "SQL":
        note(
            "most rows share tables, so the validation set could not be separated by table: it asks about tables seen "
            "in training"
        )


def print_packing(plan: PackingPlan) -> None:
    """How rows go through the model."""
    print_facts(
        {"packing": f"{plan.name} ({plan.reason}); compile {'on' if plan.compiled else 'off'} ({plan.compile_reason})"}
    )


def print_estimate(estimated: Estimate, steps: int) -> None:
    """What memory_estimate.estimate predicts of a run of so many steps."""
    print_facts(
        {"estimated memory": f"{estimated.peak_bytes / 1e9:.1f} GB, in a pass of {estimated.pass_tokens:,} tokens"}
    )
    if estimated.step_seconds is None:  # of a device that is not here
        print_facts({"estimated step": f"{estimated.step_tokens:,} tokens"})
        return
    hours, seconds = divmod(estimated.step_seconds * steps, 3600)
    print_facts(
        {
            "estimated step": f"{estimated.step_seconds:.1f} s for {estimated.step_tokens:,} tokens",
            "estimated time": f"{hours:.0f} h {seconds // 60:.0f} min, without evaluation and saving",
        }
    )


def print_fit(device: Device, changes: dict[str, Any] | None) -> None:
    """Whether a run fits into the memory of a device that is not here, by memory_estimate.changes_to_fit."""
    if changes is None:
        answer = "no: take a smaller model, or lower MAX_LENGTH (--max-length)"
    else:
        flags = [flag(name) if value is True else f"{flag(name)} {value}" for name, value in changes.items()]
        answer = f"no: add {' '.join(flags)}" if flags else "yes"
    print_facts({f"fits into {(device.memory or 0) / 1e9:.1f} GB": answer})


def print_end(metrics: dict[str, float], status: str, folder: Path, curve: Path) -> None:
    """What the run came to, and where its files are. `status` is one of checkpoints.py."""
    console.rule(f"[bold]{status}")
    for key, name, form in (
        ("best_eval_loss", "evaluation loss", ".4f"),
        ("best_eval_execution_match", "execution match", ".1%"),
    ):
        if key in metrics:
            print_facts({name: f"{metrics[key]:{form}} at step {metrics['best_step']}, the best, which is kept"})
    print_facts(
        {
            "speed": f"{metrics['rows_per_second']:.1f} rows/s, {metrics['train_seconds']:.0f} s without evaluation "
            f"and saving",
            "peak memory": f"{metrics['peak_memory_bytes'] / 1e9:.2f} GB",
            "adapter": folder,
            "loss curve": curve,
        }
    )


def print_weights(quantisation: str) -> None:
    """Prints how the base's weights are stored in memory."""
    print_facts({"base weights": quantisation})


def print_adapter(folder: Path, fingerprint: dict | None, quantisation: str) -> None:
    """Which adapter answers, and what of it could not be checked on a base whose weights are as `quantisation` says."""
    print_facts({"adapter": folder})
    if fingerprint is None:
        note(
            "this adapter has no sqlora.json, so it is not known whether it was trained on this base, prompt and "
            "tokenizer"
        )
    elif fingerprint.get("quantisation") != quantisation:
        note(
            f"this adapter was trained on {fingerprint.get('quantisation')} weights, and those of the base are "
            f"{quantisation}"
        )
