"""`python -m sqlora.doctor`: can this machine do what the settings ask, and are its numbers right?"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqlora.doctor import report
from sqlora.doctor.result import OK, SLOW, WRONG, CheckResult, failed_check
from sqlora.settings.command_line import load_settings
from sqlora.settings.settings import Settings
from sqlora.storage import outputs
from sqlora.system import distributed, shutdown
from sqlora.system.console import console, plain, quiet_libraries
from sqlora.system.errors import UserError, run_command

if TYPE_CHECKING:
    from sqlora.model.device import Device

ABOUT = """Check whether this machine can do what the settings ask, and whether its numbers are right.

\b
python -m sqlora.doctor          a line for each check: ok, slow, or WRONG, with the remedy
python -m sqlora.doctor --json   the same for a program
python -m sqlora.doctor --report FILE   writes it for others to read, with a short run of the demo (docs/xpu.md)

It exits with 1 if anything is WRONG, and takes the flags of finetune.py. Started by accelerate launch, it tries
whether the processes reach one another.
"""
STYLES = {OK: "green", SLOW: "yellow", WRONG: "bold red"}


def examine(settings: Settings) -> Iterator[CheckResult]:
    """Runs the checks, and yields each result as soon as it is known."""
    from sqlora.doctor import environment

    for check in (environment.versions, environment.libraries):
        result = check(settings.BACKEND)
        yield result
        if result.status == WRONG:
            return  # nothing else can be tried
    from sqlora.doctor import intel, processes
    from sqlora.model import loading

    yield from environment.devices()
    try:
        chosen = loading.choose_device(settings)
    except UserError as error:
        yield failed_check("chosen device", error)
        return
    dtype = str(chosen.dtype).removeprefix("torch.")
    yield CheckResult("chosen device", OK, f"{chosen.torch_device} ({chosen.reason}), {dtype} ({chosen.dtype_reason})")
    if chosen.type == "xpu":
        yield from intel.known_faults()
    if distributed.is_distributed():
        result = processes.all_reduce(chosen)
        yield result
        if result.status == WRONG:
            return  # the device may wait for ever
    yield from examine_numbers(chosen, settings.BACKEND, settings.LOW_BIT, settings.COMPILE == "on")

    with tempfile.TemporaryDirectory() as scratch:
        result, folder = environment.base_model(settings.BASE_MODEL, Path(scratch))
        yield result
        if folder:
            result = environment.fits(folder, settings, chosen)
            yield result
        yield environment.disk(folder if result.status != WRONG else None, settings)


def take_part(settings: Settings) -> Iterator[CheckResult]:
    """What the other processes of a launch do for the main one, which examines its own device and prints."""
    from sqlora.doctor import processes
    from sqlora.model import loading

    yield processes.all_reduce(loading.choose_device(settings))


def examine_numbers(chosen: Device, backend: str, low_bit: str, compiles: bool) -> Iterator[CheckResult]:
    """What finetune.py and generate.py compute, on the chosen device and in its number type, and products in other
    types.
    """
    import torch

    from sqlora.doctor import environment, numerics
    from sqlora.model import device
    from sqlora.model.transformers_compat import has_triton
    from sqlora.training.packing.plan import PackingPlan

    native = (torch.bfloat16,) if device.has_bfloat16(chosen.type) else ()
    for dtype in dict.fromkeys((chosen.dtype, *native, torch.float16)):
        yield numerics.matrix_products(replace(chosen, dtype=dtype), numerics.LARGE_SHAPES)
    for masked in (False, True):
        yield numerics.attention(chosen, masked, numerics.HEAD_SIZES)
    if backend == "bigdl":  # it has its own weights, and no packing
        return
    yield numerics.slot_attention(chosen)
    if low_bit != "none":
        yield environment.native_library(chosen.type)
        yield from numerics.four_bit(chosen, low_bit)

    yield numerics.packed_pass(chosen, PackingPlan("prefix", "", False, ""))
    if chosen.type == "cpu":
        yield CheckResult("FlexAttention", OK, "not used on a CPU: PACKING is prefix there")
    elif has_triton():
        yield numerics.packed_pass(chosen, PackingPlan("tree", "", False, ""))
    else:
        yield CheckResult("FlexAttention", SLOW, "there is no Triton, so PACKING is prefix", numerics.TRITON)
    if (chosen.type != "cpu" and has_triton()) or compiles:
        yield numerics.packed_pass(chosen, PackingPlan("prefix" if chosen.type == "cpu" else "tree", "", True, ""))
    elif chosen.type == "cpu":
        yield CheckResult("torch.compile", OK, "not used on a CPU: COMPILE is off there unless it is set to on")
    else:
        yield CheckResult("torch.compile", SLOW, "there is no Triton, so COMPILE is off", numerics.TRITON)


@click.command("python -m sqlora.doctor", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.option("--json", "as_json", is_flag=True)
@click.option("--report", "file", type=click.Path(path_type=Path))
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def command(as_json: bool, file: Path | None, flags: tuple[str, ...]) -> int:
    settings = load_settings(list(flags), ABOUT)
    if file:
        outputs.check_outputs_are_ours({}, outputs.File("--report", file, report.REPORT))
    distributed.configure_rank()
    quiet_libraries()
    if not distributed.is_main_process():
        shutdown.leave(int(any(result.status == WRONG for result in take_part(settings))))
    results = []

    def note(result: CheckResult) -> None:
        results.append(result)
        if not as_json:
            _print(result)

    for result in examine(settings):
        note(result)
    for result in report.write_report(file, settings, results) if file else ():
        note(result)
    worst = next(status for status in (WRONG, SLOW, OK) if any(result.status == status for result in results))
    if as_json:
        click.echo(json.dumps({"status": worst, "checks": [asdict(result) for result in results]}, indent=2))
    else:
        counts = Counter(result.status for result in results)
        console.rule(", ".join(f"{counts[status]} {status}" for status in STYLES if counts[status]))
    if distributed.is_distributed():
        shutdown.end(int(worst == WRONG))  # a process that hangs would keep this one
    return int(worst == WRONG)


def _print(result: CheckResult) -> None:
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=5)
    line.add_column(width=27)
    line.add_column()
    line.add_row(Text(result.status, STYLES[result.status]), Text(result.name), plain(result.detail))
    if result.remedy:
        line.add_row("", "", plain(f"remedy: {result.remedy}", STYLES[result.status]))
    console.print(line)


def main(arguments: list[str] | None = None) -> None:
    """The command line; exits with 1 if anything is WRONG, and with 2 for a wrong setting."""
    status = run_command(command, arguments)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
