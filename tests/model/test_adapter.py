"""Adapters on disk: whole or not found, checked against what they belong to, and never half replaced."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sqlora.model import adapter, base_models, device, loading
from sqlora.storage import atomic, checkpoints
from sqlora.system.errors import UserError

CPU = device.choose_device("cpu", "float32")


@pytest.fixture(scope="module")
def base(llama_folder):
    return base_models.find_base_model(str(llama_folder))


@pytest.fixture
def save(base, llama_tokenizer, make_settings):
    """Saves a fresh adapter for the tiny Llama into a folder, and returns the model."""

    def save(folder, *flags, seed=0):
        settings = make_settings("--low-bit", "none", *flags)
        torch.manual_seed(seed)
        model = loading.wrap_with_adapter(loading.load_base(base, settings.LOW_BIT, CPU, training=True), settings)
        fingerprint = adapter.make_fingerprint(base, llama_tokenizer, settings, {})
        with atomic.replacing(Path(folder), last=checkpoints.FINGERPRINT) as partial:
            adapter.write_adapter(model, partial, base)
            checkpoints.seal(partial, fingerprint, "finished", {})
        return model

    return save


def load(base, folder, make_settings):
    model = loading.load_base(base, "none", CPU, training=False)
    return adapter.load_adapter(model, Path(folder))


def test_what_is_saved_comes_back(base, save, llama_tokenizer, make_settings, tmp_path):
    model = save(tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "adapter_config.json",
        checkpoints.WEIGHTS,
        "sqlora.json",
    }
    fingerprint = adapter.check_adapter(tmp_path / "a", base, llama_tokenizer, "question_first")
    assert fingerprint["base_model"] == {"id": base.id, "revision": None, "content": base.content}
    assert fingerprint["settings"] == make_settings("--low-bit", "none").as_dict()
    assert fingerprint["versions"]["torch"] == torch.__version__
    back = load(base, tmp_path / "a", make_settings).state_dict()
    lora = [name for name in back if "lora" in name]
    assert lora
    assert all(torch.equal(back[name], model.state_dict()[name]) for name in lora)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"base_model": {"id": "other/model", "revision": "abc", "content": "0"}},
            ["another base", "other/model", "--base-model"],
        ),
        ({"prompt": "0"}, ["another prompt"]),
        ({"tokenizer": "0"}, ["another tokenizer"]),
        ({"weights": "0"}, ["damaged"]),
    ],
)
def test_an_adapter_of_something_else_is_refused_with_the_difference(
    base, save, llama_tokenizer, tmp_path, change, words
):
    save(tmp_path)
    path = tmp_path / checkpoints.FINGERPRINT
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError) as caught:
        adapter.check_adapter(tmp_path, base, llama_tokenizer, "question_first")
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_adapter_of_the_other_prompt_order_is_refused_with_the_flag(base, save, llama_tokenizer, tmp_path):
    save(tmp_path, "--prompt-order", "schema_first")
    adapter.check_adapter(tmp_path, base, llama_tokenizer, "schema_first")
    with pytest.raises(
        UserError, match="other prompts: --prompt-order schema_first.*here they are --prompt-order question_first"
    ):
        adapter.check_adapter(tmp_path, base, llama_tokenizer, "question_first")


def test_another_base_with_the_same_name_is_reported_by_its_content(
    base, save, llama_tokenizer, llama_folder, tmp_path
):
    save(tmp_path / "a")
    copy = shutil.copytree(llama_folder, tmp_path / "copy")
    adapter.check_adapter(tmp_path / "a", base_models.find_base_model(str(copy)), llama_tokenizer, "question_first")
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="another base"):
        adapter.check_adapter(tmp_path / "a", base_models.find_base_model(str(copy)), llama_tokenizer, "question_first")


def test_an_adapter_of_another_make_has_nothing_to_check(base, save, llama_tokenizer, make_settings, tmp_path):
    save(tmp_path)
    (tmp_path / checkpoints.FINGERPRINT).unlink()
    assert adapter.check_adapter(tmp_path, base, llama_tokenizer, "question_first") is None
    load(base, tmp_path, make_settings)


def test_latest_is_the_newest_whole_one(save, make_settings):
    settings = make_settings()
    run = Path(settings.CHECKPOINT_DIR)
    assert adapter.find_adapter(settings) is None
    save(run / "checkpoint-20")
    save(settings.MODEL_PATH)
    assert adapter.find_adapter(settings) == Path(settings.MODEL_PATH)
    save(run / "checkpoint-40")
    assert adapter.find_adapter(settings) == run / "checkpoint-40"
    save(run / "checkpoint-60")
    (run / "checkpoint-60" / checkpoints.FINGERPRINT).unlink()
    save(run / "checkpoint-80")
    weights = run / "checkpoint-80" / checkpoints.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    assert adapter.find_adapter(settings) == run / "checkpoint-40"


def test_latest_is_the_one_of_most_steps_after_the_clock_was_set_back(save, make_settings):
    settings = make_settings()
    run = Path(settings.CHECKPOINT_DIR)
    for step in (40, 100):
        save(run / f"checkpoint-{step}")
    file = run / "checkpoint-100" / checkpoints.FINGERPRINT
    file.write_text(json.dumps(json.loads(file.read_text()) | {"written": "2001-01-01T00:00:00+00:00"}))
    assert adapter.find_adapter(settings) == run / "checkpoint-100"


def test_a_named_adapter_must_be_there(make_settings, tmp_path):
    with pytest.raises(UserError, match="--lora-checkpoint.*adapter_model.safetensors"):
        adapter.find_adapter(make_settings("--lora-checkpoint", str(tmp_path)))
    with pytest.raises(UserError, match="--model.*finetune.py"):
        adapter.find_adapter(make_settings("--model", "adapter"))


def test_a_failed_save_leaves_the_earlier_adapter_whole(base, save, llama_tokenizer, tmp_path):
    save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail_half_way():
        with atomic.replacing(tmp_path, last=checkpoints.FINGERPRINT) as partial:
            (partial / checkpoints.WEIGHTS).write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="full"):
        fail_half_way()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folders_beside_a_saved_adapter_stay(save, tmp_path):
    save(tmp_path / "saved" / "tiny")
    save(tmp_path / "saved")
    assert checkpoints.is_whole(tmp_path / "saved" / "tiny")
    assert checkpoints.is_whole(tmp_path / "saved")


@pytest.mark.parametrize("damage", ["truncated", "shape", "not json"])
def test_a_damaged_adapter_is_a_clear_error(base, save, make_settings, tmp_path, damage):
    save(tmp_path)
    weights = tmp_path / checkpoints.WEIGHTS
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "shape":
        save_file({name: tensor[:1].clone() for name, tensor in load_file(weights).items()}, weights)
    else:
        (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded|damaged"):
        load(base, tmp_path, make_settings)


def test_a_pickled_adapter_is_not_loaded(save, make_settings, tmp_path):
    save(tmp_path)
    torch.save(load_file(tmp_path / checkpoints.WEIGHTS), tmp_path / "adapter_model.bin")
    (tmp_path / checkpoints.WEIGHTS).unlink()
    with pytest.raises(UserError, match="adapter_model.safetensors"):
        adapter.find_adapter(make_settings("--lora-checkpoint", str(tmp_path)))


def test_the_fingerprint_knows_its_tokenizer(llama_tokenizer, base):
    other = replace(base)
    assert adapter.tokenizer_hash(llama_tokenizer) == adapter.tokenizer_hash(loading.load_tokenizer(other))
    llama_tokenizer_with_more = loading.load_tokenizer(base)
    llama_tokenizer_with_more.add_tokens(["<more>"])
    assert adapter.tokenizer_hash(llama_tokenizer) != adapter.tokenizer_hash(llama_tokenizer_with_more)


def test_an_adapter_writes_the_dialect_that_it_was_trained_on(tmp_path):
    for fingerprint, dialect in (
        (None, "sqlite"),
        ({"data": {}}, "sqlite"),
        ({"data": {"sql_dialect": "mysql"}}, "mysql"),
    ):
        adapter.check_dialect(tmp_path, fingerprint, dialect)
        with pytest.raises(UserError, match=f"was trained on SQL of {dialect}; SQL_DIALECT .* is 'oracle'"):
            adapter.check_dialect(tmp_path, fingerprint, "oracle")


def test_an_adapter_brings_its_schema_style_along(tmp_path):
    for fingerprint, trained in (
        (None, "plain"),  # of other software
        ({"data": {"id": "x"}}, "plain"),  # of a version before
        ({"data": {"schema_style": "described"}}, "described"),
    ):
        for wanted in ("auto", trained):
            assert adapter.schema_style(tmp_path, fingerprint, wanted) == trained
        other = "plain" if trained == "described" else "described"
        with pytest.raises(UserError, match=rf"trained with SCHEMA_STYLE \(--schema-style\) {trained}.*auto"):
            adapter.schema_style(tmp_path, fingerprint, other)
    assert adapter.schema_style(None, None, "described") == "described"
