"""Fixtures: the tiny models of snapshots.py, and settings whose outputs go to the test's own folder."""

import os
import signal
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported; the hub's tests run in processes of their own
# Before torch is: on a busy machine, threads that spin while they wait for one another take a hundred times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are so small that more threads only wait for each other

from sqlora.system.console import quiet_libraries

quiet_libraries()

import scholar  # noqa: E402
import servers  # noqa: E402
import snapshots  # noqa: E402

from sqlora.settings.command_line import load_settings  # noqa: E402

# Where the tests' parent ignores them, as nohup does, what the tests start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _folder_fixture(kind: str):
    @pytest.fixture(scope="session", name=f"{kind}_folder")
    def folder(tmp_path_factory):
        return snapshots.MAKERS[kind](tmp_path_factory.mktemp(kind))

    return folder


for _kind in snapshots.MAKERS:
    globals()[f"{_kind}_folder"] = _folder_fixture(_kind)


@pytest.fixture(scope="session")
def llama_tokenizer(llama_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(llama_folder)


@pytest.fixture
def make_settings(tmp_path):
    """Settings from flags, small, on the CPU, with their outputs in the test's own folder."""

    def make(*flags, trains=True):
        small = [
            "--device",
            "cpu",
            "--dtype",
            "float32",
            "--no-gradient-checkpointing",
            "--batch-size",
            "4",
            "--max-new-tokens",
            "12",
            "--gradient-accumulation-steps",
            "1",
            "--best-by",
            "loss",
            "--constrain",
            "off",
            "--checkpoint-dir",
            str(tmp_path / "lora_models"),
            "--model-path",
            str(tmp_path / "saved_model"),
        ]
        return load_settings([*small, *flags], "", trains=trains)

    return make


@pytest.fixture(scope="session")
def scholar_folder(llama_folder, tmp_path_factory):
    """A model that answers the questions of scholar.py."""
    return scholar.teach(llama_folder, scholar.learned(), tmp_path_factory.mktemp("scholar"))


def _server_fixture(kind: str):
    @pytest.fixture(scope="session", name=f"{kind}_server")
    def server():
        with servers.started(kind) as server:
            yield server

    return server


for _kind in servers.MAKERS:
    globals()[f"{_kind}_server"] = _server_fixture(_kind)


@pytest.fixture(scope="session", params=list(servers.MAKERS))
def server(request):
    """Every kind of database in turn, with the same tables; see servers.py."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture(scope="module")
def live(server):
    """An open connection to each kind of database."""
    from sqlora.databases.live import LiveDatabase

    with LiveDatabase(server.reader, 10) as live:
        yield live


@pytest.fixture
def make_trainer(llama_folder, llama_tokenizer, make_settings):
    """A Trainer of the tiny Llama from flags; its fingerprint has only what a checkpoint needs to be whole."""

    def make(*flags, scorer=None):
        from small_data import tokenised

        from sqlora.model import base_models, device, loading
        from sqlora.training import sql_trainer
        from sqlora.training.packing import plan

        settings, cpu = make_settings(*flags), device.choose_device("cpu", "float32")
        Path(settings.CHECKPOINT_DIR).mkdir(parents=True, exist_ok=True)
        base = base_models.find_base_model(str(llama_folder))
        model = loading.wrap_with_adapter(loading.load_base(base, settings.LOW_BIT, cpu, training=True), settings)
        packing = plan.choose_plan(model.config, settings, cpu)
        plan.prepare_model(model, packing, cpu)
        fingerprint = {"base_model": {}, "prompt": "", "tokenizer": ""}
        return sql_trainer.SqlTrainer(
            model, settings, cpu, base, fingerprint, tokenised(llama_tokenizer, settings), packing, scorer
        )

    return make


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """The flags of a short fine-tuning of the demo's model, whose adapter writes SQL; TEST_DATA has eight questions."""
    import finetune

    demo, folder = Path(__file__).parent.parent / "demo", tmp_path_factory.mktemp("demo_run")
    for name, count in (("train", 240), ("test", 8)):
        lines = (demo / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    flags = [
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--data-path",
        str(folder / "train.jsonl"),
        "--test-data",
        str(folder / "test.jsonl"),
        "--checkpoint-dir",
        str(folder / "lora"),
        "--no-evaluate",
        "--model-path",
        str(folder / "adapter"),
        "--max-steps",
        "8",
        "--eval-steps",
        "8",
        "--save-steps",
        "8",
        "--warmup-steps",
        "2",
        "--batch-size",
        "12",
        "--validation-rows",
        "24",
    ]
    finetune.main(load_settings(flags, ""))
    return flags
