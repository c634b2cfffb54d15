"""Many prompts answered together: token for token what transformers' generate writes for each alone, in float64."""

import re

import families
import pytest
import torch
from decoding import EOS, alone, made, one_at_a_time, prompts, written

from sqlora.generation import continuous_batching, decoder
from sqlora.generation.continuous_batching import BatchWriter, shared_length
from sqlora.model import device
from sqlora.system.errors import UserError


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2"])
def model(request):
    return made(request.param)


@pytest.mark.parametrize(
    ("flags", "way"),
    [
        ((), {}),
        (("--num-beams", "4", "--num-candidates", "3"), {"num_beams": 4, "num_return_sequences": 3}),
        (("--repetition-penalty", "1.3"), {"repetition_penalty": 1.3}),
        (("--repetition-penalty", "1.2", "--num-beams", "3"), {"repetition_penalty": 1.2, "num_beams": 3}),
    ],
    ids=["greedy", "beams", "penalty", "penalised beams"],
)
@pytest.mark.parametrize("size", ["0", "1", "5"])
def test_token_for_token_what_each_row_gets_alone(model, make_settings, flags, way, size):
    ids = prompts(17)
    settings = make_settings("--generation-batch-size", size, "--max-new-tokens", "25", *flags)
    expected = alone(model.config.model_type, 17, max_new_tokens=25, **way)
    assert written(model, settings, ids) == expected
    lengths = {len(answer) for answers in expected for answer in answers}
    assert len(lengths) > 3  # rows end at many steps


@pytest.mark.parametrize(
    "flags", [(), ("--num-candidates", "3"), ("--repetition-penalty", "1.3"), ("--num-beams", "3")], ids=" ".join
)
def test_steps_that_begin_before_their_tokens_are_known(model, make_settings, flags, monkeypatch):
    """As on a GPU: the answers are the same."""
    ids = prompts(17)
    settings = make_settings("--generation-batch-size", "5", "--max-new-tokens", "25", *flags)
    expected = written(model, settings, ids)
    monkeypatch.setattr(continuous_batching, "AHEAD", ("cpu",))
    assert written(model, settings, ids) == expected


@pytest.mark.parametrize("kind", families.KNOWN)
def test_every_known_family_answers_as_transformers_does(make_settings, kind):
    model, ids = families.make_model(kind).double(), prompts(9)
    settings = make_settings("--generation-batch-size", "4", "--max-new-tokens", "12")
    expected = one_at_a_time(model, ids, max_new_tokens=12)
    assert written(model, settings, ids) == expected
    assert len({tuple(answer) for answers in expected for answer in answers}) > 4


def test_what_prompts_share_goes_through_once(make_settings, monkeypatch):
    model, ids = made("llama"), prompts(6, shared=60, longest=9)
    settings = make_settings("--max-new-tokens", "4")
    tokens = []
    hook = model.register_forward_pre_hook(
        lambda _, args, given: tokens.append(given["input_ids"].numel()), with_kwargs=True
    )
    answers = written(model, settings, ids)
    few = sum(tokens)
    tokens.clear()
    monkeypatch.setattr(continuous_batching, "WORTH", 1000)
    assert written(model, settings, ids) == answers
    hook.remove()
    assert sum(tokens) - few >= 5 * 61


def test_places_of_rows_that_have_ended_are_refilled(make_settings, monkeypatch):
    model, ids = made("mistral"), prompts(40)
    steps, filled = [], []
    step, fill = decoder.Decoder.step, decoder.Decoder.fill
    monkeypatch.setattr(decoder.Decoder, "step", lambda self: steps.append(self.groups) or step(self))
    monkeypatch.setattr(
        decoder.Decoder,
        "fill",
        lambda self, groups, prompts: filled.append(len(prompts)) or fill(self, groups, prompts),
    )
    answers = written(model, make_settings("--max-new-tokens", "30", "--generation-batch-size", "8"), ids)
    needed = sum(max(1, min(30, len(row[0]) + 1)) for row in answers)
    assert sum(filled) == 40
    assert max(filled) == 8
    assert min(filled) < 8
    assert sum(steps) < 1.6 * needed  # waiting for the longest of each eight would take more
    assert min(steps) < 8  # the last rows go on without the others' places


def test_a_long_prompt_does_not_take_room_for_all(make_settings, monkeypatch):
    model, ids = made("qwen2"), [*prompts(12), prompts(1, longest=2)[0] + [7] * 1500]
    rooms = []
    real = decoder.Decoder.__init__
    monkeypatch.setattr(
        decoder.Decoder,
        "__init__",
        lambda self, model, groups, width, room: rooms.append((groups, room)) or real(self, model, groups, width, room),
    )
    monkeypatch.setattr(device, "free_memory", lambda kind: 3e6)
    answers = written(model, make_settings("--max-new-tokens", "9"), ids)
    assert answers == one_at_a_time(model, ids, max_new_tokens=9)
    assert rooms[0][1] > 1500
    assert rooms[1][1] < 200
    assert rooms[1][0] > rooms[0][0]


@pytest.mark.parametrize("flags", [(), ("--num-beams", "2")])
def test_where_memory_runs_out_no_row_is_lost(model, make_settings, monkeypatch, flags, capsys):
    ids = prompts(14)
    settings = make_settings("--max-new-tokens", "20", *flags)
    expected = written(model, settings, ids)
    real = decoder.Decoder.step
    most = 5

    def step(self):
        if self.groups > most and max(self.lengths) > max(map(len, ids)) + 6:
            raise torch.OutOfMemoryError("no memory left")
        return real(self)

    monkeypatch.setattr(decoder.Decoder, "step", step)
    assert written(model, settings, ids) == expected
    printed = capsys.readouterr().out
    assert re.findall(r"(\d+) rows at a time did not fit", printed) == ["14", "7"][: printed.count("did not fit")]
    assert printed.startswith("note: 14 ")
    most = 0
    with pytest.raises(UserError, match="does not fit into the device's memory"):
        written(model, settings, ids)


def test_a_writer_resumes_with_what_it_has(make_settings):
    model, ids = made("llama"), prompts(3, shared=0)
    writer = BatchWriter(model, make_settings("--max-new-tokens", "8"), EOS)
    found = []
    decoders = set()
    for prompt in ids:
        writer.write([prompt], lambda number, answers: found.append([answers[0][0]]))
        decoders.add(id(writer.decoder))
    assert found == one_at_a_time(model, ids, max_new_tokens=8)
    assert len(decoders) == 1


def test_what_prompts_share_is_worth_it_or_not():
    start = list(range(8))
    assert shared_length([[*start, 3, 4], [*start, 3, 5, 6]]) == 9
    assert shared_length([[*start, 3], [*start, 3]]) == 8  # one token is left to be continued
    assert shared_length([[1, 2, 3, 4, 5], [1, 6, 7, 8]]) == 0
    assert shared_length([[*start, 3]]) == 0
