"""BACKEND bitsandbytes: 4-bit layers, and bare tokenizer models."""

import shutil
from dataclasses import replace

import peft
import pytest
import torch

from sqlora.model import base_models, bitsandbytes, device, loading
from sqlora.system.errors import UserError

CPU = device.choose_device("cpu", "float32")


def test_the_linear_layers_are_quantised_to_4_bits_and_the_head_is_not(llama_folder, make_settings):
    from bitsandbytes.nn import Linear4bit

    model = loading.load_base(base_models.find_base_model(str(llama_folder)), "nf4", CPU, training=True)
    layer = model.model.layers[0].mlp.down_proj
    assert isinstance(layer, Linear4bit)
    assert (layer.weight.quant_state.quant_type, layer.weight.quant_state.nested) == ("nf4", True)
    assert not isinstance(model.lm_head, Linear4bit)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_bare_tokenizer_model_starts_words_as_llamas_does(openllama_folder, tmp_path):
    folder = shutil.copytree(openllama_folder, tmp_path / "bare")
    with_config = loading.load_tokenizer(base_models.find_base_model(str(folder)))
    (folder / "tokenizer_config.json").unlink()
    bare = loading.load_tokenizer(base_models.find_base_model(str(folder)))
    assert bare.tokenize("SELECT a") == with_config.tokenize("SELECT a")
    assert bare.tokenize("SELECT a")[0].startswith("▁")
    assert (bare.bos_token_id, bare.eos_token_id) == (1, 2)


def test_an_adapter_beside_the_base_is_not_applied_to_it(llama_folder, tmp_path, capsys):
    plain = loading.load_base(base_models.find_base_model(str(llama_folder)), "none", CPU, training=False)
    both = tmp_path / "both"
    shutil.copytree(llama_folder, both)
    wrapped = peft.get_peft_model(plain, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    wrapped.save_pretrained(both)
    base = wrapped.unload()
    loaded = loading.load_base(base_models.find_base_model(str(both)), "none", CPU, training=False)
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, base(ids).logits)
    assert "the base is loaded without it" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("installed", "kind", "low_bit", "refused"),
    [
        ("0.50.1", "xpu", "nf4", True),
        ("0.49.0.dev0", "xpu", "fp4", True),
        ("0.50.1", "xpu", "none", False),
        ("0.50.1", "cuda", "nf4", False),
        ("0.50.2", "xpu", "nf4", False),
        ("0.51.0+xpu", "xpu", "nf4", False),
    ],
)
def test_a_library_that_spoils_memory_on_an_intel_gpu_is_refused(monkeypatch, installed, kind, low_bit, refused):
    chosen = replace(CPU, type=kind)
    monkeypatch.setattr(bitsandbytes, "version", lambda name: installed)
    monkeypatch.setattr(device, "choose_device", lambda wanted, dtype: chosen)
    if refused:
        with pytest.raises(UserError, match=rf"bitsandbytes is {installed}.*0\.50\.2.*--low-bit"):
            bitsandbytes.choose_device(kind, "auto", low_bit)
    else:
        assert bitsandbytes.choose_device(kind, "auto", low_bit) == chosen
