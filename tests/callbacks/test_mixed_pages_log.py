"""What mixed pages of re-alignment cost is kept, and a router fitted to it without a further pass."""

import json

import pytest
import torch
from safetensors.torch import load_file

from callbacks import MixedPagesLog, SaveStudent
from fcot.cli.main import main
from fcot.errors import UserError
from fcot.models.branches import MIXED
from fcot.training.mixed_log import read_pages
from fcot.training.realign import Realign


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01)


def run(trainer, folder, tiny_checkpoint, pages, log, **options):
    module = Realign(tiny_checkpoint, ratios=[2, 4], elastic=True, mixed=0.75, optimizer=adamw, warmup=0)
    seen, losses = [], module.losses
    module.losses = lambda batch: seen.append((batch, losses(batch))) or seen[-1][1]
    trainer(folder, log, SaveStudent(), max_steps=4).fit(module, pages, **options)
    return seen


def test_the_log_has_each_page_its_ratios_and_its_kl(tmp_path, tiny_checkpoint, pages, trainer, tiny_shards):
    seen = run(trainer, tmp_path, tiny_checkpoint, pages, MixedPagesLog())
    files = sorted((tmp_path / "mixed").iterdir())
    assert len(files) == 3  # of four steps
    for file, (batch, found) in zip(files, seen[1:], strict=True):
        kept = load_file(file)
        assert kept["choices"][0].tolist() == [{4: 0, 2: 1, 1: 2}[count] for count in batch.tile_tokens[MIXED].tolist()]
        answers = torch.tensor(batch.sequences[MIXED].counts)
        kl = float((kept["kl"][0] * answers).sum() / answers.sum())
        assert kl == pytest.approx(found["kl_mixed"].item(), rel=1e-4, abs=1e-6)
        assert kept["page"].bincount().tolist() == batch.num_tiles.tolist()
        assert kept["described"][:, -3].sum() == len(batch)  # each page has a thumbnail
    assert read_pages(tmp_path / "mixed", 100).kl.shape == (1, 12)
    last = read_pages(tmp_path / "mixed", 8)
    assert last.kl.shape == (1, 8) and torch.equal(last.kl[:, :4], load_file(files[-1])["kl"])
    words = ["router", "fit", str(tmp_path / "student"), "--data", str(tiny_shards), "--log", str(tmp_path / "mixed")]
    main([*words, "--dev_pages", "8"])
    assert json.loads((tmp_path / "student" / "config.json").read_text())["router"]["kind"] == "learned"


def test_only_the_last_pages_are_kept_and_a_resumed_run_writes_the_same(tmp_path, tiny_checkpoint, pages, trainer):
    class Saving(MixedPagesLog):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "saved.ckpt")

    run(trainer, tmp_path / "straight", tiny_checkpoint, pages, Saving(pages=9))
    run(trainer, tmp_path / "resumed", tiny_checkpoint, pages, MixedPagesLog(), ckpt_path=tmp_path / "saved.ckpt")
    straight, resumed = (sorted((tmp_path / name / "mixed").iterdir()) for name in ("straight", "resumed"))
    assert len(straight) == 2 and [each.name for each in straight] == [each.name for each in resumed]
    assert [each.read_bytes() for each in straight] == [each.read_bytes() for each in resumed]


def test_a_run_without_mixed_pages_is_refused(tmp_path, tiny_checkpoint, pages, trainer):
    with pytest.raises(UserError, match="no mixed pages"):
        trainer(tmp_path, MixedPagesLog(), max_steps=1).fit(Realign(tiny_checkpoint), pages)
