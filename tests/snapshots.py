"""Tiny random models in the layouts that users really have: OpenLLaMA, CodeLlama, Mistral, Qwen2, BERT."""

import io
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

TEXTS = [
    "SELECT name, COUNT(*) FROM singer AS T1 JOIN concert AS T2 ON T1.id = T2.singer_id WHERE age > 30 GROUP BY name",
    "SELECT AVG(price), MAX(weight) FROM product WHERE city <> 'Köln' AND colour = \"red\" ORDER BY price LIMIT 10",
    "CREATE TABLE stadium (stadium_id INTEGER, name VARCHAR, capacity INTEGER); CREATE TABLE concert (year INTEGER)",
    "How many singers are older than 56, and what is the average, minimum and maximum age of all of them?",
    "You are given a question and the tables of a database. Write one query that answers it. Use only these columns.",
    "### Input:\n### Context:\n### Response:\nHAVING COUNT(DISTINCT x) >= 2.50 AND y IN (SELECT z FROM w LIKE '%a_b%')",
] * 4


def byte_level_bpe(bos: str | None, eos: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token in ("<unk>", bos, eos) if token]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, unk_token="<unk>")


def sentencepiece_model(collapse_spaces: bool) -> bytes:
    """A bare tokenizer.model like Llama's: BPE with byte fallback; unk 0, bos 1, eos 2."""
    import sentencepiece

    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=stream,
        vocab_size=500,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=collapse_spaces,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    return stream.getvalue()


def llama_config(**changes) -> LlamaConfig:
    return LlamaConfig(
        **{
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 400,
            "max_position_embeddings": 1024,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": None,
        }
        | changes
    )


def make_llama(folder: Path, **changes) -> Path:
    torch.manual_seed(0)
    LlamaForCausalLM(llama_config(**changes)).save_pretrained(folder)
    byte_level_bpe("<s>", "</s>").save_pretrained(folder)
    return folder


def make_openllama(folder: Path) -> Path:
    """Sharded .bin weights and a bare tokenizer.model, which takes runs of spaces for one; heads of width 100."""
    torch.manual_seed(1)
    LlamaForCausalLM(llama_config(hidden_size=200, num_attention_heads=2, vocab_size=512)).save_pretrained(folder)
    tensors = sorted(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    halves = {"pytorch_model-00001-of-00002.bin": tensors[::2], "pytorch_model-00002-of-00002.bin": tensors[1::2]}
    for name, half in halves.items():
        torch.save(dict(half), folder / name)
    index = {"metadata": {}, "weight_map": {tensor: name for name, half in halves.items() for tensor, _ in half}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(collapse_spaces=True))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "add_bos_token": True,
                "add_eos_token": False,
                "model_max_length": 2048,
                "pad_token": None,
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "tokenizer_class": "LlamaTokenizer",
            }
        )
    )
    return folder


def make_codellama(folder: Path) -> Path:
    """Sharded safetensors, a vocabulary of 32,016, a rope theta of a million, tokens for infilling."""
    torch.manual_seed(2)
    config = llama_config(vocab_size=32016, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="5MB")
    assert (folder / "model.safetensors.index.json").is_file()
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(collapse_spaces=False))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "tokenizer_class": "CodeLlamaTokenizer",
                "prefix_token": "▁<PRE>",
                "middle_token": "▁<MID>",
                "suffix_token": "▁<SUF>",
                "eot_token": "▁<EOT>",
            }
        ),
        encoding="utf-8",
    )
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)  # tokenizer.json stands beside tokenizer.model there
    return folder


def make_mistral(folder: Path) -> Path:
    """Grouped-query heads."""
    torch.manual_seed(3)
    MistralForCausalLM(
        MistralConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=400,
            max_position_embeddings=1024,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    byte_level_bpe("<s>", "</s>").save_pretrained(folder)
    return folder


def make_qwen2(folder: Path) -> Path:
    """Tied embeddings, biases in the attention, and a tokenizer without a BOS."""
    from transformers import Qwen2Config, Qwen2ForCausalLM  # which bigdl-llm's transformers has not

    torch.manual_seed(4)
    Qwen2ForCausalLM(
        Qwen2Config(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=400,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=1,
        )
    ).save_pretrained(folder)
    byte_level_bpe(None, "<|endoftext|>").save_pretrained(folder)
    return folder


def make_bert(folder: Path) -> Path:
    """Not a causal language model."""
    BertForMaskedLM(
        BertConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=400,
        )
    ).save_pretrained(folder)
    byte_level_bpe("<s>", "</s>").save_pretrained(folder)
    return folder


MAKERS = {
    "llama": make_llama,
    "openllama": make_openllama,
    "codellama": make_codellama,
    "mistral": make_mistral,
    "qwen2": make_qwen2,
    "bert": make_bert,
}
