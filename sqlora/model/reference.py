"""A model as transformers defines it: the reference of training/agreement.py and generation/agreement.py.

Every run begins with a comparison, since a model family that was never tried may treat its logits, masks or positions
in ways that SQLoRA does not know.
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
    """Raises errors of the model's own code as UserError: not every model of transformers works with every setting."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            "a row of a short trial does not fit into the device's memory with the model; set LOW_BIT (--low-bit) "
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
    """Runs the model as transformers defines it: eager attention, nothing compiled."""
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
