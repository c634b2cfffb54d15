"""The prompt contract: BOS and EOS once, SQL there and back exactly, one prompt in training and generation."""

import pytest
from tokenizers import normalizers
from tokens import QUERIES, byte_level
from transformers import AutoTokenizer

from sqlora.data.tokenise import tokenise_rows
from sqlora.prompt import encoding, template

KINDS = ["llama", "openllama", "codellama", "mistral", "qwen2"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return AutoTokenizer.from_pretrained(request.getfixturevalue(f"{request.param}_folder"))


def test_the_tokenizers_of_real_layouts_pass(tokenizer):
    encoding.check_tokenizer(tokenizer)


@pytest.mark.parametrize("sql", QUERIES)
def test_sql_comes_back_exactly_and_ends_in_one_eos(tokenizer, sql):
    ids = encoding.encode_answer(tokenizer, sql)
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.bos_token_id not in ids
    assert encoding.decode_answer(tokenizer, ids) == sql


def test_a_prompt_begins_with_one_bos_and_has_no_eos(tokenizer):
    ids = encoding.encode_prompt(tokenizer, "How many?", "CREATE TABLE t (a INTEGER)")
    assert tokenizer.eos_token_id not in ids
    if tokenizer.bos_token_id is not None:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text == template.build_prompt("How many?", "CREATE TABLE t (a INTEGER)")


def test_a_tokenizer_without_bos_gets_none(qwen2_folder):
    tokenizer = AutoTokenizer.from_pretrained(qwen2_folder)
    assert tokenizer.bos_token_id is None
    assert None not in encoding.encode_prompt(tokenizer, "How many?", "CREATE TABLE t (a INTEGER)")


@pytest.mark.parametrize("token", ["</s>", "<s>", "<unk>", "<|endoftext|>", "<FILL_ME>", "▁<PRE>"])
def test_text_that_spells_a_special_token_stays_text(tokenizer, token):
    question, sql = f"What is {token}a {token} b?", f"SELECT '{token}', ' {token} ' FROM t"
    asked = encoding.encode_prompt(tokenizer, question, f"CREATE TABLE t (a TEXT DEFAULT '{token}')")
    answered = encoding.encode_answer(tokenizer, sql)
    assert not set(asked[1:] + answered[:-1]) & set(tokenizer.all_special_ids)
    # "▁" is how sentencepiece writes a blank, so such tokenizers read the one as the other.
    assert encoding.decode_answer(tokenizer, answered) in (sql, sql.replace("▁", " "))


def test_generation_asks_for_the_ids_that_training_continues(tokenizer, make_settings):
    row = {"question": " How many? ", "context": "CREATE TABLE t (a INTEGER)\n", "answer": "SELECT COUNT(*) FROM t"}
    asked = encoding.encode_prompt(tokenizer, row["question"], row["context"])
    trained = tokenise_rows([row], tokenizer, make_settings()).rows[0]["input_ids"]
    assert trained == asked + encoding.encode_answer(tokenizer, row["answer"])


def test_many_rows_are_encoded_as_one_by_one(tokenizer):
    rows = [{"question": f"Question {i}?" * i, "context": f"CREATE TABLE t{i} (a INTEGER)"} for i in range(1, 5)]
    assert encoding.encode_prompts(tokenizer, rows) == [encoding.encode_prompt(tokenizer, **row) for row in rows]
    assert encoding.encode_answers(tokenizer, QUERIES) == [encoding.encode_answer(tokenizer, sql) for sql in QUERIES]


def test_a_tokenizer_without_eos_is_refused():
    with pytest.raises(encoding.TokenizerError, match="no EOS"):
        encoding.check_tokenizer(byte_level(bos_token="<s>"))


def test_one_token_may_play_bos_and_eos():
    encoding.check_tokenizer(byte_level(bos_token="<|endoftext|>", eos_token="<|endoftext|>"))


def test_a_tokenizer_that_writes_eos_into_text_is_refused():
    with pytest.raises(encoding.TokenizerError, match="EOS into a row"):
        encoding.check_tokenizer(byte_level(eos_token="="))


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.Lowercase(),
        normalizers.StripAccents(),
        normalizers.Replace("  ", " "),
        normalizers.Replace("\n", " "),
    ],
    ids=["case", "accents", "spaces", "line breaks"],
)
def test_a_tokenizer_that_loses_text_is_refused(normalizer):
    lossless = byte_level(eos_token="</s>")
    encoding.check_tokenizer(lossless)
    if isinstance(normalizer, normalizers.StripAccents):
        normalizer = normalizers.Sequence([normalizers.NFD(), normalizer])
    with pytest.raises(encoding.TokenizerError, match="does not return SQL unchanged"):
        encoding.check_tokenizer(byte_level(normalizer, eos_token="</s>"))


def test_no_rows_have_no_prompts(llama_tokenizer):
    assert encoding.encode_prompts(llama_tokenizer, []) == []
