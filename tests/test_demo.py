"""The demo: its files are what its generator makes, its SQL runs, and its splits share nothing."""

import json
import random
import re
import sqlite3
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
sys.path.insert(0, str(DEMO))

import make_data  # noqa: E402
import phrases  # noqa: E402
import pretrain  # noqa: E402
import schemas  # noqa: E402

from sqlora.prompt import encoding, template  # noqa: E402

FILES = ("train.jsonl", "test.jsonl", "test_seen.jsonl")


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def identifiers(rows):
    """The table and column names of the contexts of rows."""
    return {name for row in rows for name in re.findall(r"(\w+)(?= VARCHAR| INTEGER| \()", row["context"])}


@pytest.fixture(scope="module")
def rows():
    return {name: read(DEMO / name) for name in FILES}


def test_generator_writes_the_committed_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_data.py", "--out", str(tmp_path)])
    make_data.main()
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes(), name


def test_another_seed_writes_other_rows():
    assert (
        make_data.make_rows(5, "seen", "a")
        == make_data.make_rows(5, "seen", "a")
        != make_data.make_rows(5, "seen", "b")
    )


def test_sizes(rows):
    assert len(rows["train.jsonl"]) >= 2000
    assert len(rows["test.jsonl"]) == len(rows["test_seen.jsonl"]) == 200
    assert all((DEMO / name).stat().st_size < 2e6 for name in FILES)
    assert sum(map(len, schemas.DOMAINS.values())) >= 60
    assert all(set(row) == {"question", "context", "answer"} for part in rows.values() for row in part)


@pytest.mark.parametrize(
    "path", [DEMO / name for name in FILES] + [ROOT / "test_data" / "samples.jsonl"], ids=lambda p: p.name
)
def test_every_answer_parses_and_runs(path):
    sqlglot = pytest.importorskip("sqlglot")
    for row in read(path):
        assert sqlglot.parse_one(row["answer"], read="sqlite")
        assert not row["answer"].endswith(";")
        database = sqlite3.connect(":memory:")
        database.executescript(row["context"])
        database.execute(row["answer"]).fetchall()
        database.close()


def test_invented_databases_run_too():
    rng = random.Random(3)
    for _ in range(300):
        schema = schemas.sample_schema(rng, schemas.invent_tables(rng))
        database = sqlite3.connect(":memory:")
        database.executescript(schemas.context(schema))
        database.execute(pretrain.Asker(rng, schema).ask()[1]).fetchall()
        database.close()


def test_splits_share_no_table_and_test_only_a_name_column(rows):
    nouns = {
        split: {noun for tables in domains.values() for noun, *_ in tables}
        for split, domains in schemas.DOMAINS.items()
    }
    assert not nouns["seen"] & nouns["test"]
    assert not nouns["seen"] & nouns["dev"]
    assert not nouns["dev"] & nouns["test"]
    assert identifiers(rows["train.jsonl"]) & identifiers(rows["test.jsonl"]) <= {"id", "name"}
    seen = {row["context"] for row in rows["train.jsonl"]}
    assert not seen & {row["context"] for row in rows["test_seen.jsonl"]}


def test_pretraining_never_sees_the_prompt_or_a_held_out_name(rows):
    rng = random.Random(5)
    documents = [pretrain.document(rng) for _ in range(600)]
    text = "\n".join(documents)
    assert "###" not in text
    assert template.INSTRUCTION[:30] not in text
    held_out = identifiers(rows["test.jsonl"]) - {"id", "name"}
    assert not held_out & set(re.findall(r"\w+", text))
    assert not held_out & set(re.findall(r"[A-Za-z]+", schemas.SEEN.replace("_", " ")))


def test_questions_name_the_columns_of_their_queries(rows):
    for row in rows["test.jsonl"][:50]:
        where = re.search(r"WHERE (?:T\d\.)?(\w+) [=<>]", row["answer"])
        if where:
            assert schemas.human(where[1]) in row["question"]


def test_grammar():
    rng = random.Random(0)
    assert phrases.say(rng, "What is [the|the] {a} [|]of x", a="y")[:18] == "What is the y of x"
    assert [schemas.plural(noun) for noun in ("city", "play", "box", "coach", "hive")] == [
        "cities",
        "plays",
        "boxes",
        "coaches",
        "hives",
    ]
    assert phrases.literal("it's") == "'it''s'"
    assert phrases.literal(3) == "3"


def test_model_is_small_and_its_tokenizer_fits_the_prompt():
    transformers = pytest.importorskip("transformers")
    files = list((DEMO / "tiny-llama").iterdir())
    assert sum(f.stat().st_size for f in files) <= 12e6
    config = transformers.AutoConfig.from_pretrained(DEMO / "tiny-llama")
    assert config.vocab_size <= 4096
    assert config.hidden_size % 64 == config.intermediate_size % 64 == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO / "tiny-llama")
    assert None not in (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert len(tokenizer) == config.vocab_size
    encoding.check_tokenizer(tokenizer)


def test_a_name_is_spelled_alike_everywhere():
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO / "tiny-llama")

    def spell(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    pieces = spell("seismometer")
    for around in (" {}", "({}", "T1.{}", "crater_{}", "the {}s of", "'{}'"):
        ids = spell(around.format("seismometer"))
        assert any(ids[i : i + len(pieces)] == pieces for i in range(len(ids))), around


@pytest.mark.slow
def test_the_demo_learns_the_prompt(tmp_path, monkeypatch):
    """The preset from end to end, in its own settings: about two minutes on two cores."""
    import finetune
    import generate
    from sqlora.settings.command_line import load_settings
    from sqlora.sql.parsing import exact_match

    monkeypatch.chdir(tmp_path)
    settings = load_settings(["--preset", "tiny", "--device", "cpu", "--output", "answers.jsonl"], "")
    finetune.main(settings)
    generate.main(settings)
    answers = read(tmp_path / "answers.jsonl")
    base, adapter = (
        sum(exact_match(row[who], row["answer"]) for row in answers) / len(answers) for who in ("base", "adapter")
    )
    assert len(answers) == 200
    assert adapter >= 0.6
    assert adapter - base >= 0.4
