"""Every setting of SQLoRA. Edit a value here, or pass the flag of the same name: BATCH_SIZE is --batch-size.

A later layer wins: these constants, then --preset, then --from-run (how a finished run prompted and trained), then flags.
"""

from pathlib import Path

# What is read and written.
BASE_MODEL = "openlm-research/open_llama_3b"  # foundation model: a hub id, such as codellama/CodeLlama-7b-hf, or a folder
DATA_PATH = "b-mc2/sql-create-context"  # training rows: a hub id, or a .json, .jsonl, .csv or .parquet file
STREAMING = False  # read DATA_PATH while it is trained on: for data larger than memory (docs/how-it-works.md)
SHUFFLE_BUFFER = 10000  # rows of a stream among which the next one is drawn; the first so many give the validation rows
EXTRA_DATA = ""  # further training rows, such as the file of SAVE_FEEDBACK: what DATA_PATH takes
EXTRA_WEIGHT = 5  # how often a row of EXTRA_DATA stands in the training data, where one of DATA_PATH stands once
TEST_DATA = "test_data/samples.jsonl"  # rows that generate.py answers: question and context, answer if known
CHECKPOINT_DIR = "./lora_models"  # folder of a run: its checkpoints, metrics.jsonl, loss curve, before/after page
MODEL_PATH = "./saved_model"  # folder of the finished adapter
LORA_CHECKPOINT = "latest"  # adapter that generate.py loads: a folder, or latest (checkpoint or finished adapter)

# Where it runs.
DEVICE = "auto"  # auto (xpu, then cuda, then cpu), xpu, cuda or cpu
DTYPE = "auto"  # compute type: auto (bfloat16 where the device has it), bfloat16, float16 or float32
BACKEND = "bitsandbytes"  # whose low-bit weights: bitsandbytes, or bigdl (bigdl-llm, ipex-llm: requirements-bigdl.txt)
LOW_BIT = "nf4"  # weights of the frozen base: nf4, fp4 (double quantisation), sym_int4 (bigdl), or none (unquantised)

# Fine-tuning.
MAX_STEPS = 300  # optimiser steps
BATCH_SIZE = 32  # rows in a micro-batch, which several processes share out among them
GRADIENT_ACCUMULATION_STEPS = 4  # micro-batches in an optimiser step
LEARNING_RATE = 3e-4  # highest learning rate; a cosine takes it to zero
WARMUP_STEPS = 100  # steps in which the learning rate rises
MAX_GRAD_NORM = 0.3  # gradients with a larger norm are scaled down to it
LORA_R = 16  # rank of the adapter
LORA_ALPHA = 32  # the adapter's output is scaled by alpha / r
LORA_DROPOUT = 0.05  # share of the adapter's inputs that is dropped in training
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]  # linear layers that get an adapter, or ["all-linear"]
GRADIENT_CHECKPOINTING = False  # a third slower, in a fraction of the memory for each token
PACKING = "auto"  # what rows share goes through once: auto, tree (GPU), prefix (CPU), or off (padded); the same gradients
COMPILE = "auto"  # compile the decoder's layers: auto (a GPU with Triton; answers: from 20,000 on), on or off
MAX_TOKENS_PER_PASS = 0  # most tokens that go through the model at once; 0: what the free memory holds
PROMPT_ORDER = "question_first"  # or schema_first, so that questions on one schema share it
TRAIN_ON_INPUTS = False  # put the loss on the prompt's tokens too
MAX_LENGTH = 512  # longest row in tokens, prompt and SQL together
LONG_ROWS = "drop"  # a longer row is dropped and counted (drop) or ends the run (raise)
CHECK_DATA = "drop"  # run every expected SQL on its context: off, warn, drop what makes up names, or fix (repair the rest)
VALIDATION_ROWS = 100  # rows held out to measure the evaluation loss
HOLDOUT = ""  # a test file: rows that share a table, the SQL or the question with it are kept out of training
LOGGING_STEPS = 20  # steps between two logged losses
EVAL_STEPS = 20  # steps between two evaluations
SAVE_STEPS = 20  # steps between two checkpoints; a multiple of EVAL_STEPS
SAVE_TOTAL_LIMIT = 3  # checkpoints kept, the best among them
SEED = 42  # seed of the split, the order of rows, the adapter and its dropout, and sampled candidates
RESUME = False  # go on with the run in CHECKPOINT_DIR, with its own settings; generate.py: with the answers that are missing
ESTIMATE = False  # print the predicted peak memory and time per step, load no weights, and stop
REPORT_TO = "none"  # experiment tracker: none, tensorboard, wandb or trackio

# Generation.
MODEL = "both"  # whose SQL: base, adapter or both
MAX_NEW_TOKENS = 128  # most tokens in an answer, the prompt not counted
GENERATION_BATCH_SIZE = 0  # prompts answered at a time; 0: what the free memory holds
MERGE_FOR_GENERATION = "auto"  # answer with plain weights, the adapter folded in: auto (many rows, a GPU with room), on or off
NUM_BEAMS = 1  # beams in the search; 1 is greedy
NUM_CANDIDATES = 1  # queries written for each question; above 1 the one is kept whose rows most others give too
TEMPERATURE = 0.8  # of candidates that are sampled; with NUM_BEAMS the candidates are the best beams
REPETITION_PENALTY = 1.0  # above 1 it punishes the column names that the prompt repeats
QUESTION = ""  # one question instead of TEST_DATA; needs CONTEXT or DATABASE
CONTEXT = ""  # its schema: CREATE TABLE text, or a .sql file
OUTPUT = ""  # .jsonl file for question, context, answer, base and adapter; of a DATABASE for question, SQL and rows
EVALUATE = False  # run the answers and the expected SQL on synthetic databases, and compare the rows

# Your own database (docs/database.md).
DATABASE = ""  # it is asked instead of TEST_DATA: an SQLite file, or a URL such as postgresql://user@host/name; only read
QUESTIONS = ""  # questions for DATABASE: a .txt file, one a line, or a .json, .jsonl, .csv or .parquet file
TABLES = []  # tables of DATABASE that the model sees; empty: all, or those that suit the question where all do not fit
EXECUTE = False  # run the SQL on DATABASE and show the rows; with INTERACTIVE, without asking first
FORMAT = "table"  # of the rows: table (the first 50), csv or json
QUERY_SECONDS = 10.0  # deadline of a query on DATABASE
INTERACTIVE = False  # ask DATABASE question after question at a prompt
SAVE_FEEDBACK = ""  # .jsonl file to which INTERACTIVE adds answers that you corrected, as rows for EXTRA_DATA or DATA_PATH

DEMO = Path(__file__).parent / "demo"
PRESETS = {
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
        "MAX_GRAD_NORM": 1.0,
        "LORA_DROPOUT": 0.0,  # drawing it takes a third of a step on a CPU
        "LORA_TARGETS": ["all-linear"],
        "MAX_NEW_TOKENS": 80,
        "EVALUATE": True,
    },
}
