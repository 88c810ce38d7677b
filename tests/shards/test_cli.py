import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fcot.cli.main import main
from fcot.errors import UserError
from shards.bench import data
from shards.format.shard_set import ShardSet
from shards.format.writer import write_set
from shards.inspection import describe, save_sheet
from shards.render.recipes import Draw


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "train"
    write_set(folder, Draw("questions", "train", 0, 12), 12, shard_size=5)
    return folder


@pytest.fixture
def source(written, tmp_path):
    return shutil.copytree(written, tmp_path / "train")


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_foreign_shards_are_indexed_and_only_once(source, capsys):
    for path in source.iterdir():
        if path.suffix != ".tar":
            path.unlink()
    main(["shards", "index", str(source), "--workers", "1"])
    assert "12 pages in 3 shards" in said(capsys)
    manifest = json.loads((source / "manifest.json").read_text())
    written = {path.name: path.stat().st_mtime_ns for path in source.glob("*.safetensors")}
    (source / "manifest.json").unlink()  # as if the call had been interrupted behind the last shard
    main(["shards", "index", str(source), "--workers", "1"])
    assert {path.name: path.stat().st_mtime_ns for path in source.glob("*.safetensors")} == written
    assert json.loads((source / "manifest.json").read_text()) == manifest


def test_verify_says_what_is_wrong_and_exits_so(source, capsys):
    main(["shards", "verify", str(source)])
    assert "12 samples in 3 shards are as indexed" in said(capsys)
    shard = source / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(SystemExit) as caught:
        main(["shards", "verify", str(source)])
    assert caught.value.code == 1
    out = said(capsys)
    assert "train/shard-000001.tar '00000005': damaged_member" in out
    assert "1 of its 5 samples are unusable" in out


def test_inspect_counts_and_draws(source, tmp_path, capsys):
    main(
        ["shards", "inspect", str(source), "--output", str(tmp_path / "sheet.png"), "--json", str(tmp_path / "s.json")]
    )
    out, about = said(capsys), json.loads((tmp_path / "s.json").read_text())
    assert "12 samples in 3 shards" in out
    assert about["usable"] == sum(about["tasks"].values()) == sum(about["tiles"].values()) == 12
    assert about["characters"]["least"] <= about["characters"]["median"] <= about["characters"]["most"]
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    assert sheet.shape[1] > 1000
    assert (sheet < 128).mean() > 0.01


@pytest.mark.parametrize("verb", ["verify", "inspect", "index"])
def test_the_folder_above_the_sets_is_answered_with_the_sets(verb, source, capsys):
    (source.parent / "dev").mkdir()
    (source.parent / "test").mkdir()
    with pytest.raises(SystemExit):
        main(["shards", verb, str(source.parent)])
    heard = capsys.readouterr()
    said = " ".join((heard.out + heard.err).split())
    assert f"{source.parent} holds train, dev and test, and no shards itself. Give one, such as {source}." in said


def test_a_sheet_is_not_written_over_a_folder(source, tmp_path):
    (tmp_path / "sheets").mkdir()
    with pytest.raises(
        UserError, match=r"sheets cannot be written \(Is a directory\)\.\nGive a file, such as \S*sheets/sheet\.png"
    ):
        save_sheet(ShardSet(source), tmp_path / "sheets", 2)


def test_tiles_in_the_index_are_those_that_are_cut(source, tiny_checkpoint):
    from fcot.training.sft import SFT
    from shards.feed.decode import prepare

    layout = SFT(tiny_checkpoint).layout
    samples = ShardSet(source)
    tiles = samples.tiles(layout.max_tiles, layout.tile_size)
    assert tiles.tolist() == [len(prepare(samples.read(number), layout).tiles) for number in range(12)]
    assert describe(samples, max_tiles=layout.max_tiles, tile_size=56)["tiles"] == {
        str(count): int((tiles == count).sum()) for count in sorted(set(tiles.tolist()))
    }


def test_the_bench_reads_every_sample_both_ways(source, tmp_path, capsys):
    data(source, repeats=1, resume=False, json=str(tmp_path / "bench.json"))
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["samples"] == 12
    assert found["times_as_fast"]["median"] > 0
    assert "times as fast as plain webdataset" in said(capsys)
