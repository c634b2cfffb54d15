"""BACKEND bitsandbytes: NF4 and FP4 weights on CUDA, XPU and CPU, with transformers 5. It has the interface of
backend.py.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from sqlora.model import device as devices
from sqlora.model import quantised, sharding
from sqlora.model.base_models import BaseModel
from sqlora.model.device import Device
from sqlora.system.console import note
from sqlora.system.errors import UserError

NAME = "bitsandbytes"
LOW_BITS = ("nf4", "fp4", "none")
TAKES_ATTENTION = True
GRADIENT_IN_EVAL = True
UNPACKS = True
SAFE_ON_XPU = Version("0.50.2")  # github.com/bitsandbytes-foundation/bitsandbytes/pull/2043


def choose_device(wanted: str, dtype: str, low_bit: str) -> Device:
    """The device and compute type of a run, by DEVICE and DTYPE. Raises UserError for a LOW_BIT of another backend,
    and for a bitsandbytes that is not safe on the device.
    """
    if low_bit not in LOW_BITS:
        raise UserError(
            f"LOW_BIT (--low-bit) is {low_bit!r}, a type of BACKEND bigdl; set it to {' or '.join(LOW_BITS)}"
        )
    device = devices.choose_device(wanted, dtype)
    if device.type == "xpu" and low_bit != "none":
        check_version(version(NAME))
    return device


def check_version(installed: str) -> None:
    """Raises UserError for a bitsandbytes that is not safe on an Intel GPU."""
    if Version(installed) < SAFE_ON_XPU:
        raise UserError(
            f"bitsandbytes is {installed}, which on an Intel GPU writes past the end of its memory; pip install "
            f"bitsandbytes=={SAFE_ON_XPU}, or set LOW_BIT (--low-bit) to none"
        )


def load_tokenizer(folder: Path):
    """The tokenizer in a base model's folder."""
    # Alone, a tokenizer.model would be read as a tokenizer that does not start words as Llama's does.
    bare = (folder / "tokenizer.model").is_file() and not any(folder.glob("tokenizer*.json"))
    return (LlamaTokenizer if bare else AutoTokenizer).from_pretrained(folder, trust_remote_code=False)


def load_config(folder: Path) -> PretrainedConfig:
    """config.json."""
    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def load_model(base: BaseModel, low_bit: str, device: Device) -> tuple[PreTrainedModel, set[str]]:
    """The model, and the names of the weights that its files lack."""
    config = load_config(base.folder)
    own = quantised.prepare(config, base.id, device)
    # Dequantised weights may not fit into the device's memory: they are quantised again on the CPU.
    again = own in quantised.DEQUANTISED and low_bit != quantised.NONE
    how = {} if own else {"quantization_config": quantised.bits(low_bit, device)}
    loader: Any = AutoModelForCausalLM
    with sharding.while_loading(device), without_adapter(base.folder) as folder:
        model, report = loader.from_pretrained(
            folder,
            config=config,
            dtype=device.dtype,
            device_map={"": "cpu" if again else device.torch_device},
            output_loading_info=True,
            trust_remote_code=False,
            **how,
        )
    quantised.check_stored(model, own, base.id)
    quantised.check_unread(model, report["unexpected_keys"], base.id)
    if not report["missing_keys"]:
        quantised.set_dtype(model, device.dtype)
        if again:
            quantised.quantise(model, low_bit, device)
    sharding.tie_layers(model, device)
    return model, report["missing_keys"]


@contextlib.contextmanager
def without_adapter(folder: Path) -> Iterator[Path]:
    """The folder, or one with links to all of its files but those of an adapter, which transformers would apply to the
    base without a word.
    """
    if not (folder / "adapter_config.json").exists():
        yield folder
        return
    note(f"{folder} holds an adapter beside the model; the base is loaded without it")
    with tempfile.TemporaryDirectory() as name:
        for file in folder.iterdir():
            if not file.name.startswith("adapter_"):
                Path(name, file.name).symlink_to(file.resolve())
        yield Path(name)


def finish_loading(model: PreTrainedModel, base: BaseModel, training: bool) -> None:
    """Checks the loaded weights and chooses their kernels. Raises UserError for weights that are not finite."""
    quantised.check_finite(model, base.id)
    keep_4bit_unpacked(model, training)


def weights_in_memory(model: PreTrainedModel, low_bit: str) -> str:
    """How the base's weights are quantised, in the words of LOW_BIT; see quantised.py."""
    return quantised.in_memory(model)


def rounding(model: PreTrainedModel) -> torch.dtype:
    """The type to whose precision the model's linear layers compute."""
    embeddings: Any = model.get_input_embeddings()
    return embeddings.weight.dtype


def wrap(model: PreTrainedModel, lora: LoraConfig, low_bit: str, checkpointing: bool) -> PeftModel:
    """The model with a fresh adapter. Raises ValueError for one that it cannot have."""
    return get_peft_model(model, lora)


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with the adapter of `folder`, from safetensors alone."""
    return PeftModel.from_pretrained(model, folder, torch_device=str(model.device))


def keep_4bit_unpacked(model: torch.nn.Module, training: bool) -> None:
    """Keeps bitsandbytes from repacking weights where that would stop learning, lose precision or fail.

    On a CPU with AVX512_BF16, bitsandbytes 0.50 repacks a Linear4bit at its first forward in eval mode. From then on no
    gradient flows through it, it computes in bfloat16 whatever DTYPE says, and it refuses an output width that is not a
    multiple of 32, and an input width that is not a multiple of a block.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if not isinstance(module, Linear4bit):
            continue
        weight: Any = module.weight  # in training it may be sharded, without a blocksize
        if (
            training
            or module.compute_dtype != torch.bfloat16
            or module.out_features % 32
            or module.in_features % weight.blocksize
        ):
            module.support_avx512bf16_for_cpu = False
