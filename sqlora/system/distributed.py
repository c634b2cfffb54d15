"""Distributed runs: several processes, on one host or more, started by accelerate launch, torchrun or mpirun.

Each process trains as if it were alone, on its own device. The launcher's variables are hidden from the libraries,
which would otherwise wrap the model and distribute the rows themselves. All communication is here: tensors are summed,
numbers exchanged, and the main process speaks for all. Control messages go over gloo between the CPUs, so that no
process waits on its device for one that has ended.

With a single process every function here returns its argument unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlora.system.errors import UserError, one_line

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
# The launchers' variables for a process's rank and the number of processes: in all, and on this host.
NAMES = {
    "rank": ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"),
    "world": ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"),
    "local_rank": ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "local_world": ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"),
}
HIDDEN = ("ACCELERATE_", "FSDP_")  # prefixes of the launcher's other variables
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
BACKENDS = {"cuda": "cpu:gloo,cuda:nccl", "xpu": "cpu:gloo,xpu:xccl", "cpu": "gloo"}
TIMEOUT = timedelta(minutes=30)  # for a process that hangs in training; the others notice at once when one ends
PATIENCE = timedelta(days=30)  # for work that may take any time: a download, a process's part of the answers
FINE, FAILED = 0, 1


@dataclass(frozen=True)
class RankInfo:
    """This process's rank and the number of processes, in all and on its host; whether the launcher asks for FSDP."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    sharded: bool


class OtherFailed(Exception):
    """Another process has failed, and prints why."""


class PeerLost(UserError):
    """Another process has ended without saying why."""

    def __init__(self) -> None:
        super().__init__(
            f"one of the {rank_info().world} processes has ended, and the run with it; what was saved before is "
            f"whole: continue with --resume"
        )


_control: Any = None  # the gloo group of all processes, once it is initialised


