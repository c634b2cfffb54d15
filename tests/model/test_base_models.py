"""The download path, for real: a local server that answers as the hub does, asked by processes of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import hub_server
import patience
import pytest
from hub_server import Fault, HubServer

ROOT = Path(__file__).parents[2]
ROWS = [
    {"question": f"How many {i}?", "context": f"CREATE TABLE t{i} (a INT)", "answer": f"SELECT {i}"} for i in range(8)
]
FIND = """
import sys
from sqlora.system.console import quiet_libraries
quiet_libraries()
from sqlora.system.errors import exit_on_user_error
from sqlora.data import dataset
from sqlora.model import base_models
with exit_on_user_error():
    if sys.argv[1] in ("model", "tokenizer", "shape"):
        base = base_models.find_base_model(sys.argv[2], weights=sys.argv[1] != "shape")
        if sys.argv[1] == "tokenizer":  # which takes torch, and seconds to import it
            from sqlora.model import loading
            loading.check_causal(base)
            loading.load_tokenizer(base)
        print(base.id, base.revision, base.content, sorted(path.name for path in base.folder.iterdir()), sep="|")
    elif sys.argv[1] == "stream":
        from sqlora.data import streaming
        source = streaming.Source(sys.argv[2], 0, 4000)
        print(len(source.first_rows()), source.files)
    else:
        print(len(dataset.load_rows(sys.argv[2], "DATA_PATH (--data-path)")))
"""


@pytest.fixture
def hub(tmp_path, llama_folder, openllama_folder):
    models, datasets = tmp_path / "hub" / "models" / "owner", tmp_path / "hub" / "datasets" / "owner"
    shutil.copytree(llama_folder, models / "llama")
    (models / "llama" / "pytorch_model.bin").write_bytes(b"the same again, for old clients")
    (models / "llama" / "original").mkdir()
    (models / "llama" / "original" / "consolidated.safetensors").write_bytes(b"the same in another layout")
    shutil.copytree(openllama_folder, models / "openllama")
    (datasets / "rows").mkdir(parents=True)
    (datasets / "rows" / "rows.json").write_text(json.dumps(ROWS))
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def ask(hub, tmp_path):
    def ask(kind, name, **environment):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        clean |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        } | environment
        return subprocess.run(
            [sys.executable, "-c", FIND, kind, name],
            cwd=ROOT,
            env=clean,
            capture_output=True,
            text=True,
            timeout=patience.SECONDS,
        )

    return ask


def fetched(hub, name):
    """Requests for a file's content, at the host that has it."""
    return [
        request
        for request in hub.requests
        if request.method == "GET"
        and request.path.endswith(f"/{name}")
        and (request.path.startswith("/lfs/") or not name.endswith(hub_server.LFS))
    ]


def test_a_model_is_downloaded_once_and_then_found_without_the_hub(hub, ask, llama_folder):
    first = ask("tokenizer", "owner/llama")
    assert first.returncode == 0, first.stderr
    name, revision, _, files = first.stdout.strip().split("|")
    assert (name, len(revision)) == ("owner/llama", 40)
    assert "pytorch_model.bin" not in files
    assert not any("original" in request.path or "pytorch_model.bin" in request.path for request in hub.requests)
    hub.stop()
    assert ask("tokenizer", "owner/llama").stdout == first.stdout


def test_a_model_without_safetensors_comes_as_bin(ask):
    done = ask("model", "owner/openllama")
    assert "pytorch_model-00001-of-00002.bin" in done.stdout, done.stderr
    assert "tokenizer.model" in done.stdout


def test_a_shape_comes_without_weights(ask):
    for name in ("owner/llama", "owner/openllama"):
        done = ask("shape", name)
        assert "config.json" in done.stdout, done.stderr
        assert "tokenizer" in done.stdout
        assert not any(weights in done.stdout for weights in (".bin'", ".safetensors'"))


def test_a_connection_that_drops_in_mid_file_is_taken_up_again(hub, ask, llama_folder, tmp_path):
    hub.faults["model.safetensors"] = iter([Fault("drop", 1000)])
    done = ask("model", "owner/llama")
    assert done.returncode == 0, done.stderr
    assert len(fetched(hub, "model.safetensors")) == 2
    (cached,) = (tmp_path / "cache").rglob("snapshots/*/model.safetensors")
    assert cached.read_bytes() == (llama_folder / "model.safetensors").read_bytes()


def test_a_dataset_is_downloaded_once_and_then_found_without_the_hub(hub, ask):
    first = ask("dataset", "owner/rows")
    assert first.stdout.strip() == "8", first.stderr
    hub.stop()
    assert ask("dataset", "owner/rows").stdout.strip() == "8"


def test_a_dataset_is_streamed_and_not_kept(hub, ask, tmp_path):
    done = ask("stream", "owner/rows")
    assert done.stdout.startswith("8 ['hf://datasets/owner/rows@"), done.stderr
    assert not list((tmp_path / "cache").rglob("rows.json"))
    hub.stop()
    done = ask("stream", "owner/rows")
    assert done.returncode == 2
    assert "the hub cannot be reached" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("kind", "flag"), [("model", "--base-model"), ("dataset", "--data-path")])
def test_a_name_that_the_hub_does_not_know(ask, kind, flag):
    done = ask(kind, "owner/nonesuch")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert flag in done.stderr
    assert "owner/nonesuch" in done.stderr


@pytest.mark.parametrize(("kind", "name"), [("model", "owner/llama"), ("dataset", "owner/rows")])
@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_out_of_reach_names_the_ways_out(hub, ask, kind, name, environment):
    hub.stop()
    done = ask(kind, name, **environment)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(way in done.stderr for way in ("the hub cannot be reached", "local folder", "HF_HOME", "--preset tiny"))
