"""A model whose answers depend on its pages."""

import pytest
import torch
from transformers import AutoConfig, InternVLForConditionalGeneration

from fcot.tiny import write_architecture


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A native InternVL with random weights, 16 visual tokens a tile."""
    place = tmp_path_factory.mktemp("sixteen") / "tiny"
    folder = write_architecture(place, tile_size=112, width=32, vision_layers=2, text_layers=2, heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder))
        for parameter in model.model.language_model.layers.parameters():
            parameter.data *= 6 if parameter.ndim > 1 else 1  # or hardly any answer would depend on the page
        model.save_pretrained(folder)
    return folder
