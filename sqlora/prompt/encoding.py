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
exactly the ids that training did. With PROMPT_FORMAT chat the text up to the context is a user's message, and the
tokenizer's chat template takes the place of the heading, BOS and EOS (chat.py).
"""

from sqlora.prompt.chat import chat_template
from sqlora.prompt.template import DEFAULT_LAYOUT, is_chat, prompt_hash, prompt_of
from sqlora.system.errors import UserError

# The text that a tokenizer must return unchanged: SQL with quotes, operators, digits, line breaks and accents.
PROBE = "SELECT T1.naïve_name, COUNT(*) FROM Table_1 AS T1\nWHERE a >= 10.50 AND b <> 'it''s  2' ORDER BY \"x y\" DESC"


class TokenizerError(UserError):
    """The tokenizer does not encode SQL without loss."""


def encode_prompts(tokenizer, rows: list[dict[str, str]], layout: str = DEFAULT_LAYOUT) -> list[list[int]]:
    """Token ids of each row's prompt: BOS once, if the tokenizer has one, and no EOS; in a chat what its template
    has.
    """
    texts = [prompt_of(row, layout) for row in rows]
    if is_chat(layout):
        return chat_template(tokenizer).prompts(texts)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [bos + ids for ids in _encode(tokenizer, texts)]


def encode_answers(tokenizer, queries: list[str], layout: str = DEFAULT_LAYOUT) -> list[list[int]]:
    """Token ids of each SQL query, with EOS at the end, or in a chat the token that ends a turn."""
    texts = [sql.strip() for sql in queries]
    if is_chat(layout):
        return chat_template(tokenizer).answers(texts)
    return [[*ids, tokenizer.eos_token_id] for ids in _encode(tokenizer, texts)]


def after_answer(tokenizer, layout: str) -> list[int]:
    """Token ids that a training row has after its answer: in a chat what the template writes behind a turn."""
    return chat_template(tokenizer).rest if is_chat(layout) else []


def answer_end(tokenizer, layout: str) -> int:
    """The token that ends an answer in training."""
    return chat_template(tokenizer).ends if is_chat(layout) else tokenizer.eos_token_id


def hash_of_prompts(tokenizer, layout: str) -> str:
    """template.prompt_hash, with the tokenizer's chat template."""
    return prompt_hash(layout, str(tokenizer.chat_template) if is_chat(layout) else "")


def count_tokens(tokenizer, texts: list[str]) -> list[int]:
    """How many tokens each text has by itself."""
    return [len(ids) for ids in _encode(tokenizer, texts)]


def encode_prompt(tokenizer, question: str, context: str, layout: str = DEFAULT_LAYOUT) -> list[int]:
    """Token ids of one prompt."""
    return encode_prompts(tokenizer, [{"question": question, "context": context}], layout)[0]


def encode_answer(tokenizer, sql: str, layout: str = DEFAULT_LAYOUT) -> list[int]:
    """Token ids of one SQL query, as `encode_answers` gives them."""
    return encode_answers(tokenizer, [sql], layout)[0]


def trial_text(tokenizer, layout: str = DEFAULT_LAYOUT) -> list[int]:
    """Token ids of a prompt on which a model can be tried."""
    return encode_prompt(tokenizer, "How many rows are there?", "CREATE TABLE t (a INTEGER)", layout)


def _encode(tokenizer, texts: list[str]) -> list[list[int]]:
    if not texts:  # tokenizers do not accept an empty list
        return []
    # split_special_tokens: text that spells a special token, such as "</s>", stays text.
    return tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def decode_answer(tokenizer, ids) -> str:
    """The text of generated ids, without special tokens."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def check_tokenizer(tokenizer, layout: str = DEFAULT_LAYOUT) -> None:
    """Raises TokenizerError unless a row has BOS and EOS once and SQL is returned unchanged; in a chat UserError unless
    its tokens are those of the tokenizer's chat template.
    """
    if is_chat(layout):
        chat_template(tokenizer).check(
            prompt_of({"question": "How many?", "context": "CREATE TABLE t (a INTEGER)"}, layout), PROBE
        )
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
