"""A base of any kind written as an ordinary folder: other programs find the prompt's ids, the rope and the end of an
answer.
"""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from sqlora.merge import export
from sqlora.model import base_models, device, loading
from sqlora.prompt import encoding, template
from sqlora.system.errors import UserError

ROW = ("How many naïve albums cost >= 10.5?", 'CREATE TABLE album (id INTEGER, "the title" TEXT)')


@pytest.mark.parametrize("kind", ["llama", "openllama", "codellama", "mistral", "qwen2"])
def test_what_is_written_is_read_as_it_was_trained(kind, request, make_settings, tmp_path):
    base = base_models.find_base_model(str(request.getfixturevalue(f"{kind}_folder")))
    settings, tokenizer = make_settings("--low-bit", "none"), loading.load_tokenizer(base)
    ids = encoding.encode_prompt(tokenizer, *ROW)
    model = loading.load_base(base, settings.LOW_BIT, device.choose_device("cpu", "float32"), training=False).eval()
    export.write_model(tmp_path, model, tokenizer, base, settings.MAX_NEW_TOKENS)

    back = AutoTokenizer.from_pretrained(tmp_path)
    assert back(template.build_prompt(*ROW))["input_ids"] == ids
    assert back.padding_side == "left"
    assert back.decode(ids, skip_special_tokens=True).strip() == template.build_prompt(*ROW).strip()
    config, plain = AutoConfig.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert config.rope_parameters == model.config.rope_parameters
    with torch.inference_mode():
        assert torch.equal(plain(torch.tensor([ids])).logits, model(torch.tensor([ids])).logits)
    assert plain.generation_config.eos_token_id == tokenizer.eos_token_id
    assert plain.generation_config.max_new_tokens == settings.MAX_NEW_TOKENS
    assert (tmp_path / "tokenizer.model").is_file() == (base.folder / "tokenizer.model").is_file()


def test_programs_of_before_transformers_5_find_the_rope(codellama_folder, make_settings, tmp_path):
    base, settings = base_models.find_base_model(str(codellama_folder)), make_settings("--low-bit", "none")
    model = loading.load_base(base, settings.LOW_BIT, device.choose_device("cpu", "float32"), training=False)
    model.config.rope_parameters = {"rope_type": "linear", "rope_theta": 1e6, "factor": 2.0}
    export.write_model(tmp_path, model, loading.load_tokenizer(base), base, settings.MAX_NEW_TOKENS)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_theta"] == 1e6
    assert config["rope_scaling"] == config["rope_parameters"]
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == model.config.rope_parameters


def test_a_tokenizer_that_does_not_come_back_is_refused(llama_folder, tmp_path, monkeypatch):
    base = base_models.find_base_model(str(llama_folder))
    tokenizer = loading.load_tokenizer(base)
    monkeypatch.setattr(
        tokenizer,
        "save_pretrained",
        lambda folder: AutoTokenizer.from_pretrained(llama_folder, bos_token="<unk>").save_pretrained(folder),
    )
    with pytest.raises(UserError, match="does not come back"):
        export.write_tokenizer(tmp_path, tokenizer, base)


def test_a_model_of_several_eos_ends_at_any_and_pads_with_a_token_that_it_has(llama_folder, make_settings, tmp_path):
    base = base_models.find_base_model(str(llama_folder))
    settings, tokenizer = make_settings("--low-bit", "none"), loading.load_tokenizer(base)
    model = loading.load_base(base, settings.LOW_BIT, device.choose_device("cpu", "float32"), training=False)
    model.generation_config.eos_token_id = [2, 7]
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    export.write_model(tmp_path, model, tokenizer, base, settings.MAX_NEW_TOKENS)
    written = GenerationConfig.from_pretrained(tmp_path)
    assert (written.eos_token_id, written.pad_token_id) == ([2, 7], 2)
