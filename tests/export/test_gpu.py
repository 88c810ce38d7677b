"""An exported student answers on a CUDA device as on a CPU, by its own code alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcot.cli.main import main

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
ASK = """\
import sys
sys.modules["fcot"] = None  # any import of it fails
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
torch.backends.cudnn.allow_tf32 = False
folder, page, device = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
given = processor(Image.open(page), "<IMG_CONTEXT>\\nWhat does it say?", return_tensors="pt")
for place in ("cpu", device):
    answer = model.to(place).generate(**given.to(place), max_new_tokens=12, do_sample=False)
    print(answer[0].tolist())
"""


def test_its_own_code_answers_on_a_device_as_on_a_cpu(tmp_path, device):
    main(["export", str(ROOT / "fcot/tiny/student"), str(tmp_path / "out")])
    page = ROOT / ".github/images/form.png"
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path / "out"), str(page), str(device)],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected, found = done.stdout.splitlines()[-2:]
    assert found == expected and len(expected) > 20
