"""Two GPUs of one host beside one: speed, losses and memory of finetune.py, a process that is killed, a shared base;
generate.py.

    python benchmarks/two_gpus.py --rows ROWS.jsonl --tokenizer TOKENIZER.model [--parts one two ...] [--seconds 100]
    python benchmarks/two_gpus.py --shape tiny          on two CPU processes, the demo's model: the same steps, no speed

The parts, each of which prints a line of JSON as it ends, and is ended after --timeout seconds:

    one     the shape's NF4 weights in one process
    two     in two (NCCL, without NVLink multicast), with as many rows a step
    share   a 34B shape whose base two processes share (FSDP2): some steps, a checkpoint, and --resume
    kill    the demo's model: the second process is killed in mid-run, then --resume
    answers generate.py in one process and in two: the shape's base, 40 tokens to each row; the demo's in float32

Weights are random, right for speed and memory. They are written in 4 bits, since 34B parameters in 16 would fill the
disk.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import full_size

ROOT = full_size.ROOT
SHAPES = {
    "codellama-7b": full_size.SHAPES["codellama-7b"],
    "codellama-34b": {
        "hidden_size": 8192,
        "intermediate_size": 22016,
        "num_hidden_layers": 48,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "max_position_embeddings": 16384,
        "rope_theta": 1e6,
    },
}
PARTS = ("one", "two", "share", "kill", "answers")
ERROR = re.compile(r"^(error|note|\w*(Error|Exception)): ")
ENVIRONMENT = {"NCCL_NVLS_ENABLE": "0", "HF_HUB_OFFLINE": "1"}


def make_model(folder: Path, shape: str, tokenizer: Path) -> None:
    """A random Llama as safetensors, a file a layer, its linear layers in NF4 with double quantisation."""
    import torch
    from bitsandbytes.functional import quantize_4bit
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    sizes = dict(SHAPES[shape])
    rope = {"rope_type": "default", "rope_theta": sizes.pop("rope_theta", 1e4)}
    config = LlamaConfig(**sizes, rope_parameters=rope, dtype="bfloat16", architectures=["LlamaForCausalLM"])
    config.quantization_config = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    }
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    shutil.copy(tokenizer, folder / "tokenizer.model")
    torch.manual_seed(0)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    size, wide = config.hidden_size, config.intermediate_size
    keys = size // config.num_attention_heads * config.num_key_value_heads
    linear = {
        "self_attn.q_proj": (size, size),
        "self_attn.k_proj": (keys, size),
        "self_attn.v_proj": (keys, size),
        "self_attn.o_proj": (size, size),
        "mlp.gate_proj": (wide, size),
        "mlp.up_proj": (wide, size),
        "mlp.down_proj": (size, wide),
    }

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=torch.bfloat16) * config.initializer_range

    def ones() -> torch.Tensor:
        return torch.ones(size, device=device, dtype=torch.bfloat16)

    placed = {}

    def write(tensors: dict[str, torch.Tensor], number: int) -> None:
        name = f"model-{number:05d}.safetensors"
        save_file({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}, folder / name, {"format": "pt"})
        placed.update(dict.fromkeys(tensors, name))

    for number in range(config.num_hidden_layers):
        tensors = {
            f"model.layers.{number}.{name}.weight": ones() for name in ("input_layernorm", "post_attention_layernorm")
        }
        for name, shape in linear.items():
            packed, state = quantize_4bit(drawn(*shape), compress_statistics=True, quant_type="nf4")
            weight = f"model.layers.{number}.{name}.weight"
            tensors |= {weight: packed} | {
                f"{weight}.{key}": value for key, value in state.as_dict(packed=True).items()
            }
        write(tensors, number)
    write(
        {
            "model.embed_tokens.weight": drawn(config.vocab_size, size),
            "lm_head.weight": drawn(config.vocab_size, size),
            "model.norm.weight": ones(),
        },
        config.num_hidden_layers,
    )
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


class Bench:
    """The runs of the scripts, in a folder, within so many seconds in all."""

    def __init__(self, arguments, work: Path):
        self.arguments = arguments
        self.work = work
        self.end = time.monotonic() + arguments.seconds
        self.tiny = arguments.shape == "tiny"

    def seconds_left(self) -> float:
        return min(self.arguments.timeout, self.end - time.monotonic())

    def model(self, shape: str) -> list[str]:
        """The flags that name a shape's model, which is made if it is not there, and the rows."""
        if shape == "tiny":
            return ["--preset", "tiny"]
        folder = self.work / shape
        if not folder.is_dir():
            code = (
                "import sys; from pathlib import Path; from benchmarks import two_gpus; "
                "two_gpus.make_model(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))"
            )
            partial = self.work / f"partial-{shape}"
            shutil.rmtree(partial, ignore_errors=True)
            start = time.monotonic()
            subprocess.run(
                [sys.executable, "-c", code, partial, shape, self.arguments.tokenizer.resolve()],
                check=True,
                cwd=ROOT,
                timeout=self.seconds_left(),
            )
            partial.rename(folder)
            tell("model", {"shape": shape, "seconds": round(time.monotonic() - start, 1)})
        return ["--base-model", str(folder), "--data-path", str(self.arguments.rows.resolve())]

    def train(self, run: str, count: int, flags: list[str], shared: bool = False) -> subprocess.Popen:
        return self.start(
            "finetune.py",
            run,
            count,
            [
                *flags,
                "--check-data",
                "off",
                "--lora-dropout",
                "0",
                "--gradient-accumulation-steps",
                "1",
                "--validation-rows",
                "16",
                "--packing",
                self.arguments.packing,
            ],
            shared,
        )

    def start(self, script: str, run: str, count: int, flags: list[str], shared: bool = False) -> subprocess.Popen:
        common = [
            "--checkpoint-dir",
            self.work / run / "lora_models",
            "--model-path",
            self.work / run / "saved_model",
            "--compile",
            self.arguments.compile,
            *(["--device", "cpu"] if self.arguments.cpu else []),
        ]
        how = ["--use_fsdp", "--fsdp_version", "2"] if shared else ["--multi_gpu"]
        launcher = (
            [
                "-m",
                "accelerate.commands.launch",
                *how,
                "--num_processes",
                count,
                "--num_machines",
                "1",
                "--mixed_precision",
                "no",
                "--dynamo_backend",
                "no",
                "--main_process_port",
                "0",
            ]
            if count > 1
            else []
        )
        command = [sys.executable, *launcher, ROOT / script, *flags, *common]
        log = (self.work / f"{run}.log").open("a")
        return subprocess.Popen(
            list(map(str, command)), env=os.environ | ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
        )

    def finish(self, run: str, process: subprocess.Popen) -> None:
        """Waits for a run. Raises what subprocess.run raises, with the errors in its log."""
        try:
            code = process.wait(max(1, self.seconds_left()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            if process.returncode:  # the launcher's own trace comes last, and says nothing
                log = (self.work / f"{run}.log").read_text()
                print(
                    "\n".join(line[:300] for line in log.splitlines() if ERROR.search(line)),
                    file=sys.stderr,
                    flush=True,
                )
        if code:
            raise subprocess.CalledProcessError(code, process.args)

    def figures(self, run: str) -> dict:
        """Of the last half of a run's logged steps; the peak is that of the fullest card."""
        logged = [
            json.loads(line) for line in (self.work / run / "lora_models" / "metrics.jsonl").read_text().splitlines()
        ]
        entries = [entry for entry in logged if "loss" in entry]
        steady = [entry["rows_per_second"] for entry in entries[len(entries) // 2 :]]
        return {
            "rows_per_second": round(statistics.harmonic_mean(steady), 1),
            "peak_memory_gb": round(max(entry["peak_memory_bytes"] for entry in entries) / 1e9, 2),
            "losses": {entry["step"]: round(entry["loss"], 5) for entry in entries},
        }

    def steps(self, steps: int, save: int | None = None, each: int = 2) -> list[str]:
        save = save or steps
        return [
            "--max-steps",
            str(steps),
            "--warmup-steps",
            str(min(4, steps - 1)),
            "--logging-steps",
            str(each),
            "--eval-steps",
            str(save),
            "--save-steps",
            str(save),
        ]

    def whole(self, run: str, count: int, flags: list[str], shared: bool = False) -> dict:
        start = time.monotonic()
        self.finish(run, self.train(run, count, flags, shared))
        return self.figures(run) | {"seconds": round(time.monotonic() - start, 1)}

    def one(self) -> dict:
        batch = ["--batch-size", str(self.arguments.batch_size), *self.steps(self.arguments.steps)]
        return self.whole("one", 1, [*self.model(self.arguments.shape), *batch])

    def two(self) -> dict:
        batch = ["--batch-size", str(self.arguments.batch_size), *self.steps(self.arguments.steps)]
        found = self.whole("two", 2, [*self.model(self.arguments.shape), *batch])
        if (self.work / "one" / "lora_models" / "metrics.jsonl").is_file():
            alone = self.figures("one")
            apart = [
                abs(found["losses"][step] - loss) for step, loss in alone["losses"].items() if step in found["losses"]
            ]
            found |= {
                "speed_up": round(found["rows_per_second"] / alone["rows_per_second"], 2),
                "losses_apart_at_most": round(max(apart), 5),
            }
        return found

    def share(self) -> dict:
        """FSDP2: a run with a checkpoint half-way, and one that goes on from it."""
        model = self.model("tiny" if self.tiny else "codellama-34b")
        batch = ["--batch-size", str(self.arguments.share_batch_size)]
        half = self.arguments.share_steps
        found = self.whole("share", 2, [*model, *batch, *self.steps(half, each=1)], shared=True)
        tell("share, first half", found)
        flags = ["--resume", "--max-steps", str(2 * half)]
        resumed = self.whole("share", 2, [*model, *batch, *self.steps(half, each=1), *flags], shared=True)
        return resumed | {"first_half": found}

    def kill(self) -> dict:
        """How long the other process lives on, and what --resume goes on from."""
        import psutil

        flags = [*self.model("tiny"), *self.steps(400, 5, 5)]
        process = self.train("kill", 2, flags)
        run = self.work / "kill" / "lora_models"
        while not (run / "checkpoint-10").is_dir():
            if process.poll() is not None or self.seconds_left() <= 0:
                self.finish("kill", process)
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        ranks = {child.environ().get("RANK"): child for child in children}
        start = time.monotonic()
        ranks["1"].kill()
        psutil.wait_procs([ranks["0"]], timeout=max(1, self.seconds_left()))
        other = time.monotonic() - start
        code = process.wait(max(1, self.seconds_left()))
        launcher = time.monotonic() - start
        newest = max(int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*"))
        tell(
            "kill",
            {
                "other_ended_after_seconds": round(other, 1),
                "launcher_ended_after_seconds": round(launcher, 1),
                "launcher_returned": code,
                "newest_checkpoint": newest,
            },
        )
        found = self.whole("kill", 2, [*flags, "--resume", "--max-steps", str(newest + 5)])
        steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {
            "other_ended_after_seconds": round(other, 1),
            "resumed_after_step": newest,
            "steps_logged_once": len(steps) == len(set(steps)),
            "last_step": steps[-1],
            "resume_seconds": found["seconds"],
        }

    def answers(self) -> dict:
        """The speed of two processes, and how many of their answers are those of one."""
        demo = ["--preset", "tiny", "--model", "base", "--dtype", "float32", "--low-bit", "none"]
        found = {"demo_alike": self.both("demo", demo)["alike"]}
        if self.tiny:
            return found
        rows = self.work / "questions.jsonl"
        rows.write_text(self.arguments.rows.read_text() * 2)
        return found | self.both(
            "answers",
            [*self.model(self.arguments.shape), "--test-data", str(rows), "--model", "base", "--max-new-tokens", "40"],
        )

    def both(self, name: str, flags: list[str]) -> dict:
        written, paces = [], []
        for count in (1, 2):
            run = f"{name}-{count}"
            output = self.work / f"{run}.jsonl"
            self.finish(run, self.start("generate.py", run, count, [*flags, "--output", str(output)]))
            written.append([json.loads(line)["base"] for line in output.read_text().splitlines()])
            paces.append(
                float(re.findall(r"answers written .* ([\d.]+) a second", (self.work / f"{run}.log").read_text())[-1])
            )
            tell(run, {"answers_per_second": paces[-1]})
        alike = sum(one == other for one, other in zip(*written, strict=True))
        return {
            "alike": f"{alike} of {len(written[0])}",
            "speed_up": round(paces[1] / paces[0], 2),
            "answers_per_second": paces,
        }


def tell(part: str, found: dict) -> None:
    print(json.dumps({"part": part} | found), flush=True)


def table(found: dict[str, dict]) -> str:
    lines = ["| part | rows/s | peak GB, fullest card | speed-up | losses apart at most |", "|---|---|---|---|---|"]
    for part, figures in found.items():
        cells = [
            figures.get(name, "") for name in ("rows_per_second", "peak_memory_gb", "speed_up", "losses_apart_at_most")
        ]
        lines.append(f"| {part} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="training rows, as DATA_PATH takes them")
    parser.add_argument("--tokenizer", type=Path, help="a Llama's tokenizer.model of 32,000 pieces")
    parser.add_argument("--shape", choices=("codellama-7b", "tiny"), default="codellama-7b")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--folder", type=Path, help="where models and runs are made, and stay; otherwise a temporary folder"
    )
    parser.add_argument(
        "--seconds", type=float, default=100, help="in all; a part for which none are left is not begun"
    )
    parser.add_argument("--timeout", type=float, default=90, help="seconds for a run of a script")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, help="rows of a step, of all processes (7B: 128, tiny: 16)")
    parser.add_argument(
        "--share-steps", type=int, default=3, help="steps of share before, and again after, its resumption"
    )
    parser.add_argument("--share-batch-size", type=int, default=32)
    parser.add_argument(
        "--compile", choices=("auto", "on", "off"), default="off", help="the first compilation takes 40 to 100 s"
    )
    parser.add_argument("--packing", default="auto")
    parser.add_argument("--cpu", action="store_true", help="on CPUs, whatever there is")
    arguments = parser.parse_args()
    arguments.batch_size = arguments.batch_size or (16 if arguments.shape == "tiny" else 128)
    if arguments.shape != "tiny" and not (arguments.rows and arguments.tokenizer):
        parser.error("--rows and --tokenizer are needed")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(arguments, (arguments.folder or Path(temporary)).resolve())
        bench.work.mkdir(parents=True, exist_ok=True)
        found: dict[str, dict] = {}
        for part in arguments.parts:
            if bench.seconds_left() < 5:
                tell(part, {"error": "no time left"})
                continue
            try:
                found[part] = getattr(bench, part)()
                tell(part, found[part])
            except (subprocess.SubprocessError, OSError, KeyError, ValueError) as error:
                tell(part, {"error": f"{type(error).__name__}: {error}"[:300]})
    print(f"\n{full_size.machine()}, {arguments.shape}, compile {arguments.compile}\n\n{table(found)}", flush=True)


if __name__ == "__main__":
    main()
