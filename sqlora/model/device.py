"""Which device and which number type a run uses, why, and how much memory it took."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from sqlora.system import distributed
from sqlora.system.errors import UserError

LENGTH_STEP = 8  # lengths of padded rows, which matrix units like


UNKNOWN_FREE = 4e9  # bytes, for a device that does not report its free memory
PREFERENCE = ("xpu", "cuda", "cpu")
# A matrix product is compiled for each shape, and oneDNN keeps 1024 of them, and torch's ideep above it as many again:
# passes are of many lengths, and memory grows by a megabyte with each.
KEPT_PRODUCTS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
MOST_KEPT = "64"
M_MMAP_THRESHOLD, SMALL_BLOCK, LARGE_BLOCK = -3, 1 << 18, 1 << 25  # of mallopt(3); bytes
CGROUP = Path("/sys/fs/cgroup")
LOST = re.compile(r"CUDA error|HIP error|level_zero|UR_RESULT|DEVICE_LOST|device lost", re.IGNORECASE)


@dataclass(frozen=True)
class Device:
    """A chosen device: `type` is xpu, cuda or cpu; `dtype` is the compute type; the reasons are for the banner.

    `memory`, in bytes, is that of a device that need not be here, and None for any other.
    """

    type: str
    name: str
    reason: str
    dtype: torch.dtype
    dtype_reason: str
    memory: int | None = None

    @property
    def torch_device(self) -> str:
        """The device as torch and `device_map` name it, such as "xpu:0"."""
        return "cpu" if self.type == "cpu" else f"{self.type}:{torch.get_device_module(self.type).current_device()}"


def choose_device(wanted: str, dtype: str) -> Device:
    """The device and compute type for DEVICE and DTYPE. Raises UserError for a device that is not there."""
    there = [kind for kind in PREFERENCE if is_there(kind)]
    if wanted == "auto":
        kind = there[0]
        missing = PREFERENCE[: PREFERENCE.index(kind)]
        reason = f"first of {', '.join(PREFERENCE)}" if not missing else f"no {' and no '.join(missing)} here"
    elif wanted in there:
        kind, reason = wanted, "as DEVICE asks"
    else:
        raise UserError(
            f"DEVICE (--device) is {wanted!r}, and this torch ({torch.__version__}) sees only "
            f"{', '.join(there)}; use one of these or auto, install the driver and torch for {wanted}, or for "
            f"--estimate alone add --memory 16GB"
        )
    if dtype != "auto":
        number, why = getattr(torch, dtype), "as DTYPE asks"
    else:
        number, why = _best_dtype(kind)
    if kind == "cpu" and number == torch.float16:
        raise UserError("DTYPE (--dtype) is float16, which trains badly on a CPU; use float32, bfloat16 or auto")
    for name in KEPT_PRODUCTS:  # read at the first product
        os.environ.setdefault(name, MOST_KEPT)
    return Device(kind, device_name(kind), reason, number, why)


def described_device(kind: str, dtype: str, memory: int) -> Device:
    """A device with so many bytes that need not be here, for estimates; with bfloat16, unless DTYPE says otherwise."""
    number, why = (torch.bfloat16, "supposed") if dtype == "auto" else (getattr(torch, dtype), "as DTYPE asks")
    return Device(kind, f"any with {memory / 1e9:.1f} GB", "as DEVICE and MEMORY say", number, why, memory)


def give_memory_back(always: bool) -> None:
    """Sets whether glibc returns blocks to the system as soon as they are freed, or keeps them in a fragmented heap.

    On two cores of a Xeon a forward and backward pass of SmolLM2's shape (ten layers, all-linear, float32, 1,058
    tokens) took 1.23 GB with such a heap and 0.84 GB without, in the same time; but returning small blocks costs time:
    the demo trains at half the speed without a heap.
    """
    if allocator := getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None:
        allocator(M_MMAP_THRESHOLD, SMALL_BLOCK if always else LARGE_BLOCK)


def is_there(kind: str) -> bool:
    """Whether torch can compute on this kind of device."""
    return kind == "cpu" or (hasattr(torch, kind) and getattr(torch, kind).is_available())


def device_name(kind: str) -> str:
    if kind != "cpu":
        return torch.get_device_module(kind).get_device_name()
    name = platform.processor()
    if sys.platform == "linux":  # where platform does not know the processor's name
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name or platform.machine()}, {torch.get_num_threads()} threads"


def has_bfloat16(kind: str) -> bool:
    """Whether the device computes in bfloat16 itself, rather than by emulation."""
    if kind == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.get_device_module(kind).is_bf16_supported(including_emulation=False)


def _best_dtype(kind: str) -> tuple[torch.dtype, str]:
    if has_bfloat16(kind):
        return torch.bfloat16, "the device has it"
    if kind == "cpu":
        return torch.float32, "this CPU lacks fast bfloat16"
    return torch.float16, "the device lacks bfloat16"


def free_memory(kind: str) -> int | None:
    """Bytes that a run may still allocate, or None if neither the driver nor torch reports it."""
    if kind == "cpu":
        import psutil

        return min(psutil.virtual_memory().available, _left_in_group())
    module = torch.get_device_module(kind)
    try:
        reusable = module.memory_reserved() - module.memory_allocated()  # kept by torch, and free
        return module.mem_get_info()[0] + reusable
    except (RuntimeError, AttributeError):  # some drivers of Intel GPUs do not report free memory
        pass
    try:
        return module.get_device_properties().total_memory - module.memory_allocated()
    except (RuntimeError, AttributeError, TypeError):
        return None


def _left_in_group() -> float:
    """Bytes that this process's control groups (version 2, of a container or service) leave it; infinite without a
    limit.
    """
    left = float("inf")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        group = CGROUP / next(line for line in lines if line.startswith("0::")).removeprefix("0::").lstrip("/")
        for folder in (group, *group.parents):
            if folder == CGROUP.parent:
                break
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                limit = int((folder / "memory.max").read_text())
                statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                taken = int((folder / "memory.current").read_text()) - int(statistics.get("inactive_file", 0))
                left = min(left, max(0, limit - taken))
    return left


def available_memory(kind: str) -> float:
    """Bytes for this process; the processes of a host share a CPU's memory. UNKNOWN_FREE if it is not reported."""
    free = free_memory(kind)
    if free is None:
        return UNKNOWN_FREE
    return free // distributed.rank_info().local_world if kind == "cpu" else free


def failure_of_device(error: BaseException | None) -> str | None:
    """The first line of an error that means that the device itself failed; None for any other error."""
    if not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError) or not LOST.search(str(error)):
        return None
    return str(error).splitlines()[0]


def peak_memory(kind: str) -> int:
    """The most bytes held so far: allocated on the device, or resident in this process on a CPU."""
    if kind != "cpu":
        return torch.get_device_module(kind).max_memory_allocated()
    import psutil

    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return memory.peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
