"""Do the processes of a launch reach one another, on their devices? Where not, a run would hang without a word."""

from __future__ import annotations

from datetime import timedelta

from sqlora.doctor.result import OK, WRONG, CheckResult, failed_check
from sqlora.model.device import Device
from sqlora.system import distributed
from sqlora.system.errors import UserError, one_line

JOINING = timedelta(minutes=2)  # for processes that start at different times
DEADLINE = timedelta(seconds=20)
REMEDIES = {
    "xpu": "set CCL_ALLREDUCE=ring, or CCL_ZE_IPC_EXCHANGE=sockets and CCL_ATL_TRANSPORT=mpi, for every process "
    "(docs/xpu.md)",
    "cuda": "set NCCL_P2P_DISABLE=1 for every process; NCCL_DEBUG=INFO says more",
    "cpu": "set GLOO_SOCKET_IFNAME to the network interface that the hosts share",
}


def all_reduce(device: Device, joining: timedelta = JOINING, deadline: timedelta = DEADLINE) -> CheckResult:
    """Whether the processes find each other, and their devices add up a small tensor in time."""
    world = distributed.rank_info().world
    name, remedy = f"all-reduce of {world} processes", REMEDIES[device.type]
    try:
        distributed.init_process_group(device.type, joining)
    except UserError as error:
        return failed_check(name, error)
    except RuntimeError as error:  # of torch's store, or of a backend
        return CheckResult(name, WRONG, f"not all have come within {joining} ({one_line(error)})", remedy)
    if fault := distributed.try_all_reduce(device.torch_device, deadline):
        return CheckResult(name, WRONG, fault, remedy)
    return CheckResult(name, OK, f"{distributed.BACKENDS[device.type].rpartition(':')[2]} adds up right")
