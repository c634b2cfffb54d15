"""transformers' generate, for models without continuous batching: the same answers in the same form."""

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from sqlora.generation import answer_writer
from sqlora.generation.continuous_batching import BatchWriter
from sqlora.generation.transformers_generate import PlainWriter, pad_left

PROMPTS = [[1, 5, 9, 30], [1, 7], [1, 5, 9, 31, 8, 8]]


def answers(writer) -> list[list[tuple[list[int], float]]]:
    found = {}
    writer.write(PROMPTS, found.__setitem__)
    return [found[number] for number in range(len(PROMPTS))]


@pytest.mark.parametrize("flags", [(), ("--num-beams", "3", "--num-candidates", "2")])
def test_both_writers_agree(llama_folder, llama_tokenizer, make_settings, flags):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llama_folder).double()
    settings = make_settings("--generation-batch-size", "2", *flags)
    mine, theirs = answers(BatchWriter(model, settings, 2)), answers(PlainWriter(model, settings, llama_tokenizer))
    stripped = [[ids[: ids.index(2)] if 2 in ids else ids for ids, *_ in row] for row in theirs]
    assert [[ids for ids, *_ in row] for row in mine] == stripped
    weights = [[weight for row in found for _, weight, _ in row] for found in (mine, theirs)]
    assert weights[0] == pytest.approx(weights[1], rel=1e-4)


def test_samples_come_after_the_greedy_answer(llama_folder, llama_tokenizer, make_settings):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    best = answers(PlainWriter(model, make_settings(), llama_tokenizer))
    sampled = answers(
        PlainWriter(model, make_settings("--num-candidates", "4", "--temperature", "1.5"), llama_tokenizer)
    )
    assert [len(row) for row in sampled] == [4] * 3
    assert [row[0] for row in sampled] == [row[0] for row in best]
    assert all(weight == 1.0 for row in sampled for _, weight, _ in row)


def test_a_model_s_own_generation_config_has_no_say(llama_folder, llama_tokenizer, make_settings):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    writer = PlainWriter(model, make_settings("--num-candidates", "4", "--temperature", "1.5"), llama_tokenizer)
    before = answers(writer)
    model.generation_config.top_p, model.generation_config.suppress_tokens = 0.05, list(range(3, 300))
    assert answers(writer) == before
    assert model.generation_config.top_p == 0.05


def test_a_model_of_another_kind_is_answered_by_it(llama_tokenizer, make_settings):
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=2, n_positions=512, bos_token_id=1, eos_token_id=2)
    )
    writer = answer_writer.SqlWriter(model, llama_tokenizer, make_settings())
    rows = [{"question": "How many?", "context": "CREATE TABLE t (a INTEGER)"}]
    assert len(writer.write(rows)) == 1
    assert "batches" not in vars(writer)


def test_left_padding():
    batch = pad_left([[5, 6, 7], [8]], pad=2)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [2, 2, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
