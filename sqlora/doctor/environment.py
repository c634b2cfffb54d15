"""The environment of a run: versions, devices, bitsandbytes' library, the base model, memory and disk."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import config
from sqlora.doctor.result import OK, SLOW, WRONG, CheckResult, failed_check
from sqlora.settings.settings import REQUIREMENTS, Settings
from sqlora.system import distributed
from sqlora.system.errors import UserError, one_line

ROOT = Path(config.__file__).parent
OLDEST_PYTHON = (3, 11)
# A function that only a library made for the device has. Those for GPUs have the CPU's too.
NATIVE = {
    "cpu": "cdequantize_blockwise_cpu_nf4_bf16",
    "xpu": "cgemv_4bit_inference_bf16",
    "cuda": "cdequantize_blockwise_bf16_nf4",
}


def versions(backend: str) -> CheckResult:
    """Python's, the system's, and of BACKEND's packages, with those that are not the pinned ones."""
    file = REQUIREMENTS[backend]
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    wanted = dict(line.split("==") for line in lines if "==" in line)
    installed, missing = [f"Python {platform.python_version()} on {platform.platform(terse=True)}"], []
    for name, version in wanted.items():
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        other = here.partition("+")[0] != version  # 2.13.0+cpu is a build of 2.13.0
        installed.append(f"{name} {here}{f' ({file}: {version})' if other else ''}")
    detail = ", ".join(installed)
    if sys.version_info < OLDEST_PYTHON:
        return CheckResult(
            "versions", WRONG, detail, f"SQLoRA needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer"
        )
    if missing:
        return CheckResult("versions", WRONG, f"{', '.join(missing)} missing; {detail}", f"pip install -r {file}")
    return CheckResult("versions", OK, detail)


def libraries(backend: str) -> CheckResult:
    """Whether the compiled libraries load, which a wrong driver or a missing system library prevents."""
    names = ("torch", "transformers", "peft", *(["bitsandbytes"] if backend == "bitsandbytes" else []))
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken library raises
            remedy = (
                f"pip install -r {REQUIREMENTS[backend]} in a new environment; on Windows install Microsoft's Visual "
                f"C++ "
                f"redistributable too"
            )
            return CheckResult("libraries", WRONG, f"{name} does not load ({one_line(error)})", remedy)
    return CheckResult("libraries", OK, f"{', '.join(names)} load")


def devices() -> Iterator[CheckResult]:
    """Every device that torch sees: its name, its number types and its memory."""
    import torch

    from sqlora.model import device

    gpus = [kind for kind in device.PREFERENCE if kind != "cpu" and device.is_there(kind)]
    for kind in gpus:
        module = torch.get_device_module(kind)
        for number in range(module.device_count()):
            name, about = f"device {kind}:{number}", f"{module.get_device_name(number)}, {_number_types(kind)}"
            try:
                free, total = module.mem_get_info(number)
            except (RuntimeError, AttributeError) as error:  # some drivers of Intel GPUs do not report free memory
                yield CheckResult(
                    name,
                    SLOW,
                    f"{about}; its free memory is unknown ({one_line(error)})",
                    "update the driver; if memory runs out, set MAX_TOKENS_PER_PASS (--max-tokens-per-pass)",
                )
            else:
                yield CheckResult(name, OK, f"{about}; {_gigabytes(free)} of {_gigabytes(total)} free")
    if not gpus:
        built = next((kind for kind in ("xpu", "cuda", "hip") if getattr(torch.version, kind, None)), "the CPU alone")
        yield CheckResult(
            "GPU",
            SLOW,
            f"none that this torch sees ({torch.__version__}, built for {built})",
            "if there is one, install its driver, and for an Intel GPU requirements/xpu.txt",
        )
    yield CheckResult(
        "device cpu",
        OK,
        f"{device.device_name('cpu')}, {_number_types('cpu')}; {_gigabytes(device.free_memory('cpu') or 0)} free",
    )


def native_library(kind: str) -> CheckResult:
    """Whether bitsandbytes runs its own kernels on this kind of device, or a fallback."""
    from bitsandbytes import cextension

    name, lib = "bitsandbytes library", cextension.lib
    remedy = (
        "install the bitsandbytes that requirements.txt names, as a wheel for this system (python -m bitsandbytes "
        "prints what it looks for); LOW_BIT (--low-bit) none does not need it"
    )
    if isinstance(lib, cextension.ErrorHandlerMockBNBNativeLibrary):
        try:
            cextension.get_native_library()
            why = lib.error_msg
        except Exception as error:  # what went wrong when bitsandbytes was imported, which it did not report
            why = one_line(error)
        if kind == "cuda":
            return CheckResult(name, WRONG, f"not loaded ({why}), and CUDA has no fallback", remedy)
        return CheckResult(name, SLOW, f"not loaded ({why}); a fallback is in use", remedy)
    file = Path(lib._lib._name).name
    if not hasattr(lib._lib, NATIVE[kind]):
        return CheckResult(name, SLOW, f"{file}, which is not for {kind}; a fallback is in use", remedy)
    return CheckResult(name, OK, file)


