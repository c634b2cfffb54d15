"""Packing on a CPU: training rows a second, packed against padded, with the demo's model and in alternating runs.

    python benchmarks/packing_cpu.py [--runs 3] [--steps 30]

First finetune.py --preset tiny as it is and with --packing off, evaluations and saving not counted. Then training steps
on one schema of 12 tables with 32 questions, PROMPT_ORDER schema_first. Prints the medians, and their ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
TABLES = [
    "singer",
    "concert",
    "stadium",
    "song",
    "album",
    "ticket",
    "visitor",
    "band",
    "label",
    "tour",
    "venue",
    "award",
]
COLUMNS = [
    "id INTEGER",
    "name VARCHAR",
    "city VARCHAR",
    "year INTEGER",
    "age INTEGER",
    "price INTEGER",
    "owner_id INTEGER",
]


def finetune(packing: str, steps: int) -> float:
    """Rows a second of finetune.py --preset tiny."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        subprocess.run(
            [
                sys.executable,
                ROOT / "finetune.py",
                "--preset",
                "tiny",
                "--packing",
                packing,
                "--max-steps",
                str(steps),
                "--eval-steps",
                str(steps),
                "--save-steps",
                str(steps),
                "--validation-rows",
                "16",
                "--checkpoint-dir",
                work / "run",
                "--model-path",
                work / "adapter",
            ],
            check=True,
            stdout=sys.stderr,
        )
        return json.loads((work / "adapter" / "sqlora.json").read_text())["metrics"]["rows_per_second"]


def one_schema() -> list[dict[str, str]]:
    """32 questions on one schema."""
    context = "; ".join(f"CREATE TABLE {table} ({', '.join(COLUMNS)})" for table in TABLES)
    forms = [
        ("How many {}s are there in {}?", "SELECT COUNT(*) FROM {} WHERE city = '{}'"),
        ("List the names of all {}s from {}.", "SELECT name FROM {} WHERE city = '{}'"),
        ("What is the highest price of a {} in {}?", "SELECT MAX(price) FROM {} WHERE city = '{}'"),
    ]
    pairs = [(forms[i % 3], TABLES[i % 12], city) for i, city in enumerate(["Rome", "Oslo", "Lima", "Bonn"] * 8)]
    return [
        {"question": asked.format(table, city), "context": context, "answer": answer.format(table, city)}
        for (asked, answer), table, city in pairs
    ]


def steps_on_one_schema(runs: int) -> tuple[dict[str, list[float]], int]:
    """Rows a second of a forward and backward pass over the 32 rows, by form, and the tokens of a row."""
    import torch

    from sqlora.data import tokenise
    from sqlora.model import base_models, device, loading
    from sqlora.settings.command_line import load_settings
    from sqlora.training.packing import packed_batches, packed_loss, plan

    found: dict[str, list[float]] = {}
    steps = {}
    for form in ("off", "prefix", "tree"):
        settings = load_settings(
            [
                "--preset",
                "tiny",
                "--device",
                "cpu",
                "--prompt-order",
                "schema_first",
                "--max-length",
                "2048",
                "--packing",
                form,
            ],
            "",
        )
        chosen = device.choose_device(settings.DEVICE, settings.DTYPE)
        base = base_models.find_base_model(settings.BASE_MODEL)
        rows = tokenise.tokenise_rows(one_schema(), loading.load_tokenizer(base), settings).rows
        model = loading.wrap_with_adapter(
            loading.load_base(base, settings.LOW_BIT, chosen, training=True), settings
        ).train()
        chosen_form = plan.choose_plan(model.config, settings, chosen)
        plan.prepare_model(model, chosen_form, chosen)
        steps[form] = model, packed_batches.make_batches(rows, chosen_form.name, 10**6)

    def step(form: str) -> None:
        model, made = steps[form]
        with torch.autocast("cpu", dtype=chosen.dtype, enabled=chosen.dtype != torch.float32):
            losses = [packed_loss.loss_sum(model, one, model.get_base_model()) for one in made]
        sum(losses).backward()
        model.zero_grad()

    for run in range(runs + 1):  # the first warms up
        for form in steps:
            start = time.perf_counter()
            step(form)
            if run:
                found.setdefault(form, []).append(len(rows) / (time.perf_counter() - start))
    return found, statistics.mean(len(row["input_ids"]) for row in rows)


def tell(title: str, found: dict[str, list[float]], against: str) -> None:
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    print(f"\n{title}")
    for name, rate in medians.items():
        spread = f"({min(found[name]):.1f} to {max(found[name]):.1f})"
        print(f"  {name:<8} {rate:8.1f} rows/s {spread}  {rate / medians[against]:.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {"off": [], "auto": []}
    for _ in range(arguments.runs):
        for packed_batches, rates in found.items():
            rates.append(finetune(packed_batches, arguments.steps))
    tell("finetune.py --preset tiny", found, "off")
    schema, tokens = steps_on_one_schema(arguments.runs)
    tell(f"one schema of 12 tables, 32 questions, schema first, {tokens:.0f} tokens a row", schema, "off")


if __name__ == "__main__":
    main()
