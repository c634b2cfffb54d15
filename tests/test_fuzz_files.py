"""Any data file and any adapter, damaged or of strange content: rows and weights that can be used, or one clear
line.
"""

import csv
import io
import json
import shutil

import pyarrow
import pyarrow.parquet
import pytest
from fuzzing import damaged, fingerprints, fuzz, json_values, scalars, texts
from hypothesis import strategies as st

from sqlora.data import dataset
from sqlora.model import adapter, base_models, device, loading
from sqlora.storage import checkpoints

ROWS = [
    {"question": f"How many {i}?", "context": f"CREATE TABLE t{i} (a INTEGER)", "answer": f"SELECT {i}"}
    for i in range(4)
]
COLUMNS = list(ROWS[0])


def as_csv(rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


MAKERS = {
    ".json": lambda rows: json.dumps(rows).encode(),
    ".jsonl": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    ".csv": as_csv,
    ".parquet": as_parquet,
}


def strange(draw_row):
    """Rows of which some have a value, or a whole row, that is not what it should be."""
    rows = st.one_of(st.sampled_from(ROWS), st.dictionaries(st.sampled_from([*COLUMNS, "more"]), draw_row), draw_row)
    return st.lists(rows, max_size=4)


@pytest.mark.parametrize("suffix", MAKERS)
def test_any_data_file(tmp_path, suffix):
    file = tmp_path / f"rows{suffix}"

    def check(content):
        file.write_bytes(content)
        before = fingerprints(tmp_path)
        try:
            rows = dataset.load_rows(str(file), "DATA_PATH (--data-path)")
        finally:
            assert fingerprints(tmp_path) == before
        assert rows
        for row in rows:
            assert all(type(row[name]) is str and row[name].strip() and row[name].encode() for name in COLUMNS)

    contents = [
        damaged(MAKERS[suffix](ROWS)),
        st.binary(max_size=60),
        texts.map(lambda text: text.encode(errors="replace")),
    ]
    if suffix in (".json", ".jsonl"):
        contents += [
            strange(json_values).map(MAKERS[suffix]),
            json_values.map(lambda value: json.dumps(value).encode()),
        ]
    elif suffix == ".csv":
        cells = st.dictionaries(
            st.sampled_from(COLUMNS), texts.map(lambda text: text.encode(errors="replace").decode())
        )
        contents.append(st.lists(st.one_of(st.sampled_from(ROWS), cells), max_size=4).map(as_csv))
    counts = fuzz(check, st.one_of(contents), examples=100)
    assert counts["refused"]


@pytest.fixture(scope="module")
def whole_adapter(llama_folder, llama_tokenizer, tmp_path_factory):
    """The settings, base, model and folder of an adapter as finetune.py saves it."""
    from sqlora.settings.command_line import load_settings

    settings = load_settings(["--device", "cpu", "--dtype", "float32", "--low-bit", "none", "--lora-r", "2"], "")
    base = base_models.find_base_model(str(llama_folder))
    cpu = device.choose_device("cpu", "float32")
    model = loading.wrap_with_adapter(loading.load_base(base, settings.LOW_BIT, cpu, training=True), settings)
    folder = tmp_path_factory.mktemp("whole")
    adapter.write_adapter(model, folder, base)
    fingerprint = adapter.make_fingerprint(base, llama_tokenizer, settings, {"id": "x", "hash": "y", "rows": 1})
    checkpoints.seal(folder, fingerprint, checkpoints.FINISHED, {})
    return settings, base, cpu, folder


@pytest.mark.parametrize("name", [checkpoints.WEIGHTS, "adapter_config.json", checkpoints.FINGERPRINT])
@pytest.mark.parametrize("sealed", [True, False])
def test_any_adapter(whole_adapter, llama_tokenizer, tmp_path, name, sealed):
    """With and without a fingerprint: adapters of another make have none, and nothing else is there to tell the
    damage.
    """
    if name == checkpoints.FINGERPRINT and not sealed:
        pytest.skip("it is the fingerprint that is damaged")
    settings, base, cpu, whole = whole_adapter
    folder = tmp_path / "adapter"
    original = (whole / name).read_bytes()
    model = loading.load_base(base, settings.LOW_BIT, cpu, training=False)

    def check(content):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(content)
        if not sealed:
            (folder / checkpoints.FINGERPRINT).unlink()
        before = fingerprints(folder)
        try:
            adapter.check_adapter(folder, base, llama_tokenizer, settings.PROMPT_ORDER)
            adapter.load_adapter(model, folder).unload()
        finally:
            assert fingerprints(folder) == before

    contents = [damaged(original)]
    if name.endswith(".json"):
        saved = json.loads(original)
        edits = st.dictionaries(
            st.one_of(st.sampled_from(sorted(saved)), texts), st.one_of(scalars, json_values), min_size=1
        )
        contents += [
            edits.map(lambda edit: json.dumps(saved | edit).encode()),
            json_values.map(lambda v: json.dumps(v).encode()),
        ]
    counts = fuzz(check, st.one_of(contents), examples=40)
    assert counts["refused"]
