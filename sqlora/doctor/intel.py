"""What is known to break on Intel GPUs (docs/xpu.md), looked for by version, card, variable and kind of run.

Faults that a computation shows are in numerics.py: wrong matrix products, attention without a fused kernel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version

from sqlora.doctor.result import OK, WRONG, CheckResult
from sqlora.system import distributed


@dataclass(frozen=True)
class Machine:
    """What the faults depend on: names of the cards, oneCCL's version, the process's variables, its launch."""

    cards: str
    oneccl: Version
    variables: Mapping[str, str]
    processes: int
    sharded: bool


@dataclass(frozen=True)
class Fault:
    """A fault that others have reported at `source`, and whether a machine has it."""

    detail: str
    source: str
    remedy: str
    is_there: Callable[[Machine], bool]


FAULTS = (
    Fault(
        "oneCCL 2022 hangs in all-reduce on Arc Pro B60",
        "github.com/uxlfoundation/oneCCL/issues/215",
        "set CCL_ALLREDUCE=ring in the environment of every process; it is slower",
        lambda m: (
            m.processes > 1
            and "B60" in m.cards
            and m.oneccl >= Version("2022")
            and m.variables.get("CCL_ALLREDUCE") != "ring"
        ),
    ),
    Fault(
        "FSDP hangs at its start on Arc Pro B70",
        "github.com/intel/torch-xpu-ops/issues/4238",
        "set CCL_ZE_IPC_EXCHANGE=sockets and CCL_ATL_TRANSPORT=mpi in the environment of every process",
        lambda m: m.sharded and "B70" in m.cards and m.variables.get("CCL_ZE_IPC_EXCHANGE") != "sockets",
    ),
)


def known_faults() -> Iterator[CheckResult]:
    """The faults of FAULTS that this machine has, and libraries of oneAPI that are not those torch was built with."""
    found = faults_of(this_machine())
    yield from found
    if not found:
        yield CheckResult("known faults", OK, f"none of the {len(FAULTS)} that versions and cards tell (docs/xpu.md)")
    yield one_api()


def faults_of(machine: Machine) -> list[CheckResult]:
    """The known faults that a machine has."""
    return [
        CheckResult("known fault", WRONG, f"{fault.detail} ({fault.source})", fault.remedy)
        for fault in FAULTS
        if fault.is_there(machine)
    ]


def this_machine() -> Machine:
    """This process's cards and versions. oneCCL comes with torch from 2.8 on, and is 2022 from 2.13 on."""
    import torch

    names = {torch.xpu.get_device_name(number) for number in range(torch.xpu.device_count())}
    try:
        oneccl = Version(metadata.version("oneccl"))
    except metadata.PackageNotFoundError:  # not as a package of its own
        oneccl = Version("2022" if Version(torch.__version__) >= Version("2.13") else "2021")
    here = distributed.rank_info()
    return Machine(", ".join(sorted(names)), oneccl, os.environ, here.world, here.sharded)


def one_api() -> CheckResult:
    """Whether the packages that torch was built with, oneAPI's libraries, are installed in just those versions."""
    differing = []
    for line in metadata.requires("torch") or []:
        wanted = Requirement(line)
        if not str(wanted.specifier).startswith("==") or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            here = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            here = "missing"
        if not wanted.specifier.contains(here.replace("missing", "0"), prereleases=True):
            differing.append(f"{wanted.name} {here}, and torch needs {str(wanted.specifier).removeprefix('==')}")
    if differing:
        return CheckResult("oneAPI", WRONG, "; ".join(differing), "pip install -r requirements/xpu.txt anew")
    return CheckResult("oneAPI", OK, "its libraries are those that torch was built with")
