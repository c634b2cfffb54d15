"""The hub's list of files, from a real server, and the hash of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer

from sqlora.storage import hub

LIST = "import json, sys; from sqlora.storage import hub; print(json.dumps(hub.list_files(*sys.argv[1:])))"


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "hub" / "models" / "owner" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with HubServer(tmp_path / "hub") as server:
        yield server


def list_files(server, *arguments):
    # A process of its own: huggingface_hub reads the address once.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", LIST, *arguments],
        capture_output=True,
        text=True,
        env=clean | {"HF_ENDPOINT": server.url, "HF_HOME": str(server.root.parent / "cache")},
        cwd=Path(hub.__file__).parents[2],
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_a_repositorys_files(served):
    assert list_files(served, "model", "owner/model") == ["config.json"]


def test_a_repository_that_is_not_there(served):
    assert "RepositoryNotFoundError" in list_files(served, "model", "owner/other")


def test_a_hub_that_cannot_be_reached(served):
    served.stop()
    assert list_files(served, "model", "owner/model") is None


def test_a_hash_changes_with_name_size_beginning_and_end(tmp_path):
    def hash_of(name, content, more=b""):
        file = tmp_path / name
        file.write_bytes(content)
        return hub.files_hash([file], more)

    middle = bytes(200_000)
    first = hash_of("a", b"x" + middle + b"y")
    assert len(first) == 16
    assert first == hash_of("a", b"x" + middle + b"y")
    others = [
        hash_of("b", b"x" + middle + b"y"),
        hash_of("a", b"x" + middle + b"0y"),
        hash_of("a", b"z" + middle + b"y"),
        hash_of("a", b"x" + middle + b"z"),
        hash_of("a", b"x" + middle + b"y", b"more"),
    ]
    assert len({first, *others}) == 6
