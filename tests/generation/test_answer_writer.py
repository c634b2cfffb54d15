"""Generation: batches give what one at a time gives, in the order of the rows, and the adapter is switched."""

from pathlib import Path

import pytest
import snapshots
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from sqlora.generation import answer_journal, answer_writer
from sqlora.model import base_models, loading
from sqlora.prompt import encoding
from sqlora.system.errors import UserError

ROWS = [
    {"question": "What is " + "the name and " * (i % 4) + f"a{i}?", "context": f"CREATE TABLE t{i} (a{i} INTEGER)"}
    for i in range(7)
]


@pytest.fixture(scope="module")
def model():
    """Random weights large enough that every prompt is continued in its own way."""
    torch.manual_seed(3)
    base = LlamaForCausalLM(snapshots.llama_config(initializer_range=0.4)).double()
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")).double()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    return model


def answer(model, tokenizer, rows, settings):
    with answer_journal.Journal(Path(settings.CHECKPOINT_DIR), "key") as kept:
        return answer_writer.answer_rows(model, tokenizer, rows, settings, kept)


@pytest.fixture
def asked(monkeypatch):
    """Answers as the text that was generated, so that random weights' answers can be recognised."""
    monkeypatch.setattr(answer_writer.template, "extract_sql", lambda text: text)


@pytest.mark.parametrize("flags", [(), ("--num-beams", "3")])
def test_batches_answer_as_one_at_a_time_in_the_same_order(model, llama_tokenizer, make_settings, asked, flags):
    alone = answer_writer.SqlWriter(
        model, llama_tokenizer, make_settings("--generation-batch-size", "1", *flags)
    ).write(ROWS)
    batched = answer_writer.SqlWriter(
        model, llama_tokenizer, make_settings("--generation-batch-size", "3", *flags)
    ).write(ROWS)
    assert alone == batched
    assert len(set(alone)) > 3


def test_the_batch_is_reported_as_it_is_answered(model, llama_tokenizer, make_settings):
    done = []
    answer_writer.SqlWriter(model, llama_tokenizer, make_settings("--generation-batch-size", "3")).candidates(
        ROWS, lambda place, written: done.append(place)
    )
    assert sorted(done) == list(range(7))
    assert done != sorted(done)  # the shortest prompts are answered last


def test_only_new_tokens_count(model, llama_tokenizer, make_settings, asked):
    short = answer_writer.SqlWriter(model, llama_tokenizer, make_settings("--max-new-tokens", "1")).write(ROWS[:1])
    assert len(llama_tokenizer(short[0], add_special_tokens=False)["input_ids"]) <= 1


def test_one_model_answers_with_and_without_its_adapter(model, llama_tokenizer, make_settings, asked):
    both = answer(model, llama_tokenizer, ROWS, make_settings())
    assert [row["question"] for row in both] == [row["question"] for row in ROWS]
    assert all(row["answer"] is None for row in both)
    assert [row["base"] for row in both] != [row["adapter"] for row in both]
    plain = answer(model.get_base_model(), llama_tokenizer, ROWS, make_settings("--model", "base"))
    only = answer(model, llama_tokenizer, ROWS, make_settings("--model", "adapter"))
    assert [row["adapter"] for row in only] == [row["adapter"] for row in both]
    assert all(row["base"] is None for row in only)
    assert all(row["adapter"] is None for row in plain)


@pytest.mark.parametrize("low_bit", ["nf4", "none"])
def test_with_plain_weights_the_answers_are_the_same(llama_folder, llama_tokenizer, make_settings, asked, low_bit):
    flags = ("--low-bit", low_bit, "--dtype", "float32")
    answers = []
    for merge in ("off", "on", "auto"):
        settings = make_settings(*flags, "--merge-for-generation", merge)
        base = base_models.find_base_model(str(llama_folder))
        model = loading.wrap_with_adapter(
            loading.load_base(base, settings.LOW_BIT, loading.choose_device(settings), training=False), settings
        )
        torch.manual_seed(2)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5)
        assert answer_writer.merge_pays_off(model, merge, 1000) == (merge == "on")  # on a CPU
        answers.append(answer(model, llama_tokenizer, ROWS, settings))
    assert answers[0] == answers[1] == answers[2]
    assert [row["base"] for row in answers[0]] != [row["adapter"] for row in answers[0]]


def test_a_prompt_that_leaves_no_room(model, llama_tokenizer, make_settings):
    rows = [*ROWS, {"question": "x " * 3000, "context": "CREATE TABLE t (a INT)"}]
    with pytest.raises(UserError, match="row 8.*--max-new-tokens"):
        answer_writer.SqlWriter(model, llama_tokenizer, make_settings()).write(rows)


@pytest.mark.parametrize("flags", [(), ("--num-beams", "4")])
def test_candidates_are_the_same_for_the_same_seed_and_begin_with_the_best(
    model, llama_tokenizer, make_settings, asked, flags
):
    settings = make_settings("--num-candidates", "4", "--temperature", "1.5", "--generation-batch-size", "3", *flags)
    written = answer_writer.SqlWriter(model, llama_tokenizer, settings).candidates(ROWS)
    assert [len(candidates) for candidates in written] == [4] * len(ROWS)
    assert written == answer_writer.SqlWriter(model, llama_tokenizer, settings).candidates(ROWS)
    alone = answer_writer.SqlWriter(
        model, llama_tokenizer, make_settings("--generation-batch-size", "3", *flags)
    ).write(ROWS)
    assert [candidates[0].sql for candidates in written] == alone
    assert len({candidate.sql for candidates in written for candidate in candidates}) > 2 * len(ROWS)
    if flags:
        assert all(candidate.weight > 0 for candidates in written for candidate in candidates)


def test_samples_are_sorted_by_their_own_likelihood(model, llama_tokenizer, make_settings, asked):
    settings = make_settings("--num-candidates", "6", "--temperature", "1", "--max-new-tokens", "5")
    (written,) = answer_writer.SqlWriter(model, llama_tokenizer, settings).candidates(ROWS[:1])
    start = encoding.encode_prompts(llama_tokenizer, ROWS[:1])[0]
    likelihoods = []
    for candidate in written[1:]:
        ids = llama_tokenizer(candidate.sql, add_special_tokens=False)["input_ids"]
        if len(ids) != 5 or llama_tokenizer.decode(ids) != candidate.sql:
            continue  # an answer that its text does not give back token for token
        logits = model(torch.tensor([start + ids])).logits[0, len(start) - 1 : -1].log_softmax(-1)
        likelihoods.append(sum(logits[i, token].item() for i, token in enumerate(ids)))
    assert likelihoods == sorted(likelihoods, reverse=True)


def test_several_candidates_are_voted_on(model, llama_tokenizer, make_settings, monkeypatch):
    monkeypatch.setattr(
        answer_writer.SqlWriter,
        "candidates",
        lambda *_: [[answer_writer.Candidate("SELECT nonesuch FROM t0"), answer_writer.Candidate("SELECT a0 FROM t0")]],
    )
    assert answer_writer.SqlWriter(model, llama_tokenizer, make_settings("--num-candidates", "2")).write(ROWS[:1]) == [
        "SELECT a0 FROM t0"
    ]
