"""Any flag, any constant and any --from-run file: settings that can be used, or one clear line."""

import contextlib
import json

import pytest
from fuzzing import fingerprints, fuzz, json_values, scalars, texts
from hypothesis import strategies as st

import config
from sqlora.data import dataset
from sqlora.model import adapter, base_models
from sqlora.settings import command_line, settings
from sqlora.system.errors import UserError
from sqlora.training import run_folder

NAMES = st.sampled_from(sorted(settings.SETTING_KINDS))
PATHS = (
    "BASE_MODEL",
    "DATA_PATH",
    "TEST_DATA",
    "CHECKPOINT_DIR",
    "MODEL_PATH",
    "LORA_CHECKPOINT",
    "HOLDOUT",
    "CONTEXT",
    "OUTPUT",
)
near_misses = st.builds(
    lambda name, cut, more: "--" + name[:cut] + more,
    NAMES.map(lambda name: settings.flag(name)[2:]),
    st.integers(0, 12),
    texts,
)
flags = st.one_of(
    st.tuples(NAMES.map(settings.flag), texts),
    st.tuples(NAMES.map(settings.flag), st.one_of(st.integers(), st.floats()).map(str)),
    st.tuples(near_misses),
    st.tuples(texts),
)


def load(arguments):
    try:
        return command_line.load_settings(arguments, "about")
    except SystemExit as stop:  # --help, or a flag that can be read as it
        if stop.code:
            raise
        return None


def test_any_flags():
    def check(pairs):
        load([word for pair in pairs for word in pair])

    assert fuzz(check, st.lists(flags, max_size=4), examples=150)["refused"]


def test_any_constants():
    def check(name, value):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(config, name, value, raising=False)
            load([])

    assert fuzz(
        check, st.one_of(NAMES, st.sampled_from(["BATCHSIZE", "X"])), st.one_of(scalars, json_values), examples=150
    )


def test_any_run_file(tmp_path):
    file = tmp_path / "sqlora.json"
    saved = command_line.constants()
    edited = st.dictionaries(st.one_of(NAMES, texts), json_values, max_size=3).map(
        lambda edits: {"settings": saved | edits}
    )
    written = st.one_of(edited, edited, json_values, st.dictionaries(st.just("settings"), json_values)).map(
        lambda value: json.dumps(value).encode()
    )

    def check(content):
        file.write_bytes(content)
        before = fingerprints(tmp_path)
        try:
            load(["--from-run", str(tmp_path)])
        finally:
            assert fingerprints(tmp_path) == before

    assert fuzz(check, st.one_of(written, written, st.binary(max_size=30)), examples=150)["refused"]


def test_any_path(tmp_path, monkeypatch):
    """What the scripts do with the paths of their settings, before they load a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    # nothing outside the test's folder
    wild = texts.filter(lambda text: not text.startswith(("/", "~")) and ".." not in text)
    paths = st.one_of(
        wild, st.sampled_from(["file", "file/below", ".", "x" * 300, "a/b/c", "/dev/null", "/dev/null/x"])
    )

    def check(values):
        before = fingerprints(tmp_path / "file")
        try:
            one = settings.Settings(
                **command_line.constants() | {"QUESTION": "How many?" if values.get("CONTEXT") else ""} | values
            )
            for use in (
                lambda: dataset.load_rows(one.DATA_PATH, "DATA_PATH (--data-path)"),
                lambda: dataset.load_samples(one),
                lambda: adapter.find_adapter(one),
                lambda: base_models.find_base_model(one.BASE_MODEL),
            ):
                with contextlib.suppress(UserError):
                    use()
            run_folder.check_outputs(one)
        finally:
            assert fingerprints(tmp_path / "file") == before

    fuzz(check, st.dictionaries(st.sampled_from(PATHS), paths, min_size=1, max_size=2), examples=60)
