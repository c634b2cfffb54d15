"""Sampling and EOS: what decides the next token."""

import pytest
import torch
from decoding import EOS, VOCABULARY, made, one_at_a_time, prompts, written
from transformers import (
    GenerationConfig,
)

from sqlora.generation.continuous_batching import BatchWriter


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2"])
def model(request):
    return made(request.param)


@pytest.mark.parametrize(
    ("flags", "way"), [((), {}), (("--num-beams", "3"), {"num_beams": 3})], ids=["greedy", "beams"]
)
def test_any_of_several_eos_ends_an_answer(model, make_settings, flags, way):
    ids, ends = prompts(9), [EOS, 5, 9, 20]
    generation = GenerationConfig(do_sample=False, pad_token_id=0, eos_token_id=ends, max_new_tokens=25, **way)
    found = {}
    settings = make_settings("--max-new-tokens", "25", *flags)
    BatchWriter(model, settings, ends).write(ids, lambda number, answers: found.__setitem__(number, answers[0][0]))
    for number, prompt in enumerate(ids):
        (alone,) = model.generate(torch.tensor([prompt]), generation_config=generation)[:, len(prompt) :].tolist()
        assert found[number] == next((alone[:place] for place, token in enumerate(alone) if token in ends), alone)
    assert len({len(answer) for answer in found.values()}) > 2


def test_samples_do_not_hang_on_the_batch(model, make_settings):
    ids = prompts(9)
    flags = ("--num-candidates", "4", "--temperature", "1.2", "--max-new-tokens", "9")
    together = written(model, make_settings(*flags), ids)
    assert together == written(model, make_settings(*flags, "--generation-batch-size", "2"), ids)
    assert [answers[0] for answers in together] == [
        answers[0] for answers in one_at_a_time(model, ids, max_new_tokens=9)
    ]
    assert len({tuple(answer) for answers in together for answer in answers}) > 18
    assert together != written(model, make_settings(*flags, "--seed", "7"), ids)


def test_samples_are_drawn_as_likely_as_they_are(make_settings):
    model = made("llama")
    with torch.no_grad():
        prompt = [1, 5, 6, 7]
        expected = (model(torch.tensor([prompt])).logits[0, -1] / 0.8).softmax(-1)
    number = 4000
    draws = written(model, make_settings("--num-candidates", str(number + 1), "--max-new-tokens", "1"), [prompt])[0][1:]
    counts = torch.bincount(torch.tensor([answer[0] if answer else EOS for answer in draws]), minlength=VOCABULARY)
    apart = (counts - number * expected).abs() / (number * expected * (1 - expected)).sqrt().clamp(min=0.5)
    assert apart.max() < 5  # standard deviations
