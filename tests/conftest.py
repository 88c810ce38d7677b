"""A model and pages small enough for every test, made once a session."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a native InternVL with random weights: tiles of 56 pixels, 4 visual tokens each."""
    import torch
    from transformers import AutoConfig, InternVLForConditionalGeneration

    from fcot.tiny import write_architecture

    folder = write_architecture(
        tmp_path_factory.mktemp("checkpoint") / "tiny", tile_size=56, width=32, vision_layers=1, text_layers=1, heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the sets train (32 pages), dev (8) and test (8): prose of one tile of 112 pixels."""
    from shards.build import build_set

    root = tmp_path_factory.mktemp("shards")
    for split, samples in (("train", 32), ("dev", 8), ("test", 8)):
        build_set(root, "letters", split, samples, workers=1)
    return root
