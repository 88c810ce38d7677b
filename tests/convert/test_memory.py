import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

MEASURED = """
import sys
from pathlib import Path
from fcot.cli.main import main
main(["convert", *sys.argv[1:]])
# not getrusage: what it says of a new process includes the peak of the one that started it
print("peak", Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def peak(*words):
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, words)], capture_output=True, text=True, check=True
    )
    return 1024 * int(done.stdout.split("peak ")[1])


@pytest.fixture
def three_gigabytes(make_original, original_shapes, tmp_path):
    """A checkpoint of three shards of about 1 GB: layers of the 8B's sizes in bfloat16."""
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}
    config = json.loads((make_original("internlm2") / "config.json").read_text())
    config["llm_config"].update(sizes, num_hidden_layers=7)
    shapes, folder, weight_map = original_shapes(config), tmp_path / "original", {}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    names = sorted(shapes, key=lambda name: name.split("language_model.model.layers.")[-1])
    for shard in range(3):
        held = names[shard * len(names) // 3 : (shard + 1) * len(names) // 3]
        file = f"model-{shard + 1:05d}-of-00003.safetensors"
        save_file({name: torch.ones(shapes[name], dtype=torch.bfloat16) for name in held}, folder / file)
        weight_map |= dict.fromkeys(held, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.slow
def test_three_shards_of_a_gigabyte_take_less_than_2_5_gb(three_gigabytes, tmp_path):
    assert sum(file.stat().st_size for file in three_gigabytes.glob("*.safetensors")) > 2.9e9
    there = peak(three_gigabytes, tmp_path / "native")
    back = peak(tmp_path / "native", tmp_path / "back", "--layout", "original")
    print(f"peak: {there / 1e9:.2f} GB there, {back / 1e9:.2f} GB back")
    assert max(there, back) < 2.5e9
