"""A model as transformers defines it, which training/agreement.py and generation/agreement.py compare ours with.

Every run begins with this comparison: a model of a kind that was never tried may do something to its logits, masks or
positions that is not known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from sqlora.model.backend import backend
from sqlora.model.merging import base_of
from sqlora.system.errors import UserError, one_line


@contextlib.contextmanager
def faults_in_one_line(model, done: str, remedy: str) -> Iterator[None]:
    """What the model's own code raises, in one line: which of transformers' models work, and with what, is not known
    here.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            "a row of a short trial does not fit into the device's memory beside the model; set LOW_BIT (--low-bit) "
            "to nf4, or take a smaller BASE_MODEL (--base-model)"
        ) from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"this {model.config.model_type} model cannot be {done} here ({one_line(error)}); {remedy}take another "
            f"BASE_MODEL (--base-model)"
        ) from error


@contextlib.contextmanager
def reference_model(model) -> Iterator[None]:
    """Within it the model is as transformers has it by definition."""
    if not backend.TAKES_ATTENTION:
        yield
        return
    base = base_of(model)
    before = base.config._attn_implementation
    base.set_attn_implementation("eager")
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        base.set_attn_implementation(before)
