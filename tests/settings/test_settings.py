"""The settings as a dataclass: their kinds, what goes together, what a run passes on, and what is a path."""

import dataclasses
import json
from typing import get_type_hints

import pytest

import config
from sqlora.settings import command_line, settings
from sqlora.system.errors import UserError


def load(*arguments):
    return command_line.load_settings(list(arguments), "about")


def test_config_and_the_dataclass_have_the_same_types():
    assert get_type_hints(config).items() >= get_type_hints(settings.Settings).items()


def test_one_setting_is_replaced_and_checked():
    changed = dataclasses.replace(load(), BATCH_SIZE=8)
    assert changed == load("--batch-size", "8")
    with pytest.raises(UserError, match=r"BATCH_SIZE \(--batch-size\) is 0"):
        dataclasses.replace(changed, BATCH_SIZE=0)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--question", "x"), "--database"),
        (("--tables", "a"), "needs a database"),
        (("--interactive",), "needs a database"),
        (("--execute",), "needs a database"),
        (("--questions", "q.txt"), "needs a database"),
        (("--save-feedback", "f.jsonl"), "database"),
        (("--database", "d", "--context", "c"), "leave one out"),
        (("--database", "d", "--question", "x", "--interactive"), "one way"),
        (("--database", "d", "--questions", "q.txt", "--format", "csv"), "take json"),
        (("--format", "xml"), "table, csv, json"),
        (("--database", "d", "--question", "x", "--format", "csv"), "--execute"),
        (("--query-seconds", "0"), "QUERY_SECONDS"),
        (("--database", "d", "--question", "x", "--save-feedback", "f.jsonl"), "--interactive"),
    ],
)
def test_settings_of_a_database_that_do_not_go_together(flags, word):
    with pytest.raises(UserError, match=word):
        load(*flags)


ASKS_OR_WRITES = {  # what a run does not hand on: see settings.FROM_RUN
    "SCHEMAS",
    "TEST_DATA",
    "CHECKPOINT_DIR",
    "MODEL_PATH",
    "LORA_CHECKPOINT",
    "DEVICE",
    "RESUME",
    "ESTIMATE",
    "MEMORY",
    "REPORT_TO",
    "MODEL",
    "MAX_NEW_TOKENS",
    "GENERATION_BATCH_SIZE",
    "CONSTRAIN",
    "MERGE_FOR_GENERATION",
    "NUM_BEAMS",
    "NUM_CANDIDATES",
    "TEMPERATURE",
    "REPETITION_PENALTY",
    "QUESTION",
    "CONTEXT",
    "OUTPUT",
    "EVALUATE",
    "RULE",
    "DATABASE",
    "QUESTIONS",
    "TABLES",
    "EXECUTE",
    "FORMAT",
    "QUERY_SECONDS",
    "INTERACTIVE",
    "SAVE_FEEDBACK",
}


def test_for_every_setting_it_is_decided_whether_a_run_hands_it_on():
    assert settings.FROM_RUN | ASKS_OR_WRITES == set(settings.SETTING_KINDS)
    assert not settings.FROM_RUN & (ASKS_OR_WRITES | set(settings.WRITTEN) | settings.SECRET)
    assert settings.FIXED < settings.FROM_RUN < settings.RESUMED


def test_a_stranger_s_run_says_how_to_train_and_not_where_to_write(tmp_path):
    saved = dict.fromkeys(ASKS_OR_WRITES, "evil") | {
        "MAX_STEPS": 7,
        "PROMPT_ORDER": "schema_first",
        "BASE_MODEL": "a/b",
    }
    (tmp_path / "sqlora.json").write_text(json.dumps({"settings": saved}))
    taken = vars(load("--from-run", str(tmp_path)))
    assert taken == command_line.constants() | {"MAX_STEPS": 7, "PROMPT_ORDER": "schema_first", "BASE_MODEL": "a/b"}
    (tmp_path / "sqlora.json").write_text('{"settings": [[5, 7]]}')
    with pytest.raises(UserError, match="no settings of a run"):
        load("--from-run", str(tmp_path))


def test_for_every_setting_it_is_decided_whether_it_is_a_path():
    paths = {name for name, kind in settings.SETTING_KINDS.items() if kind.is_path}
    assert paths == {*settings.TRAINED_ON, *settings.ANSWERED, *settings.WRITTEN, "LORA_CHECKPOINT"}
    assert {name for name in settings.SETTING_KINDS if name.endswith(("_DIR", "_PATH"))} < paths


@pytest.mark.parametrize("name", [name for name, kind in settings.SETTING_KINDS.items() if kind.is_path])
def test_a_home_folder_in_any_path(monkeypatch, name):
    monkeypatch.setenv("HOME", "/home/me")
    more = {
        "CONTEXT": ["--question", "x"],
        "DATABASE": ["--question", "x"],
        "QUESTIONS": ["--database", "d"],
        "SAVE_FEEDBACK": ["--database", "d", "--interactive"],
    }.get(name, [])
    assert getattr(load(settings.flag(name), "~/x.sql", *more), name) == "/home/me/x.sql"
    with pytest.raises(UserError, match=rf"{name} \({settings.flag(name)}\) is '~nosuchuser/x'"):
        load(settings.flag(name), "~nosuchuser/x", *more)
    if not more:
        monkeypatch.setattr(config, name, "~/x.sql")
        assert getattr(load(), name) == "/home/me/x.sql"


def test_settings_are_read_only():
    with pytest.raises(AttributeError):
        load().BATCH_SIZE = 3
