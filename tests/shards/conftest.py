"""A set of two shards, and how a model lays out what is in it."""

import shutil

import pytest

from fcot.training.sft import SFT
from shards.format.writer import write_set
from shards.render.recipes import Draw
from tests.shards.made import SAMPLES


@pytest.fixture(scope="module")
def layout(tiny_checkpoint):
    return SFT(tiny_checkpoint).layout


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "train"
    write_set(folder, Draw("letters", "train", 0, 2 * SAMPLES), 2 * SAMPLES, shard_size=SAMPLES)
    return folder


@pytest.fixture
def sets(written, tmp_path):
    """A set of two shards, written and indexed here."""
    shutil.copytree(written, tmp_path / "train")
    return tmp_path
