"""finetune.py and generate.py from end to end, on a tiny random Llama and rows of the test's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import concert
import patience
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

import finetune
import generate
from sqlora.model import adapter
from sqlora.storage import atomic, checkpoints, outputs
from sqlora.system.errors import UserError, exit_on_user_error

ROOT = Path(__file__).parent.parent
SHORT = (
    "--max-steps",
    "4",
    "--eval-steps",
    "2",
    "--save-steps",
    "2",
    "--logging-steps",
    "2",
    "--warmup-steps",
    "1",
    "--validation-rows",
    "4",
    "--batch-size",
    "4",
    "--gradient-accumulation-steps",
    "1",
    "--max-new-tokens",
    "8",
)


@pytest.fixture
def rows_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"question": f"How many {i}?", "context": f"CREATE TABLE t{i} (a INTEGER)", "answer": f"SELECT {i} FROM t{i}"}
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def short_run(llama_folder, rows_file, make_settings):
    """Settings of a run of seconds, with further flags."""
    return lambda *flags: make_settings(
        "--base-model", str(llama_folder), "--data-path", str(rows_file), "--test-data", str(rows_file), *SHORT, *flags
    )


def test_the_main_job_as_a_user_runs_it(llama_folder, rows_file, tmp_path):
    flags = ["--base-model", llama_folder, "--data-path", rows_file, "--test-data", rows_file, *SHORT]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"}

    def run(script, *more):
        return subprocess.run(
            [sys.executable, ROOT / script, *map(str, flags), *more],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=patience.SECONDS,
        )

    trained = run("finetune.py")
    assert trained.returncode == 0, trained.stderr
    for fact in (
        "foundation model",
        "adapter save path",
        "cpu:",
        "batch size",
        "warm-up 1",
        "learning rate",
        "24 read",
    ):
        assert fact in trained.stdout
    assert trained.stderr == ""
    finished = tmp_path / "saved_model"
    assert outputs.CARD.fits(finished / "README.md")
    assert {path.name for path in finished.iterdir()} == {
        ".lock",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "sqlora.json",
    }
    assert json.loads((finished / "sqlora.json").read_text())["status"] == "finished"
    assert str(tmp_path) not in (finished / "README.md").read_text()
    assert (tmp_path / "lora_models" / "loss.png").stat().st_size > 5000

    answered = run("generate.py", "--output", "answers.jsonl", "--evaluate")
    assert answered.returncode == 0, answered.stderr
    assert answered.stderr == ""
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    given = [json.loads(line) for line in rows_file.read_text().splitlines()]
    assert [row["question"] for row in answers] == [row["question"] for row in given]
    assert all(answer.keys() == {"question", "context", "answer", "base", "adapter", "decoding"} for answer in answers)
    assert "execution match" in (tmp_path / "lora_models" / "before_after.html").read_text()
    for kind, name in (
        (outputs.ANSWERS, "answers.jsonl"),
        (outputs.LOGGED_STEPS, "lora_models/metrics.jsonl"),
        (outputs.WEB_PAGE, "lora_models/before_after.html"),
        (outputs.VERDICTS, "lora_models/evaluation.json"),
    ):
        assert kind.fits(tmp_path / name), name
    assert "execution match, adapter" in answered.stdout
    evaluation = json.loads((tmp_path / "lora_models" / "evaluation.json").read_text())
    assert evaluation["metrics"]["adapter"]["n"] == evaluation["adapter_against_base"]["n"] == 24


def test_an_earlier_run_is_set_aside_and_its_settings_can_be_taken_again(short_run):
    settings = short_run()
    finetune.main(settings)
    folder = Path(settings.CHECKPOINT_DIR)
    first = (folder / "metrics.jsonl").read_text()
    finetune.main(short_run("--from-run", settings.MODEL_PATH, "--max-steps", "2"))
    assert len((folder / "metrics.jsonl").read_text().splitlines()) < len(first.splitlines())
    (aside,) = (folder / "earlier").iterdir()
    assert (aside / "metrics.jsonl").read_text() == first
    assert checkpoints.is_whole(aside / "checkpoint-4")
    assert adapter.find_adapter(settings) == Path(settings.MODEL_PATH)


def test_an_estimate_loads_and_writes_nothing(short_run, capsys, monkeypatch):
    monkeypatch.setattr("sqlora.model.loading.load_base", None)
    settings = short_run("--estimate")
    finetune.main(settings)
    assert "estimated memory" in capsys.readouterr().out
    assert not any(Path(settings.MODEL_PATH).iterdir())


def test_an_estimate_for_a_card_that_is_not_here(short_run, capsys, monkeypatch):
    monkeypatch.setattr("sqlora.model.loading.load_base", None)
    finetune.main(short_run("--estimate", "--device", "xpu", "--memory", "12GB"))
    shown = capsys.readouterr().out
    assert "xpu: any with 12.0 GB" in shown
    assert "fits into 12.0 GB        yes" in shown
    assert "estimated time" not in shown


def test_what_the_check_and_a_test_file_take_out_is_reported(short_run, rows_file, tmp_path, capsys, monkeypatch):
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    rows[0]["answer"] = "SELECT made_up FROM t0"
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held = tmp_path / "held.jsonl"
    held.write_text(json.dumps(rows[1]) + "\n")
    for mode, message in (("drop", "1 rows dropped, 0 repaired; column not in the context: 1"), ("off", "off")):
        finetune.main(short_run("--estimate", "--holdout", str(held), "--check-data", mode))
        shown = capsys.readouterr().out
        assert f"{message}\n" in shown
        assert f"24 read, {19 - (mode == 'drop')} for training, 4 for validation" in shown
        assert "1 rows for" in shown
        assert "1 with a table of it" in shown
    assert "note" not in shown


def test_rows_of_one_database_are_split_by_their_sql_and_a_line_says_so(short_run, rows_file, capsys):
    rows = [
        {"question": f"{i}?", "context": "CREATE TABLE t (a INTEGER)", "answer": f"SELECT {i} FROM t"}
        for i in range(24)
    ]
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    finetune.main(short_run("--estimate"))
    assert "most rows share tables" in capsys.readouterr().out


def test_schema_first_is_trained_and_answered_in_one_order(short_run, capsys):
    settings = short_run("--packing", "prefix", "--prompt-order", "schema_first", "--train-on-inputs")
    finetune.main(settings)
    assert "packing                  prefix (as PACKING asks); compile off" in capsys.readouterr().out
    with pytest.raises(UserError, match="--prompt-order.*schema_first"):
        generate.main(short_run())
    generate.main(settings)
    card = (Path(settings.MODEL_PATH) / "README.md").read_text()
    assert "--prompt-order schema_first" in card
    assert card.index("### Context:") < card.index("### Input:")


def test_a_chat_model_is_trained_on_by_a_later_run(llama_folder, short_run, tmp_path, capsys):
    base = tmp_path / "chat"
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.chat_template = (
        "{% for turn in messages %}{{ turn['role'] }}: {{ turn['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    shutil.copytree(llama_folder, base)
    tokenizer.save_pretrained(base)
    flags = ("--base-model", str(base), "--prompt-format", "chat", "--best-by", "execution", "--renamed-copies", "1")
    first = short_run(*flags)
    finetune.main(first)
    assert "execution match" in capsys.readouterr().out
    assert "in the chat template of its tokenizer" in (Path(first.MODEL_PATH) / "README.md").read_text()
    generate.main(first)
    with pytest.raises(UserError, match="--prompt-format chat"):
        generate.main(short_run("--base-model", str(base)))

    begun = str(tmp_path / "first")
    shutil.copytree(first.MODEL_PATH, begun)
    later = short_run(*flags, "--start-from", begun, "--learning-rate", "1e-9", "--max-steps", "2")
    finetune.main(later)
    fingerprint = checkpoints.read_fingerprint(Path(later.MODEL_PATH))
    assert fingerprint["started_from"] == checkpoints.file_hash(Path(begun) / checkpoints.WEIGHTS)
    before, after = (load_file(Path(folder) / checkpoints.WEIGHTS) for folder in (begun, later.MODEL_PATH))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    finetune.main(short_run(*flags, "--resume", "--max-steps", "4"))
    assert checkpoints.read_fingerprint(Path(later.MODEL_PATH))["started_from"] == fingerprint["started_from"]
    for wrong in (("--lora-r", "4"), ("--prompt-format", "plain"), ("--start-from", str(tmp_path))):
        with pytest.raises(UserError, match="start-from|trained with other prompts"):
            finetune.main(short_run(*flags, "--start-from", begun, *wrong))


def test_without_an_adapter_the_base_answers_and_one_line_says_how_to_train(short_run, capsys):
    generate.main(short_run())
    assert "python finetune.py" in capsys.readouterr().out


def test_one_question(short_run, capsys):
    generate.main(short_run("--question", "How many rows?", "--context", "CREATE TABLE t (a INTEGER)", "--evaluate"))
    assert "How many rows?" in capsys.readouterr().out


def test_answers_are_scored_on_real_databases_by_a_published_rule(short_run, tmp_path, capsys):
    folder = concert.make_folder(tmp_path / "databases")
    rows = [
        {"question": "Who?", "context": concert.CONTEXT, "answer": "SELECT name FROM singer", "db_id": "concert"},
        {"question": "Which?", "context": concert.CONTEXT, "answer": "SELECT title FROM song"},
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--test-data", str(tmp_path / "test.jsonl"), "--evaluate", "--rule", "bird", "--model", "base")
    settings = short_run(*flags, "--database-folder", str(folder), "--output", str(tmp_path / "out.jsonl"))
    generate.main(settings)
    assert "match, BIRD's rule" in capsys.readouterr().out
    assert [row.get("db_id") for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())] == [
        "concert",
        None,
    ]
    report = json.loads((Path(settings.CHECKPOINT_DIR) / outputs.EVALUATION).read_text())
    assert report["rows"][0]["verdicts"]["base"]["database"] == "concert.sqlite"
    generate.main(settings)  # its own file of answers may be written again
    with pytest.raises(UserError, match="DATABASE_FOLDER.*no such folder"):
        generate.main(short_run(*flags, "--database-folder", str(tmp_path / "nowhere")))


def test_a_folder_that_cannot_be_written(short_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="MODEL_PATH.*nothing can be written"):
        finetune.main(short_run("--model-path", str(tmp_path / "file" / "x")))
    with pytest.raises(UserError, match="OUTPUT.*nothing can be written"):
        generate.main(short_run("--output", str(tmp_path / "file" / "x.jsonl")))
    with pytest.raises(UserError, match="OUTPUT.*a folder; name a file"):
        generate.main(short_run("--output", str(tmp_path)))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.5 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.name != "posix"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_while_saving_costs_nothing_saved_before(short_run, small_disk, monkeypatch):
    settings = short_run(
        "--checkpoint-dir",
        str(small_disk),
        "--save-steps",
        "2",
        "--save-total-limit",
        "1",
        "--max-steps",
        "40",
        "--lora-r",
        "8",
    )
    seal = checkpoints.seal

    def fill_after_the_first(*arguments):
        sealed = seal(*arguments)
        (small_disk / "ballast").write_bytes(b"x" * max(0, _free(small_disk) - 60_000))
        return sealed

    monkeypatch.setattr(checkpoints, "seal", fill_after_the_first)
    with pytest.raises(UserError, match="full"):
        finetune.main(settings)
    assert checkpoints.is_whole(small_disk / "checkpoint-2")
    assert adapter.find_adapter(settings) == small_disk / "checkpoint-2"


def test_a_disk_with_too_little_space_is_reported_before_training(short_run, small_disk):
    (small_disk / "ballast").write_bytes(b"x" * (_free(small_disk) - 100_000))
    with pytest.raises(UserError, match="--checkpoint-dir.*MB free"):
        finetune.main(short_run("--checkpoint-dir", str(small_disk / "run")))


def test_a_full_temporary_folder_costs_nothing(short_run, small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    (small_disk / "ballast").write_bytes(b"x" * _free(small_disk))
    settings = short_run("--max-steps", "2")
    finetune.main(settings)
    (Path(settings.CHECKPOINT_DIR) / "metrics.jsonl").unlink()  # as where the checkpoint alone was copied
    finetune.main(short_run("--max-steps", "4", "--resume"))
    assert checkpoints.is_whole(Path(settings.MODEL_PATH))


def test_a_limit_on_the_size_of_files_is_reported_before_training(short_run, monkeypatch):
    monkeypatch.setattr(atomic, "largest_file", lambda: 20_000)
    with pytest.raises(UserError, match="no file may be larger than 0.0 MB.*ulimit -f"):
        finetune.main(short_run())


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def test_the_exit_of_a_user_error_and_of_a_bug(capsys):
    with pytest.raises(SystemExit) as caught, exit_on_user_error():
        raise UserError("this is\nwrong")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: this is wrong\n"
    with pytest.raises(ZeroDivisionError), exit_on_user_error():
        raise ZeroDivisionError


@pytest.mark.slow
def test_twenty_interrupts_in_a_row_leave_a_checkpoint(llama_folder, rows_file, tmp_path):
    flags = [
        "--base-model",
        llama_folder,
        "--data-path",
        rows_file,
        *SHORT,
        "--max-steps",
        "100000",
        "--save-steps",
        "100000",
    ]
    process = subprocess.Popen(
        [sys.executable, ROOT / "finetune.py", *map(str, flags)],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    metrics = tmp_path / "lora_models" / "metrics.jsonl"
    deadline = time.monotonic() + patience.SECONDS
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    message = process.communicate(timeout=patience.SECONDS)[1]
    assert process.returncode == 130, message
    (checkpoint,) = (tmp_path / "lora_models").glob("checkpoint-*")
    assert checkpoints.is_whole(checkpoint)
