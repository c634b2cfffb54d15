"""The merged model in other programs, each run by the Python that an environment variable names: it writes the same
SQL.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from sqlora.data import dataset
from sqlora.generation import answer_writer
from sqlora.merge import __main__ as merge
from sqlora.model import adapter, base_models, loading
from sqlora.model.device import choose_device
from sqlora.prompt import template
from sqlora.settings.command_line import load_settings

ROOT = Path(__file__).parent.parent
OPENVINO = os.environ.get("SQLORA_OPENVINO_PYTHON")

EXPORT = """
import sys
from optimum.commands.optimum_cli import main
sys.argv = ["optimum-cli", "export", "openvino", "--model", sys.argv[1], "--task", "text-generation-with-past",
            "--weight-format", "fp32", sys.argv[2]]
main()
"""
GENAI = """
import json, sys
import openvino_genai
pipe = openvino_genai.LLMPipeline(sys.argv[1], "CPU", INFERENCE_PRECISION_HINT="f32", KV_CACHE_PRECISION="f32")
config = pipe.get_generation_config()
config.apply_chat_template = False
print(json.dumps([str(pipe.generate(text, config)) for text in json.load(sys.stdin)]))
"""
OPTIMUM = """
import json, sys
from optimum.intel import OVModelForCausalLM
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
model = OVModelForCausalLM.from_pretrained(sys.argv[1], ov_config=exact)
prompts = tokenizer(json.load(sys.stdin), return_tensors="pt", padding=True)
output = model.generate(**prompts)[:, prompts["input_ids"].shape[1]:]
print(json.dumps(tokenizer.batch_decode(output, skip_special_tokens=True)))
"""


def python(program, *arguments, text=""):
    command = [OPENVINO, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not OPENVINO, reason="needs OpenVINO: make test-openvino")
def test_openvino_writes_the_same_sql(tmp_path, demo_run):
    settings = load_settings([*demo_run, "--model", "adapter"], "")
    base, rows = base_models.find_base_model(settings.BASE_MODEL), dataset.load_samples(settings)
    model = loading.load_base(base, settings.LOW_BIT, choose_device("cpu", "float32"), training=False)
    model = adapter.load_adapter(model, adapter.find_adapter(settings))
    expected = answer_writer.SqlWriter(model, loading.load_tokenizer(base), settings).write(rows)
    merge.main([*demo_run, "--output", str(tmp_path / "merged"), "--dtype", "fp32"])
    python(EXPORT, tmp_path / "merged", tmp_path / "openvino")
    prompts = json.dumps([template.build_prompt(row["question"], row["context"]) for row in rows])
    for program in (GENAI, OPTIMUM):
        written = json.loads(python(program, tmp_path / "openvino", text=prompts).splitlines()[-1])
        assert [template.extract_sql(text) for text in written] == expected