@functools.cache
def rank_info() -> RankInfo:
    """What the launcher's environment says; `configure_rank` hides it afterwards. Needs no torch."""

    def read(kind: str, default: int) -> int:
        return next((int(os.environ[name]) for name in NAMES[kind] if os.environ.get(name, "").isdecimal()), default)

    world = read("world", 1)
    sharded = world > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    return RankInfo(read("rank", 0), world, read("local_rank", 0), read("local_world", 1), sharded)


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes. Needs no torch."""
    return rank_info().rank, rank_info().world


def is_main_process() -> bool:
    """Whether this process prints and writes for all."""
    return rank_info().rank == 0


def is_distributed() -> bool:
    """Whether the run has several processes."""
    return rank_info().world > 1


def rows_of_rank(rows: list[T]) -> list[T]:
    """This process's part of `rows`: consecutive ones, since similar rows are next to each other."""
    rank, world = rank_and_world()
    return rows[len(rows) * rank // world : len(rows) * (rank + 1) // world]


def configure_rank() -> None:
    """Makes only this process's own device visible and hides the launcher. Call it before torch is imported.

    Raises UserError for a setting of accelerate that would have no effect.
    """
    if rank_info().sharded and os.environ.get("FSDP_VERSION", "2") != "2":
        raise UserError("accelerate's configuration has fsdp_version 1; set it to 2 (docs/scale.md)")
    if rank_info().sharded and os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() == "true":
        raise UserError("accelerate's configuration has fsdp_offload_params, which is not supported; set it to false")
    for name in VISIBLE if is_distributed() else ():
        devices = os.environ.get(name, "").split(",")
        if name not in os.environ:
            os.environ[name] = str(rank_info().local_rank)
        elif len(devices) > 1:  # one device was assigned by a scheduler, and none means none
            os.environ[name] = devices[rank_info().local_rank] if rank_info().local_rank < len(devices) else ""
    names = [name for kind in NAMES.values() for name in kind]
    for name in [*os.environ]:
        if name in names or name.startswith(HIDDEN):
            del os.environ[name]


def init_process_group(device_type: str, timeout: timedelta = TIMEOUT) -> None:
    """Waits for all processes. Raises UserError unless all have the same kind of device, and each its own.

    Raises an error of torch if they have not come within `timeout`.
    """
    global _control
    if not is_distributed() or _control is not None:
        return
    import torch.distributed as dist

    if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
        raise UserError("the launcher set no MASTER_ADDR and MASTER_PORT; start with accelerate launch (docs/scale.md)")
    dist.init_process_group(BACKENDS[device_type], rank=rank_info().rank, world_size=rank_info().world, timeout=timeout)
    _control = dist.new_group(backend="gloo", timeout=PATIENCE)
    kinds = [*BACKENDS]
    device_kinds = all_gather_int(kinds.index(device_type))
    if len(set(device_kinds)) > 1:
        counted = ", ".join(f"{device_kinds.count(kind)} on {kinds[kind]}" for kind in sorted(set(device_kinds)))
        raise UserError(
            f"of the {rank_info().world} processes {counted}; start as many per host as it has GPUs "
            f"(--num_processes of accelerate launch counts those of all hosts), or set DEVICE (--device) to cpu"
        )
    devices = all_gather_int(_device_number(device_type))
    if len(set(devices)) < len(devices):
        raise UserError(
            "two processes have the same GPU; start no more per host than CUDA_VISIBLE_DEVICES or ZE_AFFINITY_MASK "
            "lists, or leave these unset"
        )


def _device_number(device_type: str) -> int:
    """A number that identifies this process's device, or its rank where the device has no identifier."""
    import torch

    uuid = (
        None
        if device_type == "cpu"
        else getattr(torch.get_device_module(device_type).get_device_properties(0), "uuid", None)
    )
    return rank_info().rank if uuid is None else int.from_bytes(hashlib.sha256(str(uuid).encode()).digest()[:7], "big")


def all_gather_int(number: int, patience: timedelta = TIMEOUT) -> list[int]:
    """Every process's number, in order of rank. Raises OtherFailed if one has failed, PeerLost if one has ended."""
    return [number] if not is_distributed() else _exchange(FINE, number, patience)


def all_reduce_max(number: int) -> int:
    """The largest number of all processes."""
    return max(all_gather_int(number))


def broadcast_from_main(compute: Callable[[], T]) -> T:
    """The result of `compute`, which only the main process calls, in all processes. The others wait for it."""
    if not is_distributed():
        return compute()
    import torch.distributed as dist

    value: list[Any] = [compute() if is_main_process() else None]
    all_gather_int(0, PATIENCE)
    with _peers():
        dist.broadcast_object_list(value, src=0, group=_control)
    return value[0]


def local_main_process_first(compute: Callable[[], T]) -> T:
    """Calls `compute` in each host's first process before the others, which then find what it stored on the disk."""
    return _in_turn(compute, rank_info().local_rank == 0)


def main_process_first(compute: Callable[[], T]) -> T:
    """Calls `compute` in the main process before all others, where all hosts see the same disk."""
    return _in_turn(compute, is_main_process())


def _in_turn(compute: Callable[[], T], goes_first: bool) -> T:
    if not goes_first:
        all_gather_int(0, PATIENCE)
    value = compute()
    if goes_first:
        all_gather_int(0, PATIENCE)
    return value


def gather_bytes(value: bytes) -> list[bytes] | None:
    """Every process's value, in order of rank, in the main process; None in the others."""
    if not is_distributed():
        return [value]
    import torch.distributed as dist

    all_gather_int(0, PATIENCE)
    values = [b""] * rank_info().world if is_main_process() else None
    with _peers():
        dist.gather_object(value, values, dst=0, group=_control)
    return values


def all_reduce_sum(tensors: list[torch.Tensor]) -> None:
    """Replaces each tensor, in place, by its sum over the processes. All have one dtype and one device."""
    if not is_distributed():
        return
    import torch
    import torch.distributed as dist

    all_gather_int(0)  # so that no process waits on its device for one that has failed
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _peers():
        dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def try_all_reduce(device: str, deadline: timedelta) -> str:
    """Adds up a small tensor over the processes, on their devices; what was wrong, or "" if it was right in time.

    Some cards hang in it and never return: the thread that waits is then left behind.
    """
    import torch
    import torch.distributed as dist

    faults = [f"no answer in {deadline.total_seconds():.0f} s"]

    def add_up() -> None:
        try:
            ones = torch.ones(1024, device=device)
            dist.all_reduce(ones)
            right = bool((ones == rank_info().world).all())  # which waits for the device
            faults[0] = "" if right else "the sum is wrong"
        except Exception as error:  # of any library below
            faults[0] = one_line(error)

    waiting = threading.Thread(target=add_up, daemon=True)
    waiting.start()
    waiting.join(deadline.total_seconds())
    return faults[0]


def report_failure(timeout: timedelta) -> list[int]:
    """Reports this rank's failure to the ranks that wait for it; returns the ranks that failed.

    Raises PeerLost if they do not answer within `timeout`.
    """
    return [rank for rank, status in enumerate(_exchange(FAILED, 0, timeout)) if status == FAILED]


def is_initialised() -> bool:
    """Whether the processes are connected."""
    return _control is not None


def peer_lost(error: Exception) -> PeerLost | None:
    """PeerLost for errors that mean it, also those of torch when FSDP waits for a process that has ended; else None."""
    if isinstance(error, PeerLost) or not is_initialised():
        return error if isinstance(error, PeerLost) else None
    from torch.distributed import DistError

    is_gloo = isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    return PeerLost() if is_gloo or isinstance(error, DistError) else None


def destroy_process_group() -> None:
    """Disconnects the processes, once all have done their work."""
    global _control
    if is_initialised():
        import torch.distributed as dist

        _control = None
        dist.destroy_process_group()


def _exchange(status: int, number: int, timeout: timedelta) -> list[int]:
    """Every process's number; for a process that failed, every process's status."""
    import torch
    import torch.distributed as dist

    mine = torch.tensor([status, number], dtype=torch.int64)
    all_ = [torch.empty_like(mine) for _ in range(rank_info().world)]
    with _peers():
        dist.all_gather(all_, mine, group=_control, async_op=True).wait(timeout)
    statuses, numbers = zip(*(pair.tolist() for pair in all_), strict=True)
    if status == FAILED:
        return list(statuses)
    if FAILED in statuses:
        raise OtherFailed
    return list(numbers)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Raises PeerLost for the errors of communication with a process that has ended."""
    try:
        yield
    except RuntimeError as error:  # gloo raises it, and the others DistBackendError
        raise PeerLost from error
