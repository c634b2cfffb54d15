"""Other ways to take the same training step, for benchmarks/training.py: the original script, Unsloth, and TRL.

    python benchmarks/peers.py NAME --model FOLDER --rows ROWS.jsonl --batch-size 32 --steps 12

Each is run in a process of its own, prints one JSON object in its last line, and takes the prompts, targets, adapter (r
16 on q, k, v and o) and NF4 weights of SQLoRA's default.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import time
from pathlib import Path

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path.insert(0, str(Path(__file__).parent.parent))
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
LEARNING_RATE = 1e-4


def tokenise(arguments) -> list[dict[str, list[int]]]:
    from sqlora.data import dataset
    from sqlora.data.tokenise import tokenise_rows
    from sqlora.model import base_models, loading
    from sqlora.settings.command_line import load_settings

    folder = str(arguments.model)
    rows = dataset.load_rows(str(arguments.rows), "--rows")
    random.Random(0).shuffle(rows)
    tokenizer = loading.load_tokenizer(base_models.BaseModel(arguments.model, folder, None, ""))
    return tokenise_rows(rows, tokenizer, load_settings([], "")).rows


def batches(rows, size, count):
    """Batches of rows of like length in random order, as `group_by_length` makes them."""
    chunk = 50 * size
    order = [
        row
        for start in range(0, len(rows), chunk)
        for row in sorted(rows[start : start + chunk], key=lambda row: -len(row["input_ids"]))
    ]
    made = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    random.Random(1).shuffle(made)
    return [made[i % len(made)] for i in range(count)]


def load_4bit(folder):
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=how, dtype=torch.bfloat16, device_map={"": 0}
    )


def original(arguments):
    """Left-padded rows, a mask, every token a target, gradient checkpointing, autocast."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    model = prepare_model_for_kbit_training(load_4bit(arguments.model), use_gradient_checkpointing=True)
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, lora_dropout=0.05, task_type="CAUSAL_LM")
    )

    def pad(rows):
        length = -(-max(len(row["input_ids"]) for row in rows) // 8) * 8
        gaps = [length - len(row["input_ids"]) for row in rows]
        return {
            "input_ids": torch.tensor([[0] * gap + row["input_ids"] for gap, row in zip(gaps, rows, strict=True)]),
            "attention_mask": torch.tensor([[0] * gap + [1] * (length - gap) for gap in gaps]),
            "labels": torch.tensor([[-100] * gap + row["input_ids"] for gap, row in zip(gaps, rows, strict=True)]),
        }

    return loop(arguments, model, pad, torch.autocast("cuda", dtype=torch.bfloat16))


def unsloth(arguments):
    """Unsloth's model in a plain loop, right-padded rows, answers as targets, no gradient checkpointing."""
    import torch

    def pad(rows):
        length = -(-max(len(row["input_ids"]) for row in rows) // 8) * 8
        return {
            key: torch.tensor([row[key] + [filler] * (length - len(row[key])) for row in rows])
            for key, filler in (("input_ids", 0), ("labels", -100))
        }

    return loop(arguments, unsloth_model(arguments), pad, torch.autocast("cuda", dtype=torch.bfloat16))


def unsloth_model(arguments):
    import torch
    from unsloth import FastLanguageModel

    model, _ = FastLanguageModel.from_pretrained(
        str(arguments.model), max_seq_length=1024, load_in_4bit=True, dtype=torch.bfloat16
    )
    return FastLanguageModel.get_peft_model(
        model,
        r=16,
        lora_alpha=32,
        lora_dropout=0,
        target_modules=TARGETS,
        bias="none",
        use_gradient_checkpointing=False,
    )


def unsloth_packed(arguments):
    """Unsloth's own trainer with packing."""
    return sft(arguments, unsloth_model(arguments))


def trl(arguments):
    """TRL's SFTTrainer with packing."""
    from peft import LoraConfig, get_peft_model

    model = load_4bit(arguments.model)
    model.requires_grad_(False)
    return sft(
        arguments, get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
    )


def sft(arguments, model):
    """Rows packed into sequences of 1,024 tokens; as many sequences a batch as hold about `batch_size` rows."""
    import tempfile

    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows = tokenise(arguments)
    length = 1024
    mean = sum(len(row["input_ids"]) for row in rows) / len(rows)
    masks = [[int(label != -100) for label in row["labels"]] for row in rows]
    dataset = Dataset.from_dict({"input_ids": [row["input_ids"] for row in rows], "completion_mask": masks})
    sequences = max(1, round(arguments.batch_size * mean / length))

    class Clock(TrainerCallback):
        def __init__(self):
            self.losses, self.times = [], []

        def on_step_end(self, args, state, control, **_):
            torch.cuda.synchronize()
            self.times.append(time.perf_counter())

        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in (logs or {}):
                self.losses.append(round(logs["loss"], 4))

    clock = Clock()
    how = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=arguments.steps,
        per_device_train_batch_size=sequences,
        gradient_accumulation_steps=1,
        packing=True,
        max_length=length,
        learning_rate=LEARNING_RATE,
        max_grad_norm=0.3,
        bf16=True,
        logging_steps=1,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        dataset_num_proc=1,
        completion_only_loss=True,
        optim="adamw_torch_fused",
    )
    trainer = SFTTrainer(
        model=model,
        args=how,
        train_dataset=dataset,
        callbacks=[clock],
        processing_class=AutoTokenizer.from_pretrained(arguments.model),
    )
    packed = trainer.train_dataset
    tokens = sum(map(len, packed["input_ids"])) / len(packed)  # of a packed sequence
    trainer.train()
    seconds = (clock.times[-1] - clock.times[2]) / (len(clock.times) - 3)
    return result(arguments, sequences * tokens / mean / seconds, clock.losses)


def loop(arguments, model, pad, context):
    import torch

    rows = tokenise(arguments)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, fused=True)
    losses, count, seconds = [], 0, 0.0
    torch.cuda.reset_peak_memory_stats()
    for step, batch in enumerate(batches(rows, arguments.batch_size, arguments.steps)):
        torch.cuda.synchronize()
        start = time.perf_counter()
        inputs = {key: tensor.cuda() for key, tensor in pad(batch).items()}
        with context if context is not None else contextlib.nullcontext():
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.3)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        losses.append(round(loss.item(), 4))
        if step >= 3:  # after the first, which compile and allocate
            seconds += time.perf_counter() - start
            count += len(batch)
    return result(arguments, count / seconds, losses)


def result(arguments, rows_per_second, losses):
    import torch

    return {
        "rows_per_second": round(rows_per_second, 1),
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "losses": losses,
    }


VARIANTS = {"original": original, "unsloth": unsloth, "unsloth-packed": unsloth_packed, "trl": trl}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=VARIANTS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    if arguments.name.startswith("unsloth"):
        import unsloth  # noqa: F401 (before transformers, which it patches)
    print(json.dumps(VARIANTS[arguments.name](arguments)), flush=True)


if __name__ == "__main__":
    main()
