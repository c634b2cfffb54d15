"""A KV cache that is wrong ends the run."""

import peft
import pytest

from sqlora.generation import decoder
from sqlora.generation.agreement import check_answering
from sqlora.model import base_models, device, loading
from sqlora.system.errors import UserError

TEXT = list(range(2, 42))
CPU = device.choose_device("cpu", "float32")


def test_slots_that_are_wrong_end_the_run(llama_folder, make_settings, monkeypatch):
    model = loading.load_base(base_models.find_base_model(str(llama_folder)), "none", CPU, training=False)
    check_answering(model, TEXT)
    fill = decoder.Decoder._fill_padded
    monkeypatch.setattr(decoder.Decoder, "_fill_padded", lambda self, groups, prompts: fill(self, groups, prompts) / 2)
    with pytest.raises(UserError, match="cannot be answered from here.*scores of an answer's first"):
        check_answering(model, TEXT)


def test_an_adapter_whose_numbers_are_none_is_named(llama_folder):
    model = loading.load_base(base_models.find_base_model(str(llama_folder)), "none", CPU, training=False)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], lora_alpha=float("nan")))
    with pytest.raises(UserError, match="LORA_CHECKPOINT"):
        check_answering(wrapped, TEXT)
