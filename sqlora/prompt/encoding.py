"""The prompt, tokenisation and stop contract, the same in training and generation.

A prompt is an instruction, the question, the schema, and an open response:

    <instruction>

    ### Input:
    <question>

    ### Context:
    <CREATE TABLE statements>

    ### Response:

A row's evidence follows its question, under ### Hint, and values that the question names follow the context, under
### Values. PROMPT_ORDER schema_first puts the context before the input, so
that all questions on one schema share their beginning.

Token ids are `[BOS] + prompt + SQL + [EOS]`. Prompt and SQL are tokenised separately, so that generation continues
exactly the ids that training did.
"""

from sqlora.prompt.template import DEFAULT_ORDER, prompt_of
from sqlora.system.errors import UserError

# The text that a tokenizer must return unchanged: SQL with quotes, operators, digits, line breaks and accents.
PROBE = "SELECT T1.naïve_name, COUNT(*) FROM Table_1 AS T1\nWHERE a >= 10.50 AND b <> 'it''s  2' ORDER BY \"x y\" DESC"


class TokenizerError(UserError):
    """The tokenizer does not encode SQL without loss."""


def encode_prompts(tokenizer, rows: list[dict[str, str]], order: str = DEFAULT_ORDER) -> list[list[int]]:
    """Token ids of each row's prompt: BOS once, if the tokenizer has one, and no EOS."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [bos + ids for ids in _encode(tokenizer, [prompt_of(row, order) for row in rows])]


def encode_answers(tokenizer, queries: list[str]) -> list[list[int]]:
    """Token ids of each SQL query, with EOS at the end."""
    return [[*ids, tokenizer.eos_token_id] for ids in _encode(tokenizer, [sql.strip() for sql in queries])]


def count_tokens(tokenizer, texts: list[str]) -> list[int]:
    """How many tokens each text has by itself."""
    return [len(ids) for ids in _encode(tokenizer, texts)]


def encode_prompt(tokenizer, question: str, context: str) -> list[int]:
    """Token ids of one prompt."""
    return encode_prompts(tokenizer, [{"question": question, "context": context}])[0]


def encode_answer(tokenizer, sql: str) -> list[int]:
    """Token ids of one SQL query, with EOS at the end."""
    return encode_answers(tokenizer, [sql])[0]


def trial_text(tokenizer) -> list[int]:
    """Token ids of a prompt on which a model can be tried."""
    return encode_prompt(tokenizer, "How many rows are there?", "CREATE TABLE t (a INTEGER)")


def _encode(tokenizer, texts: list[str]) -> list[list[int]]:
    if not texts:  # tokenizers do not accept an empty list
        return []
    # split_special_tokens: text that spells a special token, such as "</s>", stays text.
    return tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def decode_answer(tokenizer, ids) -> str:
    """The text of generated ids, without special tokens."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def check_tokenizer(tokenizer) -> None:
    """Raises TokenizerError unless a row has BOS and EOS once and SQL is returned unchanged."""
    if tokenizer.eos_token_id is None:
        raise TokenizerError(
            "the tokenizer has no EOS token, so generation would never stop; add eos_token to its tokenizer_config.json"
        )
    ids = encode_prompt(tokenizer, "How many?", "CREATE TABLE t (a INTEGER)") + encode_answer(tokenizer, PROBE)
    most = 2 if tokenizer.bos_token_id == tokenizer.eos_token_id else 1  # one token is both, as in GPT-2
    for name, token in (("BOS", tokenizer.bos_token_id), ("EOS", tokenizer.eos_token_id)):
        if token is not None and ids.count(token) > most:
            raise TokenizerError(
                f"the tokenizer puts {name} into a row {ids.count(token)} times instead of {most}; "
                f"this tokenizer cannot be used"
            )
    back = decode_answer(tokenizer, encode_answer(tokenizer, PROBE))
    if back != PROBE:
        raise TokenizerError(
            f"the tokenizer does not return SQL unchanged: {PROBE!r} became {back!r}; "
            f"use a base model with its own tokenizer files"
        )
