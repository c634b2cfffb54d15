"""One set of names for transformers 5 (requirements.txt) and for 4.34 to 4.37, which bigdl-llm and ipex-llm need.

Outside model/ no module checks the version: what a backend can do is asked of model/backend.py.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

LEGACY = int(version("transformers").partition(".")[0]) < 5

if TYPE_CHECKING or not LEGACY:
    from torch.utils._triton import has_triton
    from transformers import AttentionInterface, Trainer
    from transformers import TrainingArguments as make_training_arguments
    from transformers.trainer_utils import rotate_checkpoints
else:
    from sqlora.model.transformers4 import (
        AttentionInterface,
        Trainer,
        has_triton,
        make_training_arguments,
        rotate_checkpoints,
    )

__all__ = ["LEGACY", "AttentionInterface", "Trainer", "has_triton", "make_training_arguments", "rotate_checkpoints"]
