"""Answers that name nothing that their schemas lack, from models that would."""

import contextlib
import sqlite3

import pytest
import snapshots
import torch
from scholar import CONTEXT, LEARNED
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from sqlora.generation import continuous_batching
from sqlora.generation.answer_writer import SqlWriter
from sqlora.generation.constraint import constraints
from sqlora.generation.continuous_batching import BatchWriter
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

    limits = constraints(ROWS + OTHER, tokenizer, {tokenizer.eos_token_id}, 60, "names")
    PlainWriter(model, settings, tokenizer).write(prompts, ended, limits)
    kept = written(scholar, ROWS + OTHER, make_settings, "--constrain", "names")
    assert [found[i] for i in range(len(found))] == [candidates[0].sql for candidates in kept]


def test_a_schema_that_cannot_be_read_leaves_its_row_free(scholar, make_settings, capsys):
    row = {"question": "How many singers are there?", "context": "no schema at all"}
    assert [limit.guard for limit in constraints([row], scholar[1], {2}, 60, "names")] == [None]
    accents = {"question": "?", "context": 'CREATE TABLE "é" (a INTEGER)'}
    assert [limit.guard for limit in constraints([accents], scholar[1], {2}, 60, "names")] == [None]
    schemas = {
        "question": "How many?",
        "context": "CREATE TABLE sales.orders (id INT); CREATE TABLE hr.orders (id INT)",
    }
    assert [limit.guard for limit in constraints([schemas], scholar[1], {2}, 60, "names")] == [None]
    assert [limit.guard for limit in constraints(ROWS[:1], scholar[1], {2}, 60, "names", "postgres")] == [None]
    written(scholar, [row], make_settings, "--constrain", "names")
    assert "1 of 1 are free" in " ".join(capsys.readouterr().out.split())


def test_the_likeliest_that_is_allowed(scholar):
    tokenizer = scholar[1]
    (limit,) = constraints(OTHER, tokenizer, {tokenizer.eos_token_id}, 60, "names")
    answer = tokenizer("SELECT", add_special_tokens=False)["input_ids"]
    scores = torch.arange(len(tokenizer), dtype=torch.float32)
    token = limit.first_allowed(answer, scores)
    assert limit.allows(answer, token)
    assert not any(limit.allows(answer, better) for better in range(token + 1, len(tokenizer)))
    (passed_over,) = limit.passed_over([*answer, token])
    assert passed_over.at == len("SELECT")
    assert passed_over.text == limit.texts[len(tokenizer) - 1]
    assert passed_over.probability == pytest.approx(scores.softmax(dim=-1)[token + 1 :].sum().item(), abs=1e-5)


@pytest.mark.parametrize("flags", [(), ("--num-candidates", "4"), ("--generation-batch-size", "3")])
def test_tokens_that_are_asked_about_later_are_the_same(scholar, make_settings, flags, monkeypatch):
    rows = (ROWS + OTHER) * 4  # so that slots are refilled
    at_once = written(scholar, rows, make_settings, "--constrain", "names", *flags)
    monkeypatch.setattr(continuous_batching, "AHEAD", ("cpu",))
    backs = []
    refuses = SampledAnswers.refuses
    monkeypatch.setattr(SampledAnswers, "refuses", lambda row, ids: backs.append(refuses(row, ids)) or backs[-1])
    later = written(scholar, rows, make_settings, "--constrain", "names", *flags)
    assert any(backs)
    for ones, others in zip(later, at_once, strict=True):
        for one, other in zip(ones, others, strict=True):
            assert one.sql == other.sql
            assert [place.at for place in one.passed_over] == [place.at for place in other.passed_over]
            assert one.forbidden == pytest.approx(other.forbidden, abs=1e-4)
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)


@pytest.mark.parametrize(
    "flags", [(), ("--num-candidates", "3"), ("--num-beams", "3", "--num-candidates", "2")], ids=" ".join
)
@pytest.mark.parametrize("by_generate", [False, True], ids=["slots", "generate"])
def test_how_sure_the_model_was(llama_folder, make_settings, flags, by_generate, monkeypatch):
    """The mean log-probability is that of the model's own scores, whatever was forbidden."""
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    torch.manual_seed(3)
    model = LlamaForCausalLM(snapshots.llama_config(initializer_range=0.2)).double().eval()
    settings = make_settings("--max-new-tokens", "40", "--constrain", "names", *flags)
    rows = [{"question": f"{word}?", "context": row["context"]} for row in OTHER for word in "abc"]
    prompts = encoding.encode_prompts(tokenizer, rows)
    ends = {tokenizer.eos_token_id}
    writer = PlainWriter(model, settings, tokenizer) if by_generate else BatchWriter(model, settings, ends)
    limits = constraints(rows, tokenizer, ends, 40, "names")
    found = {}
    writer.write(prompts, found.__setitem__, limits)
    for i, prompt in enumerate(prompts):
        for answer in found[i]:
            whole = [*answer.ids, tokenizer.eos_token_id][: settings.MAX_NEW_TOKENS]
            with torch.inference_mode():
                scores = model(torch.tensor([prompt + whole])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
            each = scores.gather(1, torch.tensor(whole)[:, None])
            assert answer.log_probability == pytest.approx(each.mean().item(), abs=1e-6)
        assert limits[i].passed_over(found[i][0].ids)


@pytest.mark.parametrize("seed", range(4))
def test_a_legal_greedy_answer_is_the_same(scholar_folder, make_settings, seed):
    """In float64, of models that are more and less sure of what they learned."""
    model = AutoModelForCausalLM.from_pretrained(scholar_folder).double()
    tokenizer = AutoTokenizer.from_pretrained(scholar_folder)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * parameter.std() * 0.04 * seed
    free = written((model, tokenizer), ROWS, make_settings)
    kept = written((model, tokenizer), ROWS, make_settings, "--constrain", "sql")
    legal = 0
    for row, (before,), (after,) in zip(ROWS, free, kept, strict=True):
        guard = SqlGuard(parse_schema(row["context"]), strict=True)
        state = guard.after(guard.start, before.sql)
        if state is not None and guard.may_end(state):
            legal += 1
            assert after.sql == before.sql
            assert not after.passed_over
    assert legal or seed > 1


@pytest.mark.parametrize(
    ("number", "flags"),
    [(4, ()), (4, ("--num-candidates", "2")), pytest.param(60, (), marks=pytest.mark.slow)],
    ids=["greedy", "sampled", "many"],
)
def test_answers_end_as_queries_whatever_the_model_is(llama_folder, make_settings, number, flags, capsys):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama_folder), AutoTokenizer.from_pretrained(llama_folder)
    contexts = [OTHER[0]["context"], CONTEXT]
    rows = [{"question": f"{i}?", "context": contexts[i % 2]} for i in range(number)]
    settings = make_settings("--max-new-tokens", "50", "--constrain", "sql", *flags)
    for candidates, row in zip(SqlWriter(model, tokenizer, settings).candidates(rows), rows, strict=True):
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            database.executescript(row["context"])
            for candidate in candidates:
                database.execute(f"EXPLAIN {candidate.sql}")
    assert "no whole query" not in capsys.readouterr().out
