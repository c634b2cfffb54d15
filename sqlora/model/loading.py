"""Loads the base model: its tokenizer, its low-bit weights, and an adapter around it.

This is the part that the backends have in common; backend.py names the module of each.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from sqlora.model import architecture
from sqlora.model.backend import backend
from sqlora.model.base_models import BaseModel
from sqlora.model.device import Device
from sqlora.prompt.encoding import check_tokenizer
from sqlora.prompt.template import DEFAULT_LAYOUT
from sqlora.settings.settings import REQUIREMENTS, Settings
from sqlora.system.errors import UserError, error_with_location

LARGEST_POINTER = 1024  # bytes; git-lfs.com's specification
# whose out_proj PEFT refuses: its weight is read past it
MAMBAS = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")


def choose_device(settings: Settings) -> Device:
    """The device and compute type of a run, from DEVICE and DTYPE.

    Raises UserError if BACKEND is not installed, or supports neither the device nor LOW_BIT on it.
    """
    if settings.BACKEND != backend.NAME:
        raise UserError(
            f"BACKEND (--backend) is {settings.BACKEND!r}, and this environment has transformers "
            f"{transformers.__version__}, for {backend.NAME}; set it to {backend.NAME}, or pip install -r "
            f"{REQUIREMENTS[settings.BACKEND]} in a separate environment"
        )
    return backend.choose_device(settings.DEVICE, settings.DTYPE, settings.LOW_BIT)


def load_tokenizer(base: BaseModel, layout: str = DEFAULT_LAYOUT):
    """The base model's tokenizer. Raises UserError if it has none, or one that does not encode SQL without loss, or
    prompts in a `layout` as its chat template does.
    """
    try:
        tokenizer = backend.load_tokenizer(base.folder)
        check_tokenizer(tokenizer, layout)
    except UserError:
        raise
    except Exception as error:  # of any type, as everywhere here where libraries read files of others
        raise _unusable(base, "its tokenizer cannot be used", error) from None
    return tokenizer


def check_causal(base: BaseModel, longest: int = 0) -> PretrainedConfig:
    """The model's configuration.

    Raises UserError unless config.json describes a causal language model that transformers knows, and that takes rows
    of `longest` tokens.
    """
    try:
        config = backend.load_config(base.folder)
    except Exception as error:
        raise _unusable(base, "its config.json cannot be used", error) from None
    # If config.json does not say: the model types that are only causal.
    named = config.architectures if isinstance(config.architectures, list) else [config.architectures]
    architectures = [name for name in named if isinstance(name, str)] or [
        name
        for name in [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)]
        if name and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    ]
    if not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures):
        raise UserError(
            f"BASE_MODEL (--base-model) is {base.id!r}, a {', '.join(architectures) or config.model_type}, which is "
            f"not a causal language model; name one such as a Llama"
        )
    if longest > (most := architecture.longest_row(config)):
        raise UserError(f"MAX_LENGTH (--max-length) is {longest}, and {base.id!r} sees at most {most} tokens; lower it")
    return config


def load_base(base: BaseModel, low_bit: str, device: Device, training: bool) -> PreTrainedModel:
    """The frozen base model on `device`: linear layers quantised to `low_bit`, the rest in `device.dtype`.

    Raises UserError if weights are missing, damaged, or do not match the configuration.
    """
    try:
        model, missing = backend.load_model(base, low_bit, device)
    except UserError:
        raise
    except torch.OutOfMemoryError:
        raise UserError(
            f"BASE_MODEL (--base-model) is {base.id!r}, which does not fit into the memory of {device.name}; "
            f"set LOW_BIT to nf4, or take a smaller model"
        ) from None
    except Exception as error:
        raise _unusable(base, "its weights cannot be loaded", error) from None
    if missing:
        raise UserError(
            f"BASE_MODEL (--base-model) is {base.id!r}, and {len(missing)} of its weights are missing, first "
            f"{min(missing)}; download it again"
        )
    model.requires_grad_(False)
    if getattr(model.config, "output_router_logits", False):  # only for the loss of a router, which is not trained
        model.config.output_router_logits = False
    backend.finish_loading(model, base, training)
    return model


def _unusable(base: BaseModel, fault: str, error: Exception) -> UserError:
    name = f"BASE_MODEL (--base-model) is {base.id!r}"
    if "trust_remote_code" in str(error):
        return UserError(
            f"{name}, which needs its own code, and SQLoRA runs no code that comes with a model; name a model of "
            f"a kind that transformers has"
        )
    if isinstance(error, pickle.UnpicklingError):
        return UserError(f"{name}, whose weights may hold code, which SQLoRA does not run; name a safetensors version")
    if "ignore_mismatched_sizes" in str(error):
        return UserError(f"{name}, and its weights have other sizes than its config.json states; download it again")
    if pointer := next(filter(_is_pointer, sorted(base.folder.iterdir())), None):
        return UserError(f"{name}, where {pointer.name} is a Git LFS pointer and not the file; run git lfs pull there")
    reason = error if isinstance(error, OSError | ValueError | ImportError) else error_with_location(error)
    return UserError(f"{name}, and {fault}: {reason}; download it again, or name another model")


def _is_pointer(file: Path) -> bool:
    if not file.is_file() or file.stat().st_size > LARGEST_POINTER:
        return False
    return file.read_bytes().startswith(b"version https://git-lfs.github.com/")


def weights_in_memory(model: PreTrainedModel, low_bit: str) -> str:
    """How the base's weights are quantised, in the words of LOW_BIT."""
    return backend.weights_in_memory(model, low_bit)


def wrap_with_adapter(model: PreTrainedModel, settings: Settings) -> PeftModel:
    """Wraps the base with a fresh LoRA adapter, in float32. Raises UserError for LORA_TARGETS that the model lacks."""
    targets: list[str] | str = settings.LORA_TARGETS
    there = architecture.adaptable_layers(model)
    if targets == ["all-linear"] and model.config.model_type in MAMBAS:
        targets = [name for name in there if name != "out_proj"]
    elif targets == ["all-linear"]:
        targets = "all-linear"
    elif absent := [name for name in targets if name not in there]:
        raise UserError(
            f"LORA_TARGETS (--lora-targets) names {', '.join(absent)}, which the model lacks; it has {', '.join(there)}"
        )
    torch.manual_seed(settings.SEED)  # for the adapter's initial weights
    alpha: Any = settings.LORA_ALPHA  # PEFT declares an int, and computes with any number
    lora = LoraConfig(
        r=settings.LORA_R,
        lora_alpha=alpha,
        lora_dropout=settings.LORA_DROPOUT,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return backend.wrap(model, lora, settings.LOW_BIT, settings.GRADIENT_CHECKPOINTING)
    except ValueError as error:
        raise UserError(
            f"LORA_TARGETS (--lora-targets) is {', '.join(settings.LORA_TARGETS)}, and LORA_DROPOUT (--lora-dropout) "
            f"{settings.LORA_DROPOUT}, which this model does not support: {error}; name some of "
            f"{', '.join(there)}"
        ) from error


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The base with the adapter of `folder`, from safetensors alone."""
    return backend.load_adapter(model, folder)
