"""A tiny model that has learned a few answers by heart, so that what follows a model can be tried with a real one."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sqlora.data import tokenise
from sqlora.prompt import encoding, template

STEPS = 400


def teach(folder: Path, rows: list[dict[str, str]], target: Path, order: str = template.DEFAULT_LAYOUT) -> Path:
    """The model of `folder`, trained in `target` until it answers each row's question over its context with its
    answer.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    prompts = encoding.encode_prompts(tokenizer, rows, order)
    answers = encoding.encode_answers(tokenizer, [row["answer"] for row in rows])
    length = max(len(start) + len(end) for start, end in zip(prompts, answers, strict=True))
    ids, labels = (
        torch.zeros(len(rows), length, dtype=torch.int64),
        torch.full((len(rows), length), tokenise.IGNORED_LABEL),
    )
    for number, (start, end) in enumerate(zip(prompts, answers, strict=True)):
        ids[number, : len(start + end)] = torch.tensor(start + end)
        labels[number, len(start) : len(start + end)] = torch.tensor(end)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    loss = torch.tensor(1.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two would wait for each other most of the time
    for _ in range(STEPS):
        if loss < 0.03:
            break
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    torch.set_num_threads(threads)
    assert loss < 0.03, f"not learned: {loss:.3f}"
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


CONTEXT = (
    'CREATE TABLE Song (SongId INTEGER, singer_id INTEGER, Title VARCHAR, "order" INTEGER, "play count" INTEGER); '
    "CREATE TABLE singer (singer_id INTEGER, name VARCHAR, age INTEGER, born DATE, fee REAL)"
)
LEARNED = {  # over these tables, which are those of servers.py
    "How many singers are there?": "SELECT COUNT(*) FROM singer",
    "Who is older than 20?": "SELECT NAME FROM singer WHERE age > 20",
    "Which songs were played most?": 'SELECT title FROM song ORDER BY "play count" DESC',
    "Who is older than 20, who sings?": "SELECT name FROM singer WHERE age > 20 AND singer_id IN (SELECT SINGER_ID "
    "FROM Song)",
    "How tall is Ann?": "SELECT height FROM singer",
}


def learned() -> list[dict[str, str]]:
    return [{"question": question, "context": CONTEXT, "answer": answer} for question, answer in LEARNED.items()]
