import json

import pytest

from fcot.bench.kernels import kernels


@pytest.mark.parametrize("of", ["step", "answer"])
def test_operations_are_listed_by_time(of, tiny_checkpoint, tmp_path, capsys):
    file = tmp_path / "found.json"
    kernels(of, str(tiny_checkpoint), tiles=2, prompt=6, answer=5, device="cpu", top=20, json=str(file))
    found = json.loads(file.read_text())
    spent = [kernel["seconds"] for kernel in found["kernels"]]
    assert len(spent) == 20 and spent == sorted(spent, reverse=True)
    assert sum(spent) < found["busy_seconds"]
    assert any("mm" in kernel["name"] for kernel in found["kernels"])
    assert f"{of} of" in capsys.readouterr().out
