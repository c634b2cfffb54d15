"""BACKEND bigdl: the base model through bigdl-llm or ipex-llm, on an Intel GPU or a CPU, with transformers 4.34 to
4.37.

It has the interface of backend.py; transformers4.py has the Trainer of that time.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import logging
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaTokenizerFast,
    PretrainedConfig,
    PreTrainedModel,
)

from sqlora.model import architecture
from sqlora.model import device as devices
from sqlora.model.base_models import BaseModel
from sqlora.model.device import Device
from sqlora.system import distributed
from sqlora.system.errors import UserError

NAME = "bigdl"
TAKES_ATTENTION = False  # its transformers has no interface for it
GRADIENT_IN_EVAL = False
UNPACKS = False
PACKAGES = ("bigdl.llm", "ipex_llm")
LOW_BITS = ("sym_int4", "nf4", "none")
LOW_BITS_OF = {"cpu": ("sym_int4", "none"), "xpu": ("nf4", "sym_int4", "none")}  # that train, by device
LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None}
INSTALL = "pip install -r requirements/bigdl.txt in a separate environment"
# What an adapter's configuration may have since, and an older peft would pass over without a word, though it changes
# the sums.
SINCE = (
    "use_dora",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "layer_replication",
    "use_qalora",
    "use_bdlora",
    "exclude_modules",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
)


@functools.cache  # ipex-llm pretends to be bigdl once it is imported
def package() -> str:
    """The name of the installed package. Raises UserError if there is none, and for more than one process."""
    if distributed.is_distributed():
        raise UserError(
            "BACKEND (--backend) is 'bigdl', which trains in one process here; start finetune.py without a launcher, "
            "or set it to bitsandbytes"
        )
    for name in PACKAGES:
        if importlib.util.find_spec(name.partition(".")[0]) and importlib.util.find_spec(name):
            logging.basicConfig(level=logging.WARNING)  # before the package sets its own, louder one
            logging.getLogger(name).setLevel(logging.CRITICAL)  # it raises what it logs
            return name
    raise UserError(f"BACKEND (--backend) is 'bigdl', and neither bigdl-llm nor ipex-llm is installed; {INSTALL}")


def qlora() -> ModuleType:
    """The package's own peft."""
    return importlib.import_module(package() + ".transformers.qlora")


def choose_device(wanted: str, dtype: str, low_bit: str) -> Device:
    """The device and compute type. Raises UserError for those that the package has not."""
    package()
    if importlib.util.find_spec("intel_extension_for_pytorch"):
        importlib.import_module("intel_extension_for_pytorch")  # brings torch.xpu
    kind = wanted
    if wanted == "auto":
        kind = "xpu" if devices.is_there("xpu") else "cpu"
    if kind not in LOW_BITS_OF:
        raise UserError(
            f"DEVICE (--device) is {kind!r}, and BACKEND bigdl runs on xpu and cpu; set one of these, or BACKEND "
            f"(--backend) to bitsandbytes"
        )
    if dtype == "float16":
        raise UserError("DTYPE (--dtype) is float16, in which bigdl does not train; use bfloat16, float32 or auto")
    by_default = (kind, dtype) == ("xpu", "auto")
    device = devices.choose_device(kind, "bfloat16" if by_default else dtype)
    if wanted == "auto":
        device = replace(device, reason="first of xpu, cpu, where bigdl runs" if kind == "xpu" else "no xpu here")
    if by_default:
        device = replace(device, dtype_reason="what bigdl trains in on an XPU")
    check_low_bit(low_bit, kind)
    return device


def check_low_bit(low_bit: str, kind: str) -> None:
    """Raises UserError unless the package trains on such weights on this kind of device."""
    if low_bit in LOW_BITS_OF[kind]:
        return
    if kind == "xpu":
        why = "not known to train there"
    elif low_bit in ("nf4", "fp4"):
        why = "which the library refuses there"
    else:
        why = "for which the library silently produces NaN losses on this device"
    raise UserError(
        f"LOW_BIT (--low-bit) is {low_bit!r}, and BACKEND is bigdl on {kind}, {why}; set it to "
        f"{' or '.join(LOW_BITS_OF[kind])}"
    )


class PreTrainedTokenizerFast(transformers.PreTrainedTokenizerFast):  # named as it, since that is what is saved
    """Takes split_special_tokens, as transformers 5's tokenizers do: text that spells a special token stays text."""

    def __call__(self, texts, *arguments, split_special_tokens: bool = False, **keywords):
        if not split_special_tokens:
            return super().__call__(texts, *arguments, **keywords)
        spec = json.loads(self.backend_tokenizer.to_str())
        spec["added_tokens"] = [token for token in spec["added_tokens"] if not token["special"]]
        plain = Tokenizer.from_str(json.dumps(spec | {"truncation": None, "padding": None}))
        return {"input_ids": [one.ids for one in plain.encode_batch(texts, add_special_tokens=False)]}


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """From tokenizer.json, of today too, or else from sentencepiece's tokenizer.model. Raises ValueError for a later
    kind.
    """
    file, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    named = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if file.is_file():
        backend = _read_tokenizer(json.loads(file.read_text(encoding="utf-8")))
    elif config.is_file():
        backend = AutoTokenizer.from_pretrained(folder, verbose=False, trust_remote_code=False).backend_tokenizer
    elif not (folder / "tokenizer.model").is_file():
        raise ValueError("there is neither a tokenizer.json nor a tokenizer.model")
    else:  # the special tokens of Llama
        backend, named = LlamaTokenizerFast(str(folder / "tokenizer.model")).backend_tokenizer, LLAMA_TOKENS
    tokens = {
        name: value if isinstance(value, str) else value["content"]
        for name in LLAMA_TOKENS
        if (value := named.get(name))
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, verbose=False, **tokens
    )