def base_model(name: str, scratch: Path) -> tuple[CheckResult, Path | None]:
    """Whether BASE_MODEL can be had, and the folder of its configuration, or None.

    No weights are downloaded; of a model that is on the hub alone config.json goes to `scratch`.
    """
    from sqlora.model import base_models

    try:
        folder = _cached(name)
        where = "in the hub's cache" if folder else "a folder"
        if not folder and (Path(name).exists() or name.count("/") > 1 or name[0] in "./~\\"):
            folder = base_models.find_base_model(name).folder
    except UserError as error:
        return failed_check("base model", error), None
    if not folder:
        result = _on_the_hub(name, scratch)
        return result, scratch if result.status == OK else None
    if missing := _missing_weights(folder):
        return CheckResult(
            "base model", WRONG, f"{name} is {where} that lacks {missing}", "copy or download it again"
        ), folder
    return CheckResult("base model", OK, f"{name}, {where}"), folder


def _cached(name: str) -> Path | None:
    """The whole snapshot of a hub's model, if it is here."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub import utils as errors

    try:
        config_file = None if Path(name).exists() else try_to_load_from_cache(name, "config.json")
    except errors.HFValidationError:  # no name that the hub could have
        return None
    folder = Path(config_file).parent if isinstance(config_file, str) else None
    return None if folder is None or _missing_weights(folder) else folder


def _on_the_hub(name: str, scratch: Path) -> CheckResult:
    from huggingface_hub import hf_hub_download
    from huggingface_hub import utils as errors

    from sqlora.storage import download, hub

    try:
        if hub.list_files("model", name) is not None:
            hf_hub_download(name, "config.json", local_dir=scratch)
            return CheckResult("base model", OK, f"{name}, on the hub, which is in reach; finetune.py downloads it")
    except errors.GatedRepoError:
        return CheckResult(
            "base model", WRONG, f"{name} is gated", "accept its terms on its page, and log in with hf auth login"
        )
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        return CheckResult(
            "base model",
            WRONG,
            f"{name} is neither a folder nor a public model on the hub",
            "correct BASE_MODEL (--base-model), or log in with hf auth login if it is private",
        )
    except errors.LocalEntryNotFoundError:
        pass  # as where the hub does not answer at all
    except errors.EntryNotFoundError:
        return CheckResult("base model", WRONG, f"{name} has no config.json", "name a transformers model")
    except download.network_errors():
        pass
    return CheckResult(
        "base model", WRONG, f"{name} is not wholly in the cache, and the hub is out of reach", hub.WAYS_OUT
    )


def _missing_weights(folder: Path) -> str:
    """The first file of weights that is not there, or an index of them that cannot be read, or nothing."""
    from sqlora.model import base_models

    for index in (*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")):
        try:
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return f"a readable {index.name}"
        for file in map(str, files):
            if not (folder / file).is_file():
                return file
    return (
        "" if any(path.is_file() for pattern in base_models.WEIGHTS for path in folder.glob(pattern)) else "its weights"
    )


def fits(folder: Path, settings: Settings, device) -> CheckResult:
    """Whether the least that training needs, a pass of one row of MAX_LENGTH tokens, fits into the memory that is free.

    `folder` holds the base model's configuration at least.
    """
    from sqlora.data.tokenise import Tokenised
    from sqlora.model import base_models, loading
    from sqlora.model.device import free_memory
    from sqlora.training import memory_estimate
    from sqlora.training.packing import plan

    base = base_models.BaseModel(folder, settings.BASE_MODEL, None, "")
    try:
        packing = plan.choose_plan(loading.check_causal(base, settings.MAX_LENGTH), settings, device)
        ids = list(range(settings.MAX_LENGTH))
        rows = Tokenised([{"input_ids": ids, "labels": ids}] * distributed.rank_info().world, 0)
        free = free_memory(device.type)
        asked = replace(device, memory=free or 0)  # as of a device elsewhere, whose speed is not measured
        need = memory_estimate.estimate(base, rows, settings, asked, packing).peak_bytes
    except UserError as error:
        return failed_check("memory", error)
    if free is None:
        return CheckResult(
            "memory", SLOW, f"at least {_gigabytes(need)} needed, and what is free is unknown", "update the driver"
        )
    detail = f"at least {_gigabytes(need)} needed for {settings.BASE_MODEL}, by estimate, and {_gigabytes(free)} free"
    if need <= free:
        return CheckResult("memory", OK, detail)
    return CheckResult(
        "memory",
        WRONG,
        detail,
        "end what else holds the memory, set LOW_BIT (--low-bit) to nf4, turn "
        "GRADIENT_CHECKPOINTING on, lower MAX_LENGTH (--max-length), or take a smaller model",
    )


def disk(folder: Path | None, settings: Settings) -> CheckResult:
    """Whether checkpoints may and can be written to CHECKPOINT_DIR, and fit there if the base model is known."""
    from sqlora.model import base_models
    from sqlora.storage import outputs
    from sqlora.training import memory_estimate, run_folder

    target = Path(settings.CHECKPOINT_DIR).absolute()
    there = next(path for path in (target, *target.parents) if path.exists())
    try:
        run_folder.run_output(settings).check()
        outputs.check_writable(there, "CHECKPOINT_DIR (--checkpoint-dir)")
        if folder:
            model = memory_estimate.without_weights(
                base_models.BaseModel(folder, settings.BASE_MODEL, None, ""), settings
            )
            run_folder.check_space(model, str(there), settings.SAVE_TOTAL_LIMIT)
    except UserError as error:
        return failed_check("disk", error)
    return CheckResult("disk", OK, f"{_gigabytes(shutil.disk_usage(there).free)} free for {settings.CHECKPOINT_DIR}")


def _number_types(kind: str) -> str:
    from sqlora.model import device

    return "bfloat16" if device.has_bfloat16(kind) else "no native bfloat16"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
