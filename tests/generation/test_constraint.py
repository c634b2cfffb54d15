"""Answers that name nothing that their schemas lack, from models that would."""

import contextlib
import sqlite3

import pytest
import torch
from scholar import CONTEXT, LEARNED
from transformers import AutoModelForCausalLM, AutoTokenizer

from sqlora.generation import continuous_batching
from sqlora.generation.answer_writer import SqlWriter
from sqlora.generation.constraint import constraints
from sqlora.generation.token_search import SampledAnswers
from sqlora.generation.transformers_generate import PlainWriter
from sqlora.prompt import encoding
from sqlora.sql.legal_text import SqlGuard
from sqlora.sql.parsing import parse_schema

ROWS = [{"question": question, "context": CONTEXT} for question in LEARNED]
OTHER = [{"question": "How tall is Ann?", "context": "CREATE TABLE singer (size INTEGER, name TEXT)"}]


@pytest.fixture(scope="module")
def scholar(scholar_folder):
    return AutoModelForCausalLM.from_pretrained(scholar_folder), AutoTokenizer.from_pretrained(scholar_folder)


def written(scholar, rows, make_settings, *flags):
    settings = make_settings("--max-new-tokens", "60", *flags)
    return SqlWriter(*scholar, settings).candidates(rows)


@pytest.mark.parametrize("flags", [(), ("--num-beams", "3", "--num-candidates", "3"), ("--num-candidates", "4")])
def test_no_candidate_names_what_the_schema_lacks(scholar, make_settings, flags, capsys):
    free = written(scholar, ROWS + OTHER, make_settings, *flags)
    kept = written(scholar, ROWS + OTHER, make_settings, "--constrain", "names", *flags)
    assert "words were passed over" in " ".join(capsys.readouterr().out.split())
    for row, before, after in zip(ROWS + OTHER, free, kept, strict=True):
        guard = SqlGuard(parse_schema(row["context"]))
        for candidate in after:
            assert guard.after(guard.start, candidate.sql) is not None
        state = guard.after(guard.start, before[0].sql)
        if state is not None and guard.may_end(state):  # what is legal anyway is the same
            assert after[0].sql == before[0].sql


def test_the_same_by_transformers_generate(scholar, make_settings):
    model, tokenizer = scholar
    settings = make_settings("--max-new-tokens", "60", "--constrain", "names")
    prompts = encoding.encode_prompts(tokenizer, ROWS + OTHER)
    found: dict[int, str] = {}

    def ended(index, answers):
        found[index] = encoding.decode_answer(tokenizer, answers[0][0])

    limits = constraints(ROWS + OTHER, tokenizer, {tokenizer.eos_token_id}, "names")
    PlainWriter(model, settings, tokenizer).write(prompts, ended, limits)
    kept = written(scholar, ROWS + OTHER, make_settings, "--constrain", "names")
    assert [found[i] for i in range(len(found))] == [candidates[0].sql for candidates in kept]


def test_a_schema_that_cannot_be_read_leaves_its_row_free(scholar, make_settings, capsys):
    row = {"question": "How many singers are there?", "context": "no schema at all"}
    assert [limit.guard for limit in constraints([row], scholar[1], {2}, "names")] == [None]
    accents = {"question": "?", "context": 'CREATE TABLE "é" (a INTEGER)'}
    assert [limit.guard for limit in constraints([accents], scholar[1], {2}, "names")] == [None]
    schemas = {
        "question": "How many?",
        "context": "CREATE TABLE sales.orders (id INT); CREATE TABLE hr.orders (id INT)",
    }
    assert [limit.guard for limit in constraints([schemas], scholar[1], {2}, "names")] == [None]
    assert [limit.guard for limit in constraints(ROWS[:1], scholar[1], {2}, "names", "postgres")] == [None]
    written(scholar, [row], make_settings, "--constrain", "names")
    assert "1 of 1 are free" in " ".join(capsys.readouterr().out.split())


def test_the_likeliest_that_is_allowed(scholar):
    tokenizer = scholar[1]
    (limit,) = constraints(OTHER, tokenizer, {tokenizer.eos_token_id}, "names")
    answer = tokenizer("SELECT", add_special_tokens=False)["input_ids"]
    scores = torch.arange(len(tokenizer), dtype=torch.float32)
    token = limit.first_allowed(answer, scores)
    assert limit.allows(answer, token)
    assert not any(limit.allows(answer, better) for better in range(token + 1, len(tokenizer)))
    assert limit.changed == (token != len(tokenizer) - 1)


@pytest.mark.parametrize("flags", [(), ("--num-candidates", "4")])
def test_tokens_that_are_asked_about_later_are_the_same(scholar, make_settings, flags, monkeypatch):
    rows = ROWS + OTHER
    at_once = written(scholar, rows, make_settings, "--constrain", "names", *flags)
    monkeypatch.setattr(continuous_batching, "CHECKS_MEANWHILE", ("cpu",))
    backs = []
    take_back = SampledAnswers.take_back
    monkeypatch.setattr(SampledAnswers, "take_back", lambda row: backs.append(take_back(row)) or backs[-1])
    assert written(scholar, rows, make_settings, "--constrain", "names", *flags) == at_once
    assert any(backs)


@pytest.mark.parametrize("flags", [(), ("--num-candidates", "2")])
def test_answers_end_as_queries_whatever_the_model_is(llama_folder, make_settings, flags, capsys):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama_folder), AutoTokenizer.from_pretrained(llama_folder)
    rows = [{"question": f"{word}?", "context": row["context"]} for row in OTHER for word in "abcd"]
    settings = make_settings("--max-new-tokens", "50", "--constrain", "sql", *flags)
    for candidates, row in zip(SqlWriter(model, tokenizer, settings).candidates(rows), rows, strict=True):
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            database.execute(row["context"])
            database.execute(f"EXPLAIN {candidates[0].sql}")
    assert "no whole query" not in capsys.readouterr().out
