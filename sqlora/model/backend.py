"""The backend of this environment: the module that loads the base with its low-bit weights.

bitsandbytes.py and bigdl.py have one interface, Backend. They need different versions of transformers, so an
environment has one of them, which BACKEND must name. A further backend is a module with this interface, a line in
BACKENDS below, and its name in settings/kinds.py.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from sqlora.model.transformers_compat import LEGACY

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PretrainedConfig, PreTrainedModel

    from sqlora.model.base_models import BaseModel
    from sqlora.model.device import Device


class Backend(Protocol):
    """What a backend's module has."""

    NAME: str  # as BACKEND names it
    LOW_BITS: tuple[str, ...]  # values of LOW_BIT that it trains
    TAKES_ATTENTION: bool  # whether a model's attention can be exchanged: for packing, the KV cache, and to check them
    GRADIENT_IN_EVAL: bool  # whether a gradient flows through a model in evaluation mode
    UNPACKS: bool  # whether low-bit weights can be made plain, for MERGE_FOR_GENERATION

    def choose_device(self, wanted: str, dtype: str, low_bit: str) -> Device:
        """The device and compute type, from DEVICE and DTYPE. Raises UserError if the package, the device or LOW_BIT on
        it cannot be had.
        """

    def load_tokenizer(self, folder: Path): ...

    def load_config(self, folder: Path) -> PretrainedConfig: ...

    def load_model(self, base: BaseModel, low_bit: str, device: Device) -> tuple[PreTrainedModel, set[str]]:
        """The model on the device, and the names of the weights that its files lack."""

    def finish_loading(self, model: PreTrainedModel, base: BaseModel, training: bool) -> None: ...

    def weights_in_memory(self, model: PreTrainedModel, low_bit: str) -> str: ...

    def rounding(self, model: PreTrainedModel) -> torch.dtype:
        """The type to whose precision the model's linear layers compute; see precision.py."""

    def wrap(self, model: PreTrainedModel, lora: LoraConfig, low_bit: str, checkpointing: bool) -> PeftModel:
        """The model with a fresh adapter; `checkpointing` is GRADIENT_CHECKPOINTING."""

    def load_adapter(self, model: PreTrainedModel, folder: Path) -> PeftModel: ...


BACKENDS = {True: "bigdl", False: "bitsandbytes"}  # modules next to this one, by LEGACY
backend: Backend = cast(Backend, importlib.import_module(f"sqlora.model.{BACKENDS[LEGACY]}"))
