"""Small models in float64, and their answers by continuous batching and by transformers, one row at a time."""

import functools
import itertools
import random

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

from sqlora.generation.continuous_batching import BatchWriter

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


def prompts(number: int, shared: int = 12, longest: int = 40) -> list[list[int]]:
    draw = random.Random(number)
    start = [1] + [draw.randrange(3, VOCABULARY) for _ in range(shared)]
    return [start + [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(1, longest))] for _ in range(number)]


def attend_rows(query, key, value, first_key, first_value, starts, longest, scaling):
    """What sqlora.generation.packed_attention computes, row by row."""
    repeats, output = query.shape[1] // key.shape[1], []
    for start, end in itertools.pairwise(starts.tolist()):
        assert end - start <= longest
        keys, values = (
            torch.cat([*([] if first is None else [first]), own[:, :, start:end]], dim=2).repeat_interleave(repeats, 1)
            for first, own in ((first_key, key), (first_value, value))
        )
        seen = torch.ones(end - start, keys.shape[2], dtype=torch.bool, device=key.device).tril(
            keys.shape[2] - end + start
        )
        output.append(
            torch.nn.functional.scaled_dot_product_attention(
                query[:, :, start:end], keys, values, attn_mask=seen, scale=scaling
            )
        )
    return torch.cat(output, dim=2).transpose(1, 2)


def written(model, settings, ids: list[list[int]]) -> list[list[list[int]]]:
    found = {}

    def ended(number: int, answers) -> None:
        assert number not in found
        found[number] = [answer.ids for answer in answers]

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
