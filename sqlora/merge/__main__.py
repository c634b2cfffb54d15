"""`python -m sqlora.merge`: the adapter merged into its base, as an ordinary model that needs neither SQLoRA nor
PEFT.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqlora.settings.command_line import load_settings
from sqlora.settings.settings import TRAINED_ON, Settings
from sqlora.storage import outputs
from sqlora.storage.paths import expand
from sqlora.system.errors import UserError, run_command
from sqlora.training import run_folder

if TYPE_CHECKING:
    from sqlora.merge.drift import Drift

ABOUT = """Fold the adapter into its base: an ordinary transformers folder, to be served, converted or exported.

\b
python -m sqlora.merge --output DIR
python -m sqlora.merge --output DIR --dtype bf16         type of the saved weights: bf16, fp16 or fp32
python -m sqlora.merge --output DIR --into unquantised   into the base's own weights, not those of training

By default it is merged into the 4-bit weights that it was trained on, dequantised: the model is then the one that was
trained, but for rounding. How far the answers drift is measured on the validation rows and printed.

LORA_CHECKPOINT names the adapter. The flags of finetune.py are taken; --output and --dtype mean what is said here.
"""
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
DEQUANTISED, UNQUANTISED = "dequantised", "unquantised"


def merge(settings: Settings, output: Path, dtype_name: str, into: str) -> None:
    """Writes the merged model to `output`; `dtype_name` is one of torch's, `into` DEQUANTISED or UNQUANTISED."""
    import torch

    from sqlora.data import tokenise
    from sqlora.merge import drift, export
    from sqlora.model import adapter, base_models, loading, merging
    from sqlora.reports import banner, model_card
    from sqlora.storage import atomic
    from sqlora.system import console

    # The saved type is also that of the computation; but a CPU does not compute in float16.
    settings = replace(settings, DTYPE="auto" if dtype_name == "float16" else dtype_name)
    chosen = loading.choose_device(settings)
    dtype = getattr(torch, dtype_name)
    folder = adapter.find_adapter(settings)
    if folder is None:
        raise UserError(
            f"there is no adapter to merge: neither {settings.MODEL_PATH} nor {settings.CHECKPOINT_DIR} holds one; "
            f"run finetune.py first, or name one with --lora-checkpoint"
        )
    base = base_models.find_base_model(settings.BASE_MODEL)
    config = loading.check_causal(base)
    tokenizer = loading.load_tokenizer(base, settings.prompt_layout)
    fingerprint = adapter.check_adapter(folder, base, tokenizer, settings.prompt_layout)
    _check_space(config, dtype, output)
    low_bit = _trained_on(fingerprint, settings.LOW_BIT, into)

    console.console.rule("[bold]SQLoRA merge")
    console.print_facts({"foundation model": base.id, "device": f"{chosen.type}: {chosen.name} ({chosen.reason})"})
    answers_only = replace(settings, TRAIN_ON_INPUTS=False)
    rows = tokenise.tokenise_rows(_validation_rows(settings, fingerprint), tokenizer, answers_only).rows
    if not rows:
        raise UserError(
            f"every validation row is longer than MAX_LENGTH (--max-length) {settings.MAX_LENGTH} tokens; raise it"
        )

    try:
        # As in training, so that bitsandbytes does not repack the weights; see bitsandbytes.keep_4bit_unpacked.
        base_model = loading.load_base(base, low_bit, chosen, training=True)
        trained = loading.weights_in_memory(base_model, low_bit)
        banner.print_adapter(folder, fingerprint, trained)
        model = adapter.load_adapter(base_model, folder)
        before = drift.answer_scores(model, rows)
        if into == UNQUANTISED:
            del base_model, model
            gc.collect()
            low_bit = "none"
            base_model = loading.load_base(base, low_bit, replace(chosen, dtype=dtype), training=False)
            model = adapter.load_adapter(base_model, folder)
        merged_into = loading.weights_in_memory(base_model, low_bit)
        del base_model
        merging.dequantise(model, dtype)
        merged = merging.merge_adapter(model)
        difference = drift.measure_drift(before, drift.answer_scores(merged, rows))
    except torch.OutOfMemoryError:
        raise UserError(
            f"the model does not fit into the memory of {chosen.name} in {dtype_name}; merge with --device cpu"
        ) from None

    weights = (
        f"its own {dtype_name} weights"
        if merged_into == "none"
        else f"{merged_into} weights, dequantised to {dtype_name}"
        if into == UNQUANTISED
        else f"the {merged_into} weights of training, dequantised to {dtype_name}"
    )
    facts: dict[str, object] = {"merged into": weights, **_drift_facts(difference, len(rows), trained)}
    with atomic.new_folder(output) as partial:
        export.write_model(partial, merged, tokenizer, base, settings.MAX_NEW_TOKENS, settings.prompt_layout)
        model_card.write_merged_card(partial, fingerprint or {"base_model": vars(base)}, facts, settings.prompt_layout)
    console.print_facts(facts | {"merged model": output})


