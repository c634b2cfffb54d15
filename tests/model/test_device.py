"""The choice of a device, with torch's device layer replaced: no XPU is at hand where the tests run."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sqlora.model import device
from sqlora.system.errors import UserError

ROOT = Path(__file__).parents[2]


def pretend(monkeypatch, *kinds, bfloat16=True):
    """A torch that sees these kinds of accelerator."""
    layer = SimpleNamespace(
        is_bf16_supported=lambda including_emulation: bfloat16,
        get_device_name=lambda: "Pretended GPU",
        current_device=lambda: 0,
        max_memory_allocated=lambda: 123,
    )
    monkeypatch.setattr(device, "is_there", lambda kind: kind == "cpu" or kind in kinds)
    monkeypatch.setattr(torch, "get_device_module", lambda kind: layer)


@pytest.mark.parametrize(
    ("there", "chosen", "reason"),
    [
        (("xpu", "cuda"), "xpu", "first of"),
        (("cuda",), "cuda", "no xpu"),
        ((), "cpu", "no xpu and no cuda"),
    ],
)
def test_auto_takes_xpu_then_cuda_then_cpu(monkeypatch, there, chosen, reason):
    pretend(monkeypatch, *there)
    found = device.choose_device("auto", "auto")
    assert found.type == chosen
    assert reason in found.reason
    assert found.torch_device == ("cpu" if chosen == "cpu" else f"{chosen}:0")


def test_a_named_device_is_taken_though_a_preferred_one_is_there(monkeypatch):
    pretend(monkeypatch, "xpu", "cuda")
    assert device.choose_device("cuda", "auto").type == "cuda"
    assert device.choose_device("cpu", "auto").type == "cpu"


def test_a_device_that_is_not_there(monkeypatch):
    pretend(monkeypatch, "cuda")
    with pytest.raises(UserError, match="--device.*xpu.*cuda, cpu"):
        device.choose_device("xpu", "auto")


def test_bfloat16_where_the_device_has_it(monkeypatch):
    pretend(monkeypatch, "xpu", bfloat16=True)
    assert device.choose_device("auto", "auto").dtype == torch.bfloat16
    pretend(monkeypatch, "xpu", bfloat16=False)
    assert device.choose_device("auto", "auto").dtype == torch.float16
    assert device.choose_device("auto", "float32").dtype == torch.float32


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(UserError, match="--dtype"):
        device.choose_device("cpu", "float16")


def test_peak_memory_of_a_device_and_of_this_process(monkeypatch):
    assert 10e6 < device.peak_memory("cpu") < 100e9
    pretend(monkeypatch, "xpu")
    assert device.peak_memory("xpu") == 123


LENGTHS = """
import resource
import torch
from sqlora.model import device

torch.set_num_threads(1)
device.choose_device("cpu", "bfloat16")
layer = torch.nn.Linear(64, 64, dtype=torch.bfloat16)
peaks = []
for length in range(1000, 1300):
    layer(torch.zeros(length, 64, dtype=torch.bfloat16)).float().sum().backward()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[-1] - peaks[99])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
def test_products_of_many_lengths_do_not_fill_the_memory():
    done = subprocess.run([sys.executable, "-c", LENGTHS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20, "MB, for 200 lengths"
