"""The libraries' names, one set for two stacks: that of requirements.txt, and transformers 4.34 to 4.37, which
bigdl-llm and
ipex-llm need (requirements/bigdl.txt). No other room asks for a version."""

from importlib.metadata import version

LEGACY = int(version("transformers").partition(".")[0]) < 5

if LEGACY:
    from sqlora.model.transformers4 import (
        AttentionInterface,
        Trainer,
        TrainingArguments,
        has_triton,
        rotate_checkpoints,
    )
else:
    from torch.utils._triton import has_triton
    from transformers import AttentionInterface, Trainer, TrainingArguments
    from transformers.trainer_utils import rotate_checkpoints

__all__ = ["LEGACY", "AttentionInterface", "Trainer", "TrainingArguments", "has_triton", "rotate_checkpoints"]
