"""The prompt's text, and the SQL in a model's answer to it."""

import hashlib
import re
from collections.abc import Mapping

INSTRUCTION = (
    "You are given a question and the tables of a database. Write one SQL query that answers the question. "
    "Use only the tables and columns that the context names, and write nothing but the query."
)
MESSAGES = {  # by PROMPT_ORDER
    "question_first": "{instruction}\n\n### Input:\n{question}\n\n### Context:\n{context}",
    "schema_first": "{instruction}\n\n### Context:\n{context}\n\n### Input:\n{question}",
}
CHAT = " chat"
# By layout: PROMPT_ORDER, and " chat" if PROMPT_FORMAT is that; then the text is a user's message.
TEMPLATES = {order: message + "\n\n### Response:\n" for order, message in MESSAGES.items()} | {
    order + CHAT: message for order, message in MESSAGES.items()
}
DEFAULT_LAYOUT = "question_first"
HINT = "{question}\n\n### Hint:\n{evidence}"  # of a question with evidence, as BIRD's have it
VALUES = "{context}\n\n### Values:\n{values}"  # of a context with values that the question names


def build_prompt(
    question: str, context: str, layout: str = DEFAULT_LAYOUT, evidence: str = "", values: str = ""
) -> str:
    """The text that the model continues with SQL, or answers in a chat.

    `evidence` is a hint to the question, as some data sets have it, and `values` are lines of columns with values that
    it names.

    Runs of blanks in the context become one: indentation has no meaning and costs tokens, and tokenizers that
    transformers reads from a tokenizer.model split it differently than sentencepiece does.
    """
    context = re.sub(r"[ \t]+", " ", context.strip())
    question = question.strip()
    if evidence.strip():
        question = HINT.format(question=question, evidence=evidence.strip())
    if values:
        context = VALUES.format(context=context, values=values)
    return TEMPLATES[layout].format(instruction=INSTRUCTION, question=question, context=context)


def prompt_of(row: Mapping[str, str], layout: str = DEFAULT_LAYOUT) -> str:
    """The prompt of a row with question and context, and perhaps evidence and values."""
    return build_prompt(row["question"], row["context"], layout, row.get("evidence", ""), row.get("values", ""))


def layout_flags(layout: str) -> str:
    """The flags that give a layout."""
    return f"--prompt-order {layout.removesuffix(CHAT)} --prompt-format {'chat' if is_chat(layout) else 'plain'}"


def is_chat(layout: str) -> bool:
    """Whether the text of a prompt is a message in a chat."""
    return layout.endswith(CHAT)


def prompt_hash(layout: str, chat_template: str = "") -> str:
    """Sixteen hexadecimal digits that change when the prompt does, its layout, or in a chat the `chat_template`."""
    around = chat_template if is_chat(layout) else ""
    return hashlib.sha256((INSTRUCTION + TEMPLATES[layout] + around).encode()).hexdigest()[:16]


def extract_sql(text: str) -> str:
    """The first SQL statement in a model's answer, trimmed and without its semicolon.

    Of an answer with a code fence it is the content of the fence. Ends at a semicolon outside quotes and comments, or
    at a further "###" heading.
    """
    before, fence, after = text.partition("```")
    if fence and not re.match(r"\s*(select|with)\b", before, re.IGNORECASE):
        before = re.sub(r"^(\w*sql\w*|\w*\n)", "", after, flags=re.IGNORECASE).split("```")[0]
    text = before.split("\n###")[0]
    for token in re.finditer(r"--[^\n]*|/\*.*?(?:\*/|\Z)|(['\"`]).*?(?:\1|\Z)|;", text, re.DOTALL):
        if token[0] == ";":
            text = text[: token.start()]
            break
    return text.strip()
