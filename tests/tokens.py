"""Queries that a tokenizer must return unchanged, and a tokenizer of single bytes."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sqlora.prompt import encoding

QUERIES = [
    "SELECT COUNT(*) FROM singer",
    encoding.PROBE,
    "SELECT a  ,   b FROM t\n    WHERE\tx <= -0.5 AND y LIKE '%50\\%\\_%' ESCAPE '\\'",
    "SELECT \"Straße\", '東京', '🙂', 'naïve' FROM `Köln` WHERE [a b] != '' AND c = ''''",
    "SELECT ' .', 'n''t', 'do n\\'t', 'a , b' , '# # ' FROM t -- a comment",
]


def byte_level(normalizer=None, **special) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, without any special token but those named."""
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)
