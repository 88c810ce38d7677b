"""What fcot 0.1.0 wrote goes on: an exported folder, a configuration, a checkpoint.

The folder `0.1.0` was written by commit 88b9e63 on transformers 5.23: a run of four steps on a tiny model that was
asked to leave after two, and a student exported from the same run without interruption.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

import fcot.student
from fcot.cli.main import main

HERE = Path(__file__).with_name("0.1.0")
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
PAGE = Image.new("RGB", (112, 56), (200, 120, 40))


@pytest.mark.parametrize("imported", ["AutoModelForImageTextToText", "fcot.student"])
def test_an_exported_folder_answers_as_it_did(imported):
    kind = AutoModelForImageTextToText if imported.startswith("Auto") else fcot.student.CompressedInternVL
    model, processor = kind.from_pretrained(HERE / "exported").eval(), AutoProcessor.from_pretrained(HERE / "exported")
    inputs = processor(images=PAGE, text=EXPECTED["text"], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    torch.testing.assert_close(logits, torch.tensor(EXPECTED["logits"]), rtol=1e-4, atol=1e-4)
    new = model.generate(**inputs, max_new_tokens=8, min_new_tokens=8, do_sample=False)
    assert new[0, inputs["input_ids"].shape[1] :].tolist() == EXPECTED["answer"]


def test_its_own_code_loads_without_fcot(tmp_path):
    """Answers of that code are right up to transformers 5.23 only, so what is asked of it needs no cache."""
    script = f"""
import json, sys
sys.modules["fcot"] = None
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
options = {{"trust_remote_code": True}}
model = AutoModelForImageTextToText.from_pretrained({str(HERE / "exported")!r}, **options).eval()
processor = AutoProcessor.from_pretrained({str(HERE / "exported")!r}, **options)
inputs = processor(images=Image.new("RGB", (112, 56), (200, 120, 40)), text={EXPECTED["text"]!r}, return_tensors="pt")
with torch.no_grad():
    print(json.dumps(model(**inputs, use_cache=False).logits[0, -1].tolist()))
"""
    env = {"HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    logits = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    torch.testing.assert_close(logits, torch.tensor(EXPECTED["logits"]), rtol=1e-4, atol=1e-4)


def test_a_run_goes_on_by_its_configuration_and_checkpoint(tmp_path, monkeypatch, capsys):
    shutil.copytree(HERE, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    main(["fit", "--config", "run/config.yaml", "--ckpt_path", "last"])
    assert "begins anew" not in capsys.readouterr().out
    student = load_file(tmp_path / "old" / "run" / "student" / "model.safetensors")
    for name, tensor in load_file(HERE / "projector_after_step_4.safetensors").items():
        torch.testing.assert_close(student[name], tensor, rtol=1e-4, atol=1e-5)
