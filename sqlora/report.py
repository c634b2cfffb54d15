"""What a run shows to a person: the loss curve, the answers before and after, and the adapter's model card."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqlora import prompt
from sqlora.sql import exact_match

Answer = dict[str, str | None]  # question, context, answer, base, adapter; None for what is not known
WHOSE = ("base", "adapter")
KINDS = {
    "all": "all",
    "gained": "adapter right, base wrong",
    "lost": "base right, adapter wrong",
    "wrong": "adapter wrong",
}


def plot_loss_curve(metrics: Path, picture: Path, title: str) -> None:
    """Draws the losses of a metrics.jsonl, and the learning rate under them, into a PNG.

    A line that a killed run left half written is passed over.
    """
    from matplotlib.figure import Figure

    entries = _read_metrics(metrics)
    figure = Figure(figsize=(8, 5), layout="constrained")
    losses, rates = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    steps, values = _series(entries, "loss")
    losses.plot(steps, values, color="#0072b2", label="training loss")
    steps, values = _series(entries, "eval_loss")
    if values:
        losses.plot(steps, values, color="#d55e00", marker="o", markersize=4, label="evaluation loss")
        best = min(range(len(values)), key=values.__getitem__)
        losses.annotate(f"best {values[best]:.4f}\nat step {steps[best]}", (steps[best], values[best]), xytext=(0, 28),
                        textcoords="offset points", ha="right", arrowprops={"arrowstyle": "-", "color": "#555"})
    losses.set(title=title, ylabel="loss a token")
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False)
    rates.plot(*_series(entries, "learning_rate"), color="#555")
    rates.set(xlabel="step", ylabel="learning rate")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (losses, rates):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    _replace(picture, lambda partial: figure.savefig(partial, format="png", dpi=120))


def _read_metrics(path: Path) -> list[dict]:
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def _series(entries: list[dict], key: str) -> tuple[list[int], list[float]]:
    known = [(entry["step"], entry[key]) for entry in entries if key in entry]
    return [step for step, _ in known], [value for _, value in known]


def answer_facts(answers: list[Answer], base: str, adapter: Path | None) -> dict[str, str]:
    """What heads the before/after page: who answered, and how many answers match exactly where the right one is known."""
    facts = {"base model": _public_name(base), "adapter": str(adapter) if adapter else "none", "questions": str(len(answers))}
    known = [row for row in answers if row["answer"] is not None]
    for who in WHOSE:
        if known and known[0][who] is not None:
            right = sum(exact_match(row[who], row["answer"]) for row in known)
            facts[f"exact match, {who}"] = f"{right / len(known):.1%} ({right} of {len(known)})"
    return facts


def print_comparison(answers: list[Answer], console: Console, limit: int = 10) -> None:
    """The answers beside each other, those of the first `limit` questions, marked where the right one is known."""
    for row in answers[:limit]:
        table = Table(title=Text(row["question"] or "", style="bold"), title_justify="left", show_header=False, expand=True,
                      box=None, padding=(0, 1))
        table.add_column(width=10, style="dim")
        table.add_column(overflow="fold")
        if row["answer"] is not None:
            table.add_row("expected", Text(row["answer"]))
        for who in WHOSE:
            if row[who] is not None:
                table.add_row(who, Text.assemble(row[who] or "(nothing)", "  ", _mark(row, who, console)))
        console.print(table)
        console.print()
    if len(answers) > limit:
        console.print(f"... and {len(answers) - limit} more, on the page", style="dim")


def _mark(row: Answer, who: str, console: Console) -> tuple[str, str]:
    if row["answer"] is None:
        return "", ""
    signs = ("✓", "✗") if console.encoding.startswith("utf") else ("(right)", "(wrong)")
    right = exact_match(row[who], row["answer"])
    return signs[0 if right else 1], "green" if right else "red"


def write_page(page: Path, answers: list[Answer], curve: Path | None, facts: dict[str, str]) -> None:
    """One HTML file that needs no other: facts, the loss curve, and every question with its answers, to be filtered."""
    picture = ""
    if curve is not None:
        picture = f'<img class="curve" alt="Loss curve" src="data:image/png;base64,{base64.b64encode(curve.read_bytes()).decode()}">'
    kinds = [_kinds(row) for row in answers]
    choices = [
        f'<label><input type="radio" name="kind" value="{kind}"{" checked" if kind == "all" else ""}> {label} '
        f"({sum(kind in found for found in kinds)})</label>"
        for kind, label in KINDS.items() if any(row["answer"] is not None for row in answers) or kind == "all"
    ]
    parts = {
        "FACTS": "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items()),
        "CURVE": picture,
        "CHOICES": "\n".join(choices),
        "COUNT": str(len(answers)),
        "ROWS": "\n".join(_article(i, row, found) for i, (row, found) in enumerate(zip(answers, kinds, strict=True), start=1)),
    }
    # Split, not replaced one after the other: a question may spell a placeholder.
    pieces = Path(__file__).with_name("page.html").read_text(encoding="utf-8").replace("}}", "{{").split("{{")
    text = "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))
    _replace(page, lambda partial: partial.write_text(text, encoding="utf-8"))


def _kinds(row: Answer) -> list[str]:
    base, adapter = (exact_match(row[who], row["answer"]) for who in WHOSE)
    kinds = ["all"]
    if row["answer"] is not None and row["adapter"] is not None:
        kinds += [] if adapter else ["wrong"]
        if row["base"] is not None and base != adapter:
            kinds.append("gained" if adapter else "lost")
    return kinds


def _article(number: int, row: Answer, kinds: list[str]) -> str:
    def shown(title: str, sql: str | None) -> str:
        return "" if sql is None else f"<div><h3>{title}</h3><pre>{html.escape(sql) or '<span class=none>(nothing)</span>'}</pre></div>"

    def marked(who: str) -> str:
        if row["answer"] is None:
            return who
        right = exact_match(row[who], row["answer"])
        return f'{who} <span class="{"right" if right else "wrong"}">{"✓ as expected" if right else "✗ differs"}</span>'

    return (
        f'<article data-kinds="{" ".join(kinds)}"><h2><small>{number}</small>{html.escape(row["question"] or "")}</h2>'
        f'<details><summary>schema</summary><pre>{html.escape(row["context"] or "")}</pre></details>'
        f'<div class="answers">{shown("expected", row["answer"])}'
        f'{"".join(shown(marked(who), row[who]) for who in WHOSE)}</div></article>'
    )


def write_model_card(folder: Path, fingerprint: dict) -> None:
    """README.md for an adapter: what it is, how to use it, how it was made. Local paths stay out of it."""
    base, data, settings = fingerprint["base_model"], fingerprint["data"], fingerprint["settings"]
    name = _public_name(base["id"])
    hub_lines = f"base_model: {name}\n" if base["revision"] else ""
    shown = {key: value for key, value in settings.items() if not _is_path(value)}
    sections = {
        "": f"A LoRA adapter that turns a question and a database schema into SQL, for the base model `{name}`"
            + (f" at revision `{base['revision']}`." if base["revision"] else ".")
            + f" Trained with SQLoRA on {data['rows']} rows of `{_public_name(data['id'])}`.",
        "Prompt": "The model continues exactly this text; `{question}` and `{context}` (CREATE TABLE statements) are filled in:\n\n"
                  "```text\n" + prompt.TEMPLATE.replace("{instruction}", prompt.INSTRUCTION) + "```",
        "Use": f"""With SQLoRA: `python generate.py --base-model {name} --lora-checkpoint FOLDER`. With transformers and peft alone:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}", device_map="auto")
