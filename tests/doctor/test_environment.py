"""What the doctor finds on a machine: a fallback library, a driver that does not tell its memory, a model that is not
there.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import bitsandbytes.cextension
import patience
import pytest
import torch
from hub_server import HubServer

from sqlora.doctor import environment as machine
from sqlora.doctor.result import OK, SLOW, WRONG
from sqlora.model import device

ROOT = Path(__file__).parents[2]
CPU = device.choose_device("cpu", "float32")
LOOK = """
import sys
from pathlib import Path
from sqlora.doctor import environment
result, folder = environment.base_model(sys.argv[1], Path(sys.argv[2]))
names = folder and sorted(path.name for path in folder.glob("*.json"))
print(result.status, result.detail, result.remedy, names, sep="|")
"""


def test_versions_are_those_that_are_installed():
    found = machine.versions("bitsandbytes")
    assert found.status == OK
    assert f"torch {torch.__version__}" in found.detail
    assert "requirements.txt:" not in found.detail


@pytest.mark.parametrize("missing", ["torch", "peft"])
def test_a_package_that_is_missing_or_another_version(monkeypatch, missing):
    right = metadata.version

    def version(name):
        if name == missing:
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "click" else right(name)

    monkeypatch.setattr(metadata, "version", version)
    found = machine.versions("bitsandbytes")
    assert (found.status, found.remedy) == (WRONG, "pip install -r requirements.txt")
    assert found.detail.startswith(f"{missing} missing")
    assert "click 0.1 (requirements.txt: " in found.detail


def test_a_library_that_does_not_load(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    found = machine.libraries("bitsandbytes")
    assert (found.status, bool(found.remedy)) == (WRONG, True)
    assert found.detail.startswith("bitsandbytes does not load (ModuleNotFoundError")


def fails(*_):
    raise RuntimeError("The device does not provide the ext_intel_free_memory aspect\nat somewhere")


@pytest.mark.parametrize(
    ("mem_get_info", "status", "message"),
    [
        (lambda number: (15_000_000_000, 16_000_000_000), OK, "Pretended GPU, bfloat16; 15.0 GB of 16.0 GB free"),
        (
            fails,
            SLOW,
            "its free memory is unknown (RuntimeError: The device does not provide the ext_intel_free_memory aspect)",
        ),
    ],
)
def test_a_gpu_and_one_whose_driver_does_not_report_its_free_memory(monkeypatch, mem_get_info, status, message):
    layer = SimpleNamespace(
        device_count=lambda: 1,
        get_device_name=lambda number=0: "Pretended GPU",
        mem_get_info=mem_get_info,
        is_bf16_supported=lambda including_emulation: True,
    )
    monkeypatch.setattr(device, "is_there", lambda kind: kind in ("xpu", "cpu"))
    monkeypatch.setattr(torch, "get_device_module", lambda kind: layer)
    xpu, cpu = machine.devices()
    assert (xpu.name, xpu.status, bool(xpu.remedy)) == ("device xpu:0", status, status == SLOW)
    assert message in xpu.detail
    assert (cpu.name, cpu.status) == ("device cpu", OK)


def test_no_gpu_is_slow(monkeypatch):
    monkeypatch.setattr(device, "is_there", lambda kind: kind == "cpu")
    none, cpu = machine.devices()
    assert (none.status, cpu.status) == (SLOW, OK)
    assert torch.__version__ in none.detail
    assert "requirements/xpu.txt" in none.remedy


def test_the_library_of_bitsandbytes(monkeypatch):
    found = machine.native_library("cpu")
    assert (found.status, found.detail.partition("_")[0]) == (OK, "libbitsandbytes")
    if not (torch.cuda.is_available() or torch.xpu.is_available()):
        found = machine.native_library("xpu")
        assert (found.status, "which is not for xpu" in found.detail) == (SLOW, True)


def test_a_fallback_of_bitsandbytes_and_why(monkeypatch, tmp_path):
    cextension = bitsandbytes.cextension
    monkeypatch.setattr(
        cextension, "lib", cextension.ErrorHandlerMockBNBNativeLibrary("XPU/CPU can run without native library.")
    )
    monkeypatch.setattr(cextension, "PACKAGE_DIR", tmp_path)  # where no library is
    found = machine.native_library("cpu")
    assert (found.status, bool(found.remedy)) == (SLOW, True)
    assert str(tmp_path) in found.detail
    assert "fallback is in use" in found.detail
    assert machine.native_library("cuda").status == WRONG


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("nothing", ""),
        ("no weights", "its weights"),
        ("no shard", "pytorch_model-00002-of-00002.bin"),
        ("no config", "no config.json"),
        ("nowhere", "no such folder"),
        ("a file", "a file"),
    ],
)
def test_a_folder_with_the_base_model(openllama_folder, tmp_path, damage, named):
    folder = shutil.copytree(openllama_folder, tmp_path / "model")
    if damage == "no weights":
        for path in folder.glob("*.bin*"):
            path.unlink()
    elif damage == "no shard":
        (folder / named).unlink()
    elif damage == "no config":
        (folder / "config.json").unlink()
    elif damage == "nowhere":
        folder = tmp_path / "elsewhere"
    elif damage == "a file":
        folder = folder / "config.json"
    found, _ = machine.base_model(str(folder), tmp_path)
    assert (found.status, bool(found.remedy)) == ((OK, False) if damage == "nothing" else (WRONG, True))
    assert named in found.detail


def test_a_base_model_on_the_hub_in_its_cache_or_out_of_reach(tmp_path, llama_folder):
    shutil.copytree(llama_folder, tmp_path / "hub" / "models" / "owner" / "llama")
    shutil.copytree(llama_folder, tmp_path / "hub" / "models" / "owner" / "gated")

    def look(name):
        scratch = tempfile.mkdtemp(dir=tmp_path)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        clean |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-c", LOOK, name, scratch],
            cwd=ROOT,
            env=clean,
            capture_output=True,
            text=True,
            timeout=patience.SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with HubServer(tmp_path / "hub") as hub:
        hub.gated = {"owner/gated"}
        assert (
            look("owner/llama")
            == "ok|owner/llama, on the hub, which is in reach; finetune.py downloads it||['config.json']"
        )
        assert not list((tmp_path / "cache").rglob("*.safetensors"))
        assert look("owner/nonesuch").startswith("WRONG|owner/nonesuch is neither a folder nor a public model")
        assert look("owner/gated").startswith("WRONG|owner/gated is gated|accept its terms")
        fetch = f"from sqlora.model import base_models; base_models.find_base_model({'owner/llama'!r})"
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
        subprocess.run([sys.executable, "-c", fetch], cwd=ROOT, env=environment, check=True, timeout=patience.SECONDS)
    assert look("owner/llama").startswith("ok|owner/llama, in the hub's cache||")
    assert look("owner/other").startswith(
        "WRONG|owner/other is not wholly in the cache, and the hub is out of reach|check"
    )
    (weights,) = (tmp_path / "cache").rglob("snapshots/*/model.safetensors")
    weights.unlink()
    assert look("owner/llama").startswith("WRONG|owner/llama is not wholly in the cache")


def test_whether_the_model_fits_into_the_memory(monkeypatch, llama_folder, make_settings):
    settings = make_settings("--base-model", str(llama_folder))
    assert machine.fits(llama_folder, settings, CPU).status == OK
    monkeypatch.setattr(device, "free_memory", lambda kind: 10_000_000)
    found = machine.fits(llama_folder, settings, CPU)
    assert (found.status, "LOW_BIT" in found.remedy) == (WRONG, True)
    assert "0.0 GB free" in found.detail
    monkeypatch.setattr(device, "free_memory", lambda kind: None)
    assert machine.fits(llama_folder, settings, CPU).status == SLOW


@pytest.mark.parametrize(
    ("flags", "message"),
    [(("--lora-targets", "query"), "query"), (("--max-length", "5000"), "--max-length"), (("--packing", "tree"), "")],
)
def test_a_setting_that_the_model_cannot_have(llama_folder, make_settings, flags, message):
    found = machine.fits(llama_folder, make_settings("--base-model", str(llama_folder), *flags), CPU)
    assert (found.status, bool(found.remedy)) == ((WRONG, True) if message else (OK, False))
    assert message in found.detail


def test_the_disk_of_the_checkpoints(monkeypatch, llama_folder, make_settings, tmp_path):
    settings = make_settings("--checkpoint-dir", str(tmp_path / "not" / "there" / "yet"))
    assert machine.disk(llama_folder, settings).status == OK
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").write_text("")
    found = machine.disk(None, make_settings("--checkpoint-dir", str(tmp_path / "file" / "run")))
    assert (found.status, "another folder" in found.remedy) == (WRONG, True)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("x")
    found = machine.disk(None, make_settings("--checkpoint-dir", str(tmp_path / "theirs")))
    assert (found.status, "thesis.txt" in found.detail, "new or empty" in found.remedy) == (WRONG, True, True)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10, 9, 1))
    found = machine.disk(llama_folder, settings)
    assert (found.status, "free some space" in found.remedy) == (WRONG, True)


def test_a_broken_index_of_weights_is_reported(tmp_path, llama_folder):
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    )
    found, _ = machine.base_model(str(folder), tmp_path)
    assert (found.status, "lacks model-00001-of-00002.safetensors" in found.detail) == (WRONG, True)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"weight_map": 5}'])
def test_an_index_of_weights_that_is_none_is_reported(tmp_path, llama_folder, content):
    folder = shutil.copytree(llama_folder, tmp_path / "base")
    (folder / "model.safetensors.index.json").write_text(content)
    found, _ = machine.base_model(str(folder), tmp_path)
    assert (found.status, "a readable model.safetensors.index.json" in found.detail) == (WRONG, True)
