import json

import torch
from torch.nn import functional

from fcot.bench.rates import attending, mlp, rates


def test_each_rate_is_work_over_the_fastest_time(tiny_checkpoint, tmp_path, capsys):
    file = tmp_path / "found.json"
    rates(str(tiny_checkpoint), tiles=2, tokens=64, copy_bytes=10**6, device="cpu", repeats=2, json=str(file))
    found = json.loads(file.read_text())["rates"]
    assert list(found) == [
        "large product",
        "tower MLP",
        "tower attention",
        "language MLP",
        "language attention",
        "copy",
    ]
    copied = found["copy"]
    assert copied["unit"] == "GB/s" and copied["rate"] == 2e-3 / copied["seconds"]["low"]
    assert all(each["rate"] > 0 for each in found.values())
    assert "language attention" in capsys.readouterr().out


def test_work_is_counted_as_its_shapes_say():
    cpu = torch.device("cpu")
    product, flops = mlp(6, 8, 32, cpu, torch.float32)
    assert product().shape == (6, 8) and flops == 2 * 2 * 6 * 8 * 32
    attend, flops = attending((1, 4, 10, 8), 2, True, cpu, torch.float32)
    assert attend().shape == (1, 4, 10, 8)
    assert flops == 2 * 2 * 4 * 55 * 8  # scores and values, of the pairs that a causal mask leaves


def test_attention_is_causal_where_it_says_so(monkeypatch):
    seen = []
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *_, **options: seen.append(options))
    for causal in (True, False):
        attending((1, 2, 4, 8), 2, causal, torch.device("cpu"), torch.float32)[0]()
    assert [options["is_causal"] for options in seen] == [True, False]
