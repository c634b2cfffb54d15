"""Many prompts answered together: token for token what transformers' generate writes for each alone, in float64."""

import functools
import random
import re
import sys
from types import SimpleNamespace

import families
import pytest
import snapshots
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GenerationConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sqlora.generation import continuous_batching, decoder, kv_cache
from sqlora.generation.continuous_batching import BatchWriter, shared_length
from sqlora.model import device
from sqlora.system.errors import UserError

VOCABULARY, EOS = 32, 2
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": EOS,
}


@functools.cache
def made(kind: str):
    torch.manual_seed(5)
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=None)).double().eval()
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_key_value_heads=1)).double().eval()
    # heads of 10
    model = LlamaForCausalLM(snapshots.llama_config(**SHAPE | {"hidden_size": 40}, num_key_value_heads=4)).double()
    model = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    ).double()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2"])
def model(request):
    return made(request.param)


def prompts(number: int, shared: int = 12, longest: int = 40) -> list[list[int]]:
    draw = random.Random(number)
    start = [1] + [draw.randrange(3, VOCABULARY) for _ in range(shared)]
    return [start + [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(1, longest))] for _ in range(number)]


def written(model, settings, ids: list[list[int]]) -> list[list[list[int]]]:
    found = {}

    def ended(number: int, answers) -> None:
        assert number not in found
        found[number] = [answer for answer, _ in answers]

    BatchWriter(model, settings, EOS).write(ids, ended)
    return [found[number] for number in range(len(ids))]


@functools.cache
def alone(kind: str, number: int, **way) -> list[list[list[int]]]:
    return one_at_a_time(made(kind), prompts(number), **way)


def one_at_a_time(model, ids: list[list[int]], **way) -> list[list[list[int]]]:
    way = GenerationConfig(do_sample=False, pad_token_id=0, eos_token_id=EOS, **way)
    found = []
    for prompt in ids:
        made = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            generation_config=way,
        )[:, len(prompt) :].tolist()
        found.append([[*answer, EOS][: [*answer, EOS].index(EOS)] for answer in made])
    return found


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


@pytest.mark.parametrize("kind", families.KNOWN)
def test_every_known_family_answers_as_transformers_does(make_settings, kind):
    model, ids = families.make_model(kind).double(), prompts(9)
    settings = make_settings("--generation-batch-size", "4", "--max-new-tokens", "12")
    expected = one_at_a_time(model, ids, max_new_tokens=12)
    assert written(model, settings, ids) == expected
    assert len({tuple(answer) for answers in expected for answer in answers}) > 4


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
    told = capsys.readouterr().out
    assert re.findall(r"(\d+) rows at a time did not fit", told) == ["14", "7"][: told.count("did not fit")]
    assert told.startswith("note: 14 ")
    most = 0
    with pytest.raises(UserError, match="does not fit into the device's memory"):
        written(model, settings, ids)


def test_a_writer_goes_on_with_what_it_has(make_settings):
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


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_the_prefix_beside_the_slots(make_settings, monkeypatch, kind):
    """As on NVIDIA's GPUs, with the kernel's part written out, in float64."""

    def attend_slots(query, keys, values, lengths, first_keys, first_values, scaling):
        kv_cache, room, repeats = len(query), keys.shape[1], query.shape[1] // keys.shape[2]
        keys, values = (
            torch.cat([first.transpose(0, 1).expand(kv_cache, -1, -1, -1), own], dim=1).repeat_interleave(
                repeats, dim=2
            )
            for first, own in ((first_keys, keys), (first_values, values))
        )
        scores = torch.einsum("shd,swhd->shw", query, keys) * scaling
        beyond = torch.arange(-first_keys.shape[1], room) > lengths[:, None, None]
        return torch.einsum("shw,swhd->shd", scores.masked_fill(beyond, -torch.inf).softmax(-1), values)

    monkeypatch.setattr(kv_cache, "reads_lengths", lambda *_: True)
    monkeypatch.setitem(sys.modules, "sqlora.generation.kv_cache_attention", SimpleNamespace(attend_slots=attend_slots))
    settings = make_settings("--generation-batch-size", "5", "--max-new-tokens", "25", "--num-beams", "2")
    assert written(made(kind), settings, prompts(17)) == alone(kind, 17, max_new_tokens=25, num_beams=2)


def test_compiled_layers_share_their_programs(make_settings, monkeypatch):
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    torch.manual_seed(6)
    model = MistralForCausalLM(
        MistralConfig(**SHAPE | {"num_hidden_layers": 12}, num_key_value_heads=2, sliding_window=None)
    )
    model, ids = model.double().eval(), prompts(17)
    expected = one_at_a_time(model, ids, max_new_tokens=9)
    settings = make_settings("--generation-batch-size", "5", "--max-new-tokens", "9", "--compile", "on")
    assert written(model, settings, ids) == expected
    assert 3 <= counter.frame_count < 8  # of twelve layers; torch.compile gives up after eight


def test_a_compiler_that_fails_is_done_without(make_settings, monkeypatch, capsys):
    def fails(*_, **__):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", fails)
    settings = make_settings("--max-new-tokens", "25", "--compile", "on")
    assert written(made.__wrapped__("llama"), settings, prompts(17)) == alone("llama", 17, max_new_tokens=25)
    assert "not compiled" in capsys.readouterr().out
