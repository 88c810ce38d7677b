"""What is said of a machine with an accelerator that was not tested, or that tells little."""

from dataclasses import replace

import pytest

from fcot.doctor.devices import devices
from fcot.doctor.page import page_cost
from fcot.doctor.tables import memory_lines, version_lines
from fcot.doctor.versions import installed
from fcot.internvl.checkpoint import ModelFolder


@pytest.mark.parametrize("kind", ["npu", "cuda"])
def test_npus_are_said_to_be_experimental(kind):
    lines = "\n".join(version_lines(list(installed()), replace(devices(), kind=kind)))
    assert ("NPUs are experimental" in lines) == (kind == "npu")


@pytest.mark.parametrize("memory", [0, 1])
def test_memory_is_compared_with_that_of_a_device_only_where_the_device_tells(memory, tiny_checkpoint):
    folder = ModelFolder(tiny_checkpoint)
    here = replace(devices(), count=1, memory=memory)
    lines = "\n".join(memory_lines(folder, page_cost(folder, 56, 56, 2), 2, 5, 2, here))
    assert ("is more than a device here has" in lines) == ("!" in lines) == (memory > 0)
