"""Runs a script as if this machine had an Intel GPU and nothing else: what asks for "xpu" computes on the CPU.

    python tests/remapped.py finetune.py ...
    python tests/remapped.py -m sqlora.merge ...

torch.xpu and torch.accelerator answer for a card of 16 GB without graphs, and a model says that it is on it; a
TorchFunctionMode takes "xpu" out of every call. "cuda" in a call, or a call of torch.cuda by SQLoRA, ends the run. Not
seen are tensors that were left on the CPU, and kernels: there is one device. Several processes have to ask for xccl,
and get gloo. The variable CARD lists what is wrong with the card, a few of QUIRKS.
"""

from __future__ import annotations

import functools
import os
import runpy
import sys
import threading
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.distributed
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

ROOT = Path(__file__).parents[1]
CARD = torch.device("xpu", 0)
MEMORY = 16 << 30
QUIRKS = {
    "silent": "it does not report its free memory",
    "lying": "it reports far more free memory than it has",
    "short": "a pass of more than MOST_TOKENS does not fit into its memory",
    "lost": "it is lost in the third step",
    "two": "another card is beside it",
    "bare": "Triton does not work for it",
}
MOST_TOKENS = 260


class CudaAskedForError(AssertionError):
    """What runs on an Intel GPU asked for CUDA."""


class OnCpu(TorchFunctionMode):
    """Computes on the CPU what is asked of xpu."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        name = getattr(function, "__name__", "")
        kinds = {kind(one) for one in tree_flatten((arguments, keywords))[0]}
        if (name == "cuda" or "cuda" in kinds) and is_ours(sys._getframe(1).f_code.co_filename):
            raise CudaAskedForError(f"torch's {name} is asked for cuda")
        if "xpu" in kinds and function is not torch.device:
            arguments, keywords = tree_map(lambda one: "cpu" if kind(one) == "xpu" else one, (arguments, keywords))
        return function(*arguments, **keywords)


def kind(one: Any) -> str:
    """The kind of device that an argument names, or ""."""
    if isinstance(one, torch.device):
        return one.type
    return one.split(":")[0] if isinstance(one, str) and one.split(":")[0] in ("xpu", "cuda") else ""


def is_ours(file: str) -> bool:
    """Whether it is SQLoRA's; other libraries ask whether there is CUDA, and name it."""
    path = Path(file)
    return path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests") and ".venv" not in path.parts


def refuse(module: ModuleType, name: str) -> None:
    """Makes a function of torch.cuda end the run if SQLoRA's own code calls it; other libraries ask it for much."""
    function = getattr(module, name)

    @functools.wraps(function)
    def checked(*arguments, **keywords):
        if is_ours(sys._getframe(1).f_code.co_filename):
            raise CudaAskedForError(f"torch.cuda.{name} is called")
        return function(*arguments, **keywords)

    setattr(module, name, checked)


def no_graphs(*_, **__):
    raise RuntimeError("this card has no graphs")


def unknown(*_):
    raise RuntimeError("The device does not provide the ext_intel_free_memory aspect")


def spoil(quirks: set[str]) -> None:
    """Passes that do not fit, or with which the card is lost."""
    from sqlora.training import sql_trainer
    from sqlora.training.packing import packed_loss

    loss_sum, step = packed_loss.loss_sum, sql_trainer.SqlTrainer.training_step

    def in_little_memory(model, inputs, base):
        if sys._getframe(1).f_code.co_name == "_backward" and inputs["input_ids"].numel() > MOST_TOKENS:
            raise torch.OutOfMemoryError("XPU out of memory")
        return loss_sum(model, inputs, base)

    def in_step(self, *arguments):
        if self.state.global_step == 2:
            raise RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")
        return step(self, *arguments)

    if "short" in quirks:
        packed_loss.loss_sum = in_little_memory
    if "lost" in quirks:
        sql_trainer.SqlTrainer.training_step = in_step


def install(quirks: set[str]) -> None:
    """From here on this process has the card, and no CUDA."""
    assert quirks <= QUIRKS.keys(), quirks
    free = 1 << 50 if "lying" in quirks else MEMORY
    for name, function in list(vars(torch.cuda).items()):
        if isinstance(function, FunctionType) and not name.startswith("_") and name != "is_available":
            refuse(torch.cuda, name)
    torch.cuda.is_available = lambda: False
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 2 if "two" in quirks else 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "Intel(R) Graphics" if device else "Intel(R) Pretended GPU",
        "get_device_properties": lambda device=None: SimpleNamespace(
            name="Intel(R) Pretended GPU", total_memory=MEMORY, driver_version="0", platform_name="Level-Zero"
        ),
        "get_device_capability": lambda device=None: {},
        "is_bf16_supported": lambda including_emulation=True: False,
        "mem_get_info": unknown if "silent" in quirks else lambda device=None: (free, free),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 1 << 30,
        "max_memory_reserved": lambda device=None: 1 << 30,
        "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device="xpu": torch.get_rng_state(),
        "set_rng_state": lambda state, device="xpu": None,
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "set_rng_state_all": lambda states: None,
        "Stream": no_graphs,
        "XPUGraph": no_graphs,
    }
    for name, answer in answers.items():
        setattr(torch.xpu, name, answer)
    accelerator = {
        "is_available": lambda: True,
        "current_accelerator": lambda check_available=False: torch.device("xpu"),
        "device_count": lambda: 1,
        "current_device_index": lambda: 0,
        "current_stream": lambda device=None: SimpleNamespace(is_capturing=lambda: False),
        "set_device_index": lambda device: None,
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
        "reset_peak_memory_stats": lambda device=None: None,
    }
    for name, answer in accelerator.items():
        setattr(torch.accelerator, name, answer)
    connect = torch.distributed.init_process_group

    def connect_by_gloo(backend, *arguments, **keywords):
        assert backend == "cpu:gloo,xpu:xccl", backend
        connect("gloo", *arguments, **keywords)

    torch.distributed.init_process_group = connect_by_gloo
    torch.Tensor.pin_memory = lambda tensor, device=None: tensor
    on_kind = torch.autocast.__init__

    def begin(self, device_type, *arguments, **keywords):
        if device_type == "cuda":
            raise CudaAskedForError("torch.autocast is asked for cuda")
        on_kind(self, "cpu" if device_type == "xpu" else device_type, *arguments, **keywords)

    torch.autocast.__init__ = begin
    in_thread = threading.Thread.run

    def run_on_cpu(thread):
        with OnCpu():  # each thread has its own modes
            in_thread(thread)

    threading.Thread.run = run_on_cpu


def run(arguments: list[str]) -> None:
    """Runs a script of this repository, or with -m a module, as the main program."""
    quirks = set(os.environ.get("CARD", "").split(",")) - {""}
    install(quirks)
    with OnCpu():
        import peft
        import torch.utils._triton
        import transformers

        if "bare" in quirks:
            torch.utils._triton.has_triton = lambda: False
        transformers.PreTrainedModel.device = peft.PeftModel.device = property(lambda model: CARD)
        if quirks & {"short", "lost"}:
            spoil(quirks)
        sys.argv = arguments[arguments[0] == "-m" :]
        if arguments[0] == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    run(sys.argv[1:])
