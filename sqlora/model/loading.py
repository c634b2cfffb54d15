"""The base model in memory: its tokenizer, its low-bit weights, and the adapter wrapped around it.

BACKEND bitsandbytes is here, and what both have in common; bigdl.py has what BACKEND bigdl does otherwise.
"""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

from sqlora.model import architecture, quantised, sharding
from sqlora.model import device as devices
from sqlora.model.base_models import BaseModel
from sqlora.model.device import Device
from sqlora.model.transformers_compat import LEGACY
from sqlora.prompt.encoding import check_tokenizer
from sqlora.settings.command_line import Settings
from sqlora.system.errors import UserError

if LEGACY:
    from sqlora.model import bigdl

LOW_BITS = ("nf4", "fp4", "none")  # of bitsandbytes
MAMBAS = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")  # whose out_proj PEFT refuses: its weight is read past it


def choose_device(settings: Settings) -> Device:
    """The device and compute type of a run, by DEVICE and DTYPE.

    Raises UserError if BACKEND is not installed, or has not this device or LOW_BIT there: before anything is loaded.
    """
    if LEGACY != (settings.BACKEND == "bigdl"):
        raise UserError(f"BACKEND (--backend) is {settings.BACKEND!r}, and this environment has transformers "
                        f"{transformers.__version__}; " + (
                            "set it to bigdl, or pip install -r requirements.txt in an environment of its own" if LEGACY else
                            "pip install -r requirements-bigdl.txt in an environment of its own, or set it to bitsandbytes"))
    if LEGACY:
        return bigdl.choose(settings)
    if settings.LOW_BIT not in LOW_BITS:
        raise UserError(f"LOW_BIT (--low-bit) is {settings.LOW_BIT!r}, a type of BACKEND bigdl; set it to "
                        f"{' or '.join(LOW_BITS)}")
    return devices.choose_device(settings.DEVICE, settings.DTYPE)


def load_tokenizer(base: BaseModel):
    """The base model's tokenizer. Raises UserError if it has none, or one that does not carry SQL there and back."""
    # Alone, a tokenizer.model would be read as a tokenizer that does not start words as Llama's does.
    bare = (base.folder / "tokenizer.model").is_file() and not any(base.folder.glob("tokenizer*.json"))
    try:
        if LEGACY:
            tokenizer = bigdl.load_tokenizer(base.folder)
        else:
            tokenizer = (LlamaTokenizer if bare else AutoTokenizer).from_pretrained(base.folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError, RecursionError) as error:
        raise _unusable(base, "its tokenizer cannot be loaded", error) from None
    check_tokenizer(tokenizer)
    return tokenizer


def check_causal(base: BaseModel, longest: int = 0) -> PretrainedConfig:
    """The model's configuration.

    Raises UserError unless the folder's config.json is that of a causal language model that transformers knows, with room for
    `longest` tokens.
    """
    try:
        config = bigdl.load_config(base.folder) if LEGACY else AutoConfig.from_pretrained(
            base.folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RecursionError) as error:
        raise _unusable(base, "its config.json cannot be used", error) from None
    # Where config.json does not say, those that are causal alone.
    architectures = config.architectures or [name for name in [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)]
                                             if name and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES]
    if not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures):
        raise UserError(f"BASE_MODEL (--base-model) is {base.id!r}, a {', '.join(architectures) or config.model_type}, which is "
                        f"not a causal language model; name one such as a Llama")
    if longest > (most := architecture.longest_row(config)):
        raise UserError(f"MAX_LENGTH (--max-length) is {longest}, and {base.id!r} sees at most {most} tokens; lower it")
    return config


def load_base(base: BaseModel, settings: Settings, device: Device, training: bool) -> PreTrainedModel:
    """The frozen base model on `device`, its linear layers quantised as LOW_BIT says, the rest in `device.dtype`.

    Raises UserError if weights are missing, damaged, or do not fit the configuration.
    """
    try:
        model, missing = bigdl.load_model(base.folder, settings, device) if LEGACY else _load_model(base, settings, device)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, ImportError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise UserError(f"BASE_MODEL (--base-model) is {base.id!r}, which does not fit into the memory of {device.name}; "
                            f"set LOW_BIT to nf4, or take a smaller model") from None
        raise _unusable(base, "its weights cannot be loaded", error) from None
    if missing:
        raise UserError(f"BASE_MODEL (--base-model) is {base.id!r}, and {len(missing)} of its weights are missing, first "
                        f"{min(missing)}; download it again")
    model.requires_grad_(False)
    if getattr(model.config, "output_router_logits", False):  # for the loss of a mixture's router, which is not trained
        model.config.output_router_logits = False
    if not LEGACY:
        quantised.check_finite(model, base.id)
        mend_cpu_kernels(model, training)
    return model