model = PeftModel.from_pretrained(model, "FOLDER")
text = open("prompt.txt").read()  # the prompt above, filled in, its last line break kept
inputs = tokenizer(text, return_tensors="pt").to(model.device)
output = model.generate(**inputs, max_new_tokens=128, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```""",
        "Settings": _markdown_table(("setting", "value"), shown),
        "Metrics": _markdown_table(("metric", "value"), fingerprint["metrics"]),
        "Versions": _markdown_table(("library", "version"), fingerprint["versions"]),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items())
    head = f"---\n{hub_lines}library_name: peft\npipeline_tag: text-generation\ntags:\n- text-to-sql\n- lora\n---\n"
    (folder / "README.md").write_text(f"{head}\n# {name}: SQL adapter\n\n{body}\n", encoding="utf-8")


def _markdown_table(head: tuple[str, str], rows: dict[str, object]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in (head, ("---", "---"), *rows.items()))


def _public_name(name: str) -> str:
    """A hub id as it is; of a local path the last part alone."""
    return Path(name).name if _is_path(name) else name


def _is_path(value: object) -> bool:
    return isinstance(value, str) and (value.startswith((".", "/", "~", "\\")) or value.count("/") > 1 or Path(value).exists())


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    partial = target.with_name(target.name + ".partial")
    write(partial)
    os.replace(partial, target)
