"""What sharding does without FSDP: nothing; tests/system/test_distributed.py runs it in several processes."""

import pytest
import torch
from transformers import core_model_loading

from sqlora.model import device, sharding
from sqlora.system.errors import UserError


def test_a_run_of_one_process_loads_as_ever():
    before = core_model_loading.set_param_for_module
    with sharding.while_loading(device.choose_device("cpu", "float32")):
        assert core_model_loading.set_param_for_module is before


def test_four_bit_bytes_become_floats_of_the_same_bytes():
    packed = torch.arange(256, dtype=torch.uint8).view(-1, 1)
    floats = sharding._as_floats(packed)
    assert (floats.dtype, floats.shape) == (torch.bfloat16, (128, 1))
    assert torch.equal(floats.view(torch.uint8).view(-1, 1), packed)
    weight = torch.ones(2, 2)
    assert sharding._as_floats(weight) is weight


def test_a_model_whose_layers_are_not_found_is_refused():
    class Model:
        config = type("Config", (), {"model_type": "odd"})

        def get_decoder(self):
            return torch.nn.Linear(2, 2)

    with pytest.raises(UserError, match="FSDP.*odd model"):
        sharding._layers(Model())
