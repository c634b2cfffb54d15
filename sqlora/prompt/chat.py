"""A tokenizer's chat template: token ids of a user's message, and of the answer to it.

The ids are those that the tokenizer gives for the conversation rendered whole, as transformers and servers render it.
But text that spells a special token, such as "<|im_end|>", stays text, as elsewhere in SQLoRA.
"""

from __future__ import annotations

import functools
import re

from sqlora.system.errors import UserError

MESSAGE, ANSWER = "sqlora-message", "sqlora-answer"  # in place of texts, while the template is rendered once


class ChatTemplate:
    """What a chat template writes around a message and its answer. `ends` is the token that ends an answer, and `rest`
    are the ids that the template has after it.

    Raises UserError for a tokenizer without a chat template, or with one that cannot be trained on.
    """

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer
        prompt = _rendered(tokenizer, MESSAGE)
        whole = _rendered(tokenizer, MESSAGE, ANSWER)
        if prompt.count(MESSAGE) != 1 or whole.count(ANSWER) != 1 or not whole.startswith(prompt):
            raise _unusable("an answer does not continue the prompt that it gives")
        self.head, self.tail = prompt.split(MESSAGE)
        self.lead, ending = whole.removeprefix(prompt).split(ANSWER)
        self._special = re.compile("|".join(map(re.escape, sorted(tokenizer.get_added_vocab(), key=len, reverse=True))))
        specials = set(tokenizer.all_special_ids)
        self._tail_ids = self._ids([self.tail])[0]
        self._ending = ending
        self.rest: list[int] = []
        (ids,) = self.answers([ANSWER])
        places = [place for place, token in enumerate(ids) if token in specials]
        if not places:
            raise _unusable("it ends an answer without a special token, at which generation could stop")
        self.ends, self.rest = ids[places[0]], ids[places[0] + 1 :]

    def prompts(self, messages: list[str]) -> list[list[int]]:
        """The ids of each message in its conversation, up to where the answer begins."""
        return self._around(self.head, messages, self.tail)

    def answers(self, queries: list[str]) -> list[list[int]]:
        """The ids of each answer, up to the token that ends it."""
        behind = self._around(self.tail + self.lead, queries, self._ending)
        return [ids[len(self._tail_ids) : len(ids) - len(self.rest)] for ids in behind]

    def check(self, message: str, query: str) -> None:
        """Raises UserError unless the ids are those of the conversation rendered whole."""
        ids = self.prompts([message])[0] + self.answers([query])[0] + self.rest
        if ids != self._ids([_rendered(self.tokenizer, message, query)])[0]:
            raise _unusable("its tokens are not those of the conversation rendered whole")

    def _around(self, before: str, texts: list[str], after: str) -> list[list[int]]:
        whole = iter(self._ids([before + text + after for text in texts if not self._special.search(text)]))
        return [self._in_parts(before, text, after) if self._special.search(text) else next(whole) for text in texts]

    def _in_parts(self, before: str, text: str, after: str) -> list[int]:
        """The ids where `text` itself spells a special token: only those of the template become one."""
        first = max((found.end() for found in self._special.finditer(before)), default=0)
        last = found.start() if (found := self._special.search(after)) else len(after)
        start, end = self._ids([before[:first], after[last:]])
        (middle,) = self._ids([before[first:] + text + after[:last]], split_special_tokens=True)
        return start + middle + end

    def _ids(self, texts: list[str], split_special_tokens: bool = False) -> list[list[int]]:
        if not texts:  # tokenizers do not accept an empty list
            return []
        return self.tokenizer(texts, add_special_tokens=False, split_special_tokens=split_special_tokens)["input_ids"]


@functools.lru_cache(maxsize=4)
def chat_template(tokenizer) -> ChatTemplate:
    """The ChatTemplate of a tokenizer."""
    return ChatTemplate(tokenizer)


def _rendered(tokenizer, message: str, answer: str | None = None) -> str:
    """The conversation as text, up to where an answer begins or with one. Templates of models that think are told not
    to.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "PROMPT_FORMAT (--prompt-format) is chat, and the base model's tokenizer has no chat template; set it to "
            "plain, or take an instruct model"
        )
    turns = [{"role": "user", "content": message}]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    try:
        return tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=answer is None, enable_thinking=False
        )
    except Exception as error:  # of any type: it is a program of the model's author
        raise _unusable(f"it fails ({' '.join(str(error).split())})") from None


def _unusable(fault: str) -> UserError:
    return UserError(
        f"PROMPT_FORMAT (--prompt-format) is chat, and the base model's chat template cannot be used: {fault}; set it "
        f"to plain, or take another BASE_MODEL (--base-model)"
    )