def _read_tokenizer(spec: dict) -> Tokenizer:
    """A tokenizer.json's tokenizer, with what later versions of tokenizers write otherwise put into the words of this
    one.
    """
    model, split = spec["model"], spec.get("pre_tokenizer") or {}
    if any(isinstance(merge, list) for merge in model.get("merges", [])):  # since 0.20
        model["merges"] = [" ".join(merge) for merge in model["merges"]]
    # since 0.19; before, Llama's spaces were replaced so:
    if split.get("type") == "Metaspace" and split.get("split") is False:
        space, prefix = split["replacement"], split["prepend_scheme"]
        steps = [{"type": "Prepend", "prepend": space}] * (prefix != "never")
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": space})
        before = [spec["normalizer"]] if spec.get("normalizer") else []
        spec |= {"pre_tokenizer": None, "normalizer": {"type": "Sequence", "normalizers": before + steps}}
    try:
        return Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # which is what tokenizers raises
        raise ValueError(f"this version of tokenizers does not understand its tokenizer.json: {error}") from None


def load_config(folder: Path) -> PretrainedConfig:
    """config.json, of today too. Raises ValueError for what this transformers would read over."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except KeyError as unknown:
        raise ValueError(f"transformers {transformers.__version__} does not know the model type {unknown}") from None
    rope = getattr(config, "rope_parameters", None) or {}
    if rope:  # transformers 5's name for what were two settings
        config.rope_theta = rope.get("rope_theta", 10000.0)
        kind = rope.get("rope_type", "default")
        if kind not in ("default", "linear", "dynamic"):
            raise ValueError(f"its positions are of the kind {kind!r}, which BACKEND bigdl does not know")
        config.rope_scaling = None if kind == "default" else {"type": kind, "factor": rope["factor"]}
    size = getattr(config, "head_dim", None)
    if size and size * config.num_attention_heads != config.hidden_size:
        raise ValueError(
            f"its heads have {size} numbers each, and BACKEND bigdl supports only hidden_size / num_attention_heads"
        )
    return config


def load_model(base: BaseModel, low_bit: str, device: Device) -> tuple[PreTrainedModel, set[str]]:
    """The base model on the device, and the names of the weights that its files lack."""
    missing: set[str] = set()

    class Reporting(AutoModelForCausalLM):
        @classmethod
        def from_pretrained(cls, *arguments, **keywords):
            loader: Any = AutoModelForCausalLM
            model, report = loader.from_pretrained(*arguments, output_loading_info=True, **keywords)
            missing.update(report["missing_keys"])
            return model

    folder, config = base.folder, load_config(base.folder)
    if low_bit == "none":
        model = Reporting.from_pretrained(
            folder, config=config, torch_dtype=device.dtype, low_cpu_mem_usage=True, trust_remote_code=False
        )
    else:
        loader = importlib.import_module(package() + ".transformers").AutoModelForCausalLM
        reporting: Any = type("Loader", (loader,), {"HF_Model": Reporting})
        model = reporting.from_pretrained(
            str(folder),
            config=config,
            load_in_low_bit=low_bit,
            optimize_model=False,  # for generation only
            modules_to_not_convert=["lm_head"],
            torch_dtype=torch.float32 if device.type == "cpu" else device.dtype,  # what is not converted
            trust_remote_code=False,
        )
    return model.to(device.torch_device), missing


def finish_loading(model: PreTrainedModel, base: BaseModel, training: bool) -> None:
    """Nothing is left to do."""


def weights_in_memory(model: PreTrainedModel, low_bit: str) -> str:
    """What LOW_BIT says."""
    return low_bit


def rounding(model: PreTrainedModel) -> torch.dtype:
    """The type to whose precision the model's linear layers compute.

    For few rows the kernels of low-bit weights round their inputs to 8 bits, as many as bfloat16 has; for many rows,
    on a server's CPU, they do not.
    """
    low_bit = any(hasattr(module, "qtype") for module in model.modules())
    embeddings: Any = model.get_input_embeddings()
    return torch.bfloat16 if low_bit else embeddings.weight.dtype


def wrap(model, lora, low_bit: str, checkpointing: bool) -> PeftModel:
    """The model with a fresh adapter of peft's LoraConfig `lora`."""
    if low_bit != "none":
        model = qlora().prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    elif checkpointing:
        model.enable_input_require_grads()
    if lora.target_modules == "all-linear":  # which its peft does not know
        lora.target_modules = architecture.adaptable_layers(model)
    return qlora().get_peft_model(model, lora)


def load_adapter(model, folder: Path) -> PeftModel:
    """The model with the adapter of `folder`. Raises ValueError for an adapter that this peft would load wrong."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    beyond = [name for name in SINCE if config.get(name) and not hasattr(LoraConfig(), name)]
    if beyond:
        raise ValueError(f"it has {', '.join(beyond)}, which BACKEND bigdl does not know")
    return qlora().PeftModel.from_pretrained(model, str(folder))
