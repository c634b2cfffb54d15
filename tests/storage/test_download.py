"""Downloads that drop, stall, and come short or changed, from a local hub by huggingface_hub's own client: whole or
refused.
"""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import repeat
from pathlib import Path

import patience
import pytest
from hub_server import API_FAULTS, Fault, HubServer

ROOT = Path(__file__).parents[2]
ROWS = [
    {"question": f"How many {i}?", "context": f"CREATE TABLE t{i} (a INT)", "answer": f"SELECT {i}"} for i in range(99)
]
CLIENT = """
import sys
from sqlora.system.errors import exit_on_user_error
from sqlora.data import dataset
from sqlora.model import base_models
with exit_on_user_error():
    if sys.argv[1] == "model":
        print(base_models.find_base_model("owner/model").folder)
    else:
        print(len(dataset.load_rows("owner/rows", "DATA_PATH (--data-path)")))
"""
STALLED = """
from huggingface_hub import get_session
from sqlora.storage import download
download.limit_waits()
get_session().get("{url}/api/models/owner/model", timeout=None)
"""


@pytest.fixture
def hub(tmp_path):
    model, rows = tmp_path / "hub" / "models" / "owner" / "model", tmp_path / "hub" / "datasets" / "owner" / "rows"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (model / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    rows.mkdir(parents=True)
    (rows / "rows.json").write_text(json.dumps(ROWS))
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def start(hub, tmp_path):
    """Starts a process that loads owner/model or owner/rows."""
    started = []

    def start(kind, script=CLIENT, **environment):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        clean |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_VERBOSITY": "error",
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        } | environment
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", script, kind],
                cwd=ROOT,
                env=clean,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def whole(process, kind, hub):
    """Waits for a process; whether it ended well, with what the hub has."""
    out, err = process.communicate(timeout=patience.SECONDS)
    assert process.returncode == 0, err
    if kind == "dataset":
        return out.splitlines()[-1] == str(len(ROWS))
    return {file.name: file.read_bytes() for file in Path(out.splitlines()[-1]).iterdir()} == {
        file.name: file.read_bytes() for file in (hub.root / "models" / "owner" / "model").iterdir()
    }


def refusal(process):
    """Waits for a process; the one line in which it refuses."""
    _, err = process.communicate(timeout=patience.SECONDS)
    assert process.returncode == 2, err
    assert len(err.splitlines()) == 1, err
    return err


def contents(tmp_path):
    """What the hub's cache has as the content of files."""
    return [file.read_bytes() for file in (tmp_path / "cache" / "hub").glob("*/blobs/*")]


@pytest.mark.parametrize("faults", [["drop", "truncate", "corrupt"], ["stall", "reset", "page"]])
def test_what_comes_wrong_is_fetched_again(hub, start, faults):
    for name in ("config.json", "model.safetensors", "rows.json"):
        hub.faults[name] = iter([Fault(fault, 20) for fault in faults])
    model, rows = start("model"), start("dataset")
    assert whole(model, "model", hub)
    assert whole(rows, "dataset", hub)
    assert not any(next(left, None) for left in hub.faults.values())


def test_what_comes_wrong_again_and_again_is_refused_and_not_kept(hub, start, tmp_path):
    hub.faults = {"model.safetensors": repeat(Fault("corrupt", 20)), "rows.json": repeat(Fault("truncate", 20))}
    model, rows = start("model"), start("dataset")
    for process, words in ((model, ["--base-model", "model.safetensors"]), (rows, ["--data-path", "rows.json"])):
        message = refusal(process)
        assert all(word in message for word in [*words, "local folder"]), message
    assert contents(tmp_path) == [(hub.root / "models" / "owner" / "model" / "config.json").read_bytes()]
    hub.faults.clear()
    model, rows = start("model"), start("dataset")
    assert whole(model, "model", hub)
    assert whole(rows, "dataset", hub)


def test_a_server_that_stalls_ends_in_bounded_time(hub, start):
    hub.faults = {name: repeat(Fault("stall", 20)) for name in ("model.safetensors", "rows.json")}
    began = time.monotonic()
    assert "the hub cannot be reached (ReadTimeout)" in refusal(start("model"))
    assert time.monotonic() - began < 120  # six waits of a second and what lies between them


def test_no_request_waits_for_ever(hub, start):
    hub.faults[API_FAULTS] = repeat(Fault("stall"))
    _, err = start("", STALLED.format(url=hub.url)).communicate(timeout=patience.SECONDS)
    assert "ReadTimeout" in err


@pytest.mark.parametrize("fault", ["page", "error"])
def test_what_answers_otherwise_is_no_hub(hub, start, fault):
    hub.faults[API_FAULTS] = repeat(Fault(fault))
    for message in map(refusal, [start("model"), start("dataset")]):
        assert "the hub cannot be reached" in message


def test_a_download_that_is_killed_starts_again(hub, start, tmp_path):
    hub.faults = {name: iter([Fault("stall", 20)]) for name in ("model.safetensors", "rows.json")}
    kinds = {"model": "models--owner--model", "dataset": "datasets--owner--rows"}
    for kind, folder in kinds.items():
        process = start(kind, HF_HUB_DOWNLOAD_TIMEOUT="60")
        cache = tmp_path / "cache" / "hub" / folder / "blobs"
        while not list(cache.glob("*.incomplete")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for part in cache.glob("*.incomplete"):
            os.utime(part, (0, 0))  # nobody has written to it for long
        assert whole(start(kind), kind, hub)
        assert not list(cache.glob("*.incomplete"))


@pytest.mark.parametrize("links", [True, False])
def test_a_damaged_cache_is_repaired_or_refused(hub, start, tmp_path, links):
    environment = {} if links else {"HF_HUB_DISABLE_SYMLINKS": "1"}
    assert whole(start("model", **environment), "model", hub)
    (weights,) = (tmp_path / "cache").rglob("snapshots/*/model.safetensors")
    assert weights.is_symlink() == links
    weights.resolve().write_bytes(bytes(256_000))
    assert whole(start("model", **environment), "model", hub)
    if links:  # without them the hash is the hub's to tell
        weights.resolve().write_bytes(bytes(256_000))
        hub.stop()
        assert "model.safetensors: the content is not" in refusal(start("model"))
        assert bytes(256_000) not in contents(tmp_path)
