"""A model that is ready to answer, with what identifies it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlora.model.base_models import BaseModel


@dataclass(frozen=True)
class AnsweringModel:
    """The base model, or the PeftModel around it, its tokenizer, and the folders of both.

    An adapter that changes the base itself is not on the model yet: `add_adapter` returns the model with it, once the
    base has answered; None where there is nothing left to add.
    """

    model: Any
    tokenizer: Any
    base: BaseModel
    adapter_folder: Path | None = None
    add_adapter: Callable[[Any], Any] | None = None