def _trained_on(fingerprint: dict | None, low_bit: str, into: str) -> str:
    """The LOW_BIT that the adapter was trained with, or `low_bit` if it is unknown or one of bigdl's."""
    from sqlora.model import bitsandbytes

    trained = str((fingerprint or {}).get("quantisation", low_bit))
    if known := [name for name in bitsandbytes.LOW_BITS if name in re.findall(r"\w+", trained)]:
        return known[0]
    if re.match(r"int8|b?float", trained):  # the base's own, whatever LOW_BIT says
        return low_bit
    if into == DEQUANTISED:
        raise UserError(
            f"this adapter was trained on {trained} weights, which only BACKEND bigdl has, and nothing can be "
            f"merged into them; set --into {UNQUANTISED}"
        )
    return low_bit


def _validation_rows(settings: Settings, fingerprint: dict | None) -> list[dict[str, str]]:
    """The rows that finetune.py held out, if the data and the settings are those of its run; a note says if the data is
    not.
    """
    from sqlora.data import training_rows
    from sqlora.system import console

    rows = training_rows.load(settings)
    if fingerprint and fingerprint.get("data", {}).get("hash") != rows.data_hash():
        console.note("DATA_PATH is not the data that the adapter was trained on: the drift is measured on other rows")
    return rows.validation


def _drift_facts(apart: Drift, rows: int, low_bit: str) -> dict[str, str]:
    before, after = apart.loss
    return {
        "drift measured on": f"{apart.tokens:,} answer tokens of {rows:,} validation rows, against {low_bit} base and "
        f"adapter",
        "same likeliest token": f"{apart.same:.2%}",
        "log-probability": f"differs by {apart.mean:.5f} in the mean, by {apart.largest:.4f} at most",
        "loss": f"{before:.5f} before, {after:.5f} merged",
    }


def _check_output(text: str | None, settings: Settings | None = None) -> Path:
    """The folder to write. Raises UserError if it, or CHECKPOINT_DIR with the cached data check, cannot be written."""
    if not text:
        raise UserError("--output is missing; name the folder for the merged model")
    output = Path(os.path.realpath(expand(text, "--output")))  # so that "." has a name
    merged = outputs.Folder("--output", output, patterns=("*",), new=True)
    if settings:
        outputs.check_outputs_are_ours(run_folder.reads(settings, TRAINED_ON), merged, run_folder.run_output(settings))
    else:
        outputs.check_outputs_are_ours({}, merged)
    return output


def _check_space(config, dtype, output: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        need = AutoModelForCausalLM.from_config(config, trust_remote_code=False).num_parameters() * dtype.itemsize
    there = next(path for path in output.absolute().parents if path.exists())
    free = shutil.disk_usage(there).free
    if free < need * 1.01:
        raise UserError(
            f"--output is {str(output)!r}, whose disk has {free / 1e9:.1f} GB free, and the merged model needs "
            f"{need / 1e9:.1f} GB; free some space, or choose another folder"
        )


@click.command("python -m sqlora.merge", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.option("--output")
@click.option("--dtype", type=click.Choice([*DTYPES, *DTYPES.values()]), default="bf16")
@click.option("--into", type=click.Choice([DEQUANTISED, UNQUANTISED]), default=DEQUANTISED)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def command(output: str | None, dtype: str, into: str, flags: tuple[str, ...]) -> None:
    settings = load_settings(list(flags), ABOUT)
    folder = _check_output(output, settings)
    if settings.BACKEND == "bigdl":
        raise UserError(
            "BACKEND (--backend) is 'bigdl', into whose weights nothing can be merged; merge with BACKEND "
            "bitsandbytes, in the environment of requirements.txt, which loads the same adapters"
        )
    from sqlora.system import console

    console.quiet_libraries()
    merge(settings, folder, DTYPES.get(dtype, dtype), into)


def main(arguments: list[str] | None = None) -> None:
    """The command; exits with 2 for errors that the user can fix."""
    run_command(command, arguments)


if __name__ == "__main__":
    main()
