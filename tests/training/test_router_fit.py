"""A router is fitted to mixed passes of the student itself, saved with it, and shown."""

import json

import pytest
import torch
from PIL import Image

from fcot.cli.main import main
from fcot.cli.router import batches_of
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.encoder import IGNORED
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher, answer_labels
from fcot.training.distillation import distillation_loss
from fcot.training.mixed_passes import PageCosts
from fcot.training.router_fit import costs_of


@pytest.fixture(scope="module")
def folder(tiny_checkpoint, tmp_path_factory):
    """A student of wide weights, so that a ratio costs something."""
    folder = tmp_path_factory.mktemp("elastic")
    torch.manual_seed(0)
    pair = StudentTeacher(tiny_checkpoint, StudentSpec("conv", 2, keep_positions=True, ratios=(2, 4)))
    with torch.no_grad():
        for parameter in pair.student.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    save_student(pair.student, folder, tiny_checkpoint)
    return folder


def test_a_page_costs_its_kl_to_the_page_read_whole(folder, tiny_shards):
    pair, (batch,) = StudentTeacher(folder).eval(), batches_of(ModelFolder(folder), tiny_shards, "dev", 8, 8, 0)
    costs = PageCosts(pair, batch)
    tiles = len(batch.tiles)
    nothing = costs.at(torch.zeros(tiles, dtype=torch.int64))
    assert nothing.kl.max() < 1e-6 and nothing.agreement.tolist() == [1] * 8
    found, drawn = costs.at(torch.full((tiles,), 2)), torch.arange(tiles) % 3
    mixed = costs.at(drawn)
    for number in range(8):
        alone = batch.take([number])
        own = drawn[int(batch.num_tiles[:number].sum()) :][: int(batch.num_tiles[number])]
        assert PageCosts(pair, alone).at(own).kl[0].item() == pytest.approx(mixed.kl[number].item(), abs=1e-5)
    with torch.no_grad():
        rows = costs._rows(torch.ones(tiles, dtype=torch.int64))
    labels = answer_labels(batch.sequences["student"])
    assert (labels != IGNORED).all()
    expected = distillation_loss(rows, costs.whole, pair.head_weight, labels)
    counts = torch.tensor([(each != IGNORED).sum() for each in batch.sequences["student"].labels])
    assert float((found.kl * counts).sum() / counts.sum()) == pytest.approx(float(expected.kl), rel=1e-4)
    assert float((found.agreement * counts).sum() / counts.sum()) == pytest.approx(float(expected.agreement), abs=1e-6)


def test_a_router_is_fitted_saved_in_place_and_shown(folder, tiny_shards, tmp_path, capsys):
    (folder / "notes.md").write_text("mine")
    before = load_student(folder).state_dict()
    words = ["router", "fit", str(folder), "--data", str(tiny_shards), "--pages", "32", "--dev_pages", "8"]
    main([*words, "--mean_tokens", "2.5"])
    assert "Fitted to 32 pages, 2 passes each" in capsys.readouterr().out
    assert (folder / "notes.md").read_text() == "mine"
    after = load_student(folder)
    assert all(torch.equal(after.state_dict()[name], tensor) for name, tensor in before.items())
    config = json.loads((folder / "config.json").read_text())["router"]
    pair = StudentTeacher(folder).eval()
    projector = pair.projector("student")
    dev = list(batches_of(ModelFolder(folder), tiny_shards, "dev", 8, 8, 0))
    (costs,) = costs_of(pair, dev, projector.router)
    assert float(costs.min()) == 0 and len(set(costs[:, 2].tolist())) > 1
    assert ((costs + config["price"] * torch.tensor([4, 2, 1])).argmin(1) > 0).any()  # not all tiles are whole
    main([*words, "--mean_tokens", "2.5", "--output", str(tmp_path / "again"), "--kind", "ink"])
    again = json.loads((tmp_path / "again" / "config.json").read_text())["router"]
    assert again["kind"] == "ink" and again["rule"] == config["rule"] and again["price"] == config["rule_price"]
    assert not [name for name in load_student(tmp_path / "again").state_dict() if ".router." in name]

    Image.new("RGB", (112, 56), "white").save(tmp_path / "page.png")
    capsys.readouterr()
    main(["router", "show", str(folder), str(tmp_path / "page.png"), "--budget", "6", "--max_tiles", "6"])
    said = capsys.readouterr().out
    assert "| row 1, column 2 | 0.000" in said and "| thumbnail" in said
    total = int(said.split("3 tiles, ")[1].split()[0])
    assert 3 <= total <= 6 and "instead of 12" in said


def test_a_model_without_ratios_is_refused(student_folder, tiny_shards, capsys):
    with pytest.raises(SystemExit):
        main(["router", "fit", str(student_folder), "--data", str(tiny_shards)])
    assert "no elastic student" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["router", "show", str(student_folder), str(student_folder / "page.png")])
    assert "has no router" in capsys.readouterr().err