def _unusable(base: BaseModel, fault: str, error: Exception) -> UserError:
    name = f"BASE_MODEL (--base-model) is {base.id!r}"
    if "trust_remote_code" in str(error):
        return UserError(f"{name}, which needs code of its own, and SQLoRA runs no code that comes with a model; name a model of "
                         f"a kind that transformers has")
    return UserError(f"{name}, and {fault}: {error}")


def _load_model(base: BaseModel, settings: Settings, device: Device):
    """The model, and the names of the weights that its files lack."""
    config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    own = quantised.prepare(config, base.id, device)
    again = own in quantised.MADE_PLAIN and settings.LOW_BIT != quantised.NONE  # plain weights may not fit the device
    how = {} if own else {"quantization_config": quantised.bits(settings.LOW_BIT, device)}
    with sharding.while_loading(device):
        model, report = AutoModelForCausalLM.from_pretrained(
            base.folder,
            config=config,
            dtype=device.dtype,
            device_map={"": "cpu" if again else device.place},
            output_loading_info=True,
            trust_remote_code=False,
            **how,
        )
    quantised.check_scales(model, report["unexpected_keys"], base.id)
    if not report["missing_keys"]:
        quantised.set_dtype(model, device.dtype)
        if again:
            quantised.quantise(model, settings.LOW_BIT, device)
    sharding.tie_layers(model, device)
    return model, report["missing_keys"]


def weights_in_memory(model: PreTrainedModel, settings: Settings) -> str:
    """How the base's weights are quantised, in the words of LOW_BIT; see quantised.py. Of bigdl's what LOW_BIT says."""
    return settings.LOW_BIT if LEGACY else quantised.in_memory(model)


def wrap_with_adapter(model: PreTrainedModel, settings: Settings) -> PeftModel:
    """A fresh LoRA adapter around the base, in float32. Raises UserError for LORA_TARGETS that the model cannot have."""
    targets: list[str] | str = settings.LORA_TARGETS
    there = sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if _takes_adapter(model, module)})
    if targets == ["all-linear"] and model.config.model_type in MAMBAS:
        targets = [name for name in there if name != "out_proj"]
    elif targets == ["all-linear"]:
        targets = there if LEGACY else "all-linear"
    elif absent := [name for name in targets if name not in there]:
        raise UserError(f"LORA_TARGETS (--lora-targets) names {', '.join(absent)}, which the model lacks; it has "
                        f"{', '.join(there)}")
    torch.manual_seed(settings.SEED)  # which the adapter's first weights are drawn with
    lora = LoraConfig(
        r=settings.LORA_R,
        lora_alpha=settings.LORA_ALPHA,
        lora_dropout=settings.LORA_DROPOUT,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return bigdl.wrap(model, lora, settings) if LEGACY else get_peft_model(model, lora)
    except ValueError as error:
        raise UserError(f"LORA_TARGETS (--lora-targets) is {', '.join(settings.LORA_TARGETS)}, and LORA_DROPOUT (--lora-dropout) "
                        f"{settings.LORA_DROPOUT}, which this model cannot be given: {error}; name some of "
                        f"{', '.join(there)}") from error


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The base with the adapter of `folder`, from safetensors alone."""
    return bigdl.load_adapter(model, folder) if LEGACY else PeftModel.from_pretrained(
        model, folder, torch_device=str(model.device))


def _takes_adapter(model: PreTrainedModel, module: torch.nn.Module) -> bool:
    return isinstance(module, (torch.nn.Linear, Conv1D)) and module is not model.get_output_embeddings()


def mend_cpu_kernels(model: torch.nn.Module, training: bool) -> None:
    """Keeps bitsandbytes from repacking the weights where that would stop the learning, lose precision or fail an assertion.

    On a CPU with AVX512_BF16, bitsandbytes 0.50 repacks a Linear4bit at its first forward in eval mode. From then on no
    gradient flows through it, it computes in bfloat16 whatever DTYPE says, and an output width that is no multiple of 32 is
    refused, as an input width that is no multiple of a block.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit) and (training or module.compute_dtype != torch.bfloat16 or module.out_features % 32
                                               or module.in_features % module.weight.blocksize):
            module.support_avx512bf16_for_cpu = False
