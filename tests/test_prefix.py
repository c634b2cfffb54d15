"""The schema that questions share goes through the model once, and they are answered as if each had its own."""

import pytest

from sqlora import generation, prefix, prompt

CONTEXT = "CREATE TABLE singer (name VARCHAR, age INTEGER); CREATE TABLE concert (singer VARCHAR, year INTEGER, place VARCHAR)"
ROWS = [{"question": question, "context": CONTEXT} for question in (
    "How many?", "Which singers are older than 40 years?", "Where were the concerts of the year 2014, in order of their place?")]


@pytest.fixture(scope="module")
def model(llama_folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(llama_folder)


def test_what_prompts_share_is_worth_it_or_not():
    assert prefix.shared_length([[1, 2, 3, 4], [1, 2, 3, 5, 6]]) == 3
    assert prefix.shared_length([[1, 2, 3], [1, 2, 3]]) == 2  # one token is left to be continued
    assert prefix.shared_length([[1, 2, 3, 4, 5], [1, 6, 7, 8]]) == 0
    assert prefix.shared_length([[1, 2, 3]]) == 0


@pytest.mark.parametrize("flags", [(), ("--num-beams", "3", "--num-candidates", "2"), ("--num-candidates", "3"),
                                   ("--generation-batch-size", "2")], ids=["greedy", "beams", "samples", "batches"])
def test_same_answers_from_fewer_tokens(model, llama_tokenizer, make_settings, monkeypatch, flags):
    settings = make_settings("--prompt-order", "schema_first", *flags)
    tokens = []
    hook = model.register_forward_pre_hook(lambda _, args, given: tokens.append(given["input_ids"].numel()), with_kwargs=True)
    shared = generation.generate_candidates(model, llama_tokenizer, ROWS, settings)
    few = sum(tokens)
    tokens.clear()
    monkeypatch.setattr(prefix, "WORTH", 2)
    alone = generation.generate_candidates(model, llama_tokenizer, ROWS, settings)
    hook.remove()
    assert [[candidate.sql for candidate in row] for row in shared] == [[candidate.sql for candidate in row] for row in alone]
    monkeypatch.undo()
    length = prefix.shared_length(prompt.encode_prompts(llama_tokenizer, ROWS, "schema_first"))
    assert sum(tokens) - few >= length * (len(ROWS) - 1)
