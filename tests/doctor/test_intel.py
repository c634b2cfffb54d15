"""Faults that others have reported of Intel GPUs: found where they are, and only there."""

from dataclasses import replace
from importlib import metadata

import pytest
from packaging.version import Version

from sqlora.doctor import intel
from sqlora.doctor.result import OK, WRONG

B60 = intel.Machine("Intel(R) Arc(TM) Pro B60 Graphics", Version("2022.0.0"), {}, 2, False)
B70 = replace(B60, cards="Intel(R) Arc(TM) Pro B70 Graphics", sharded=True)


@pytest.mark.parametrize(
    ("machine", "remedy"),
    [
        (B60, "CCL_ALLREDUCE=ring"),
        (replace(B60, oneccl=Version("2022.1.1")), "CCL_ALLREDUCE=ring"),
        (replace(B60, oneccl=Version("2021.17.2")), ""),
        (replace(B60, variables={"CCL_ALLREDUCE": "ring"}), ""),
        (replace(B60, processes=1), ""),
        (replace(B60, cards="Intel(R) Data Center GPU Max 1100"), ""),
        (B70, "CCL_ZE_IPC_EXCHANGE=sockets"),
        (replace(B70, sharded=False), ""),
        (replace(B70, variables={"CCL_ZE_IPC_EXCHANGE": "sockets"}), ""),
    ],
)
def test_what_is_known_of_a_card(machine, remedy):
    found = intel.faults_of(machine)
    assert [result.status for result in found] == [WRONG] * bool(remedy)
    for result in found:
        assert remedy in result.remedy
        assert "github.com" in result.detail


@pytest.mark.parametrize(
    ("here", "detail"),
    [
        ("2026.0.0", ""),
        ("2025.3.1", "intel-sycl-rt 2025.3.1, and torch needs 2026.0.0"),
        (None, "intel-sycl-rt missing, and torch needs 2026.0.0"),
    ],
)
def test_libraries_that_are_not_those_of_torch(monkeypatch, here, detail):
    def version(name):
        if here is None:
            raise metadata.PackageNotFoundError(name)
        return here

    needs = ["sympy>=1.13", "intel-sycl-rt==2026.0.0", 'oneccl==2022.0.0; platform_system == "None"']
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    monkeypatch.setattr(metadata, "version", version)
    found = intel.one_api()
    assert (found.status, bool(found.remedy)) == ((WRONG, True) if detail else (OK, False))
    assert detail in found.detail
