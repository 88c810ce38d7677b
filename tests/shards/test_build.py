import tarfile

import pytest

from fcot.cli.main import main
from fcot.errors import UserError
from shards.build import build_set
from shards.cli import build
from shards.render.recipes import RECIPES


def members(folder):
    """Every member of a set's shards by name."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found.update({member.name: tar.extractfile(member).read() for member in tar.getmembers()})
    return found


def test_pages_depend_on_neither_workers_nor_shard_size(tmp_path):
    build_set(tmp_path / "one", "questions", "train", 9, seed=3, workers=1)
    build_set(tmp_path / "two", "questions", "train", 9, seed=3, workers=2, shard_size=5)
    assert len(list((tmp_path / "two" / "train").glob("*.tar"))) == 2
    one = members(tmp_path / "one" / "train")
    assert len(one) == 18
    assert members(tmp_path / "two" / "train") == one


def test_seed_and_split_decide_the_pages(tmp_path):
    sets = []
    for number, (split, seed) in enumerate([("train", 0), ("train", 1), ("dev", 0)]):
        build_set(tmp_path / str(number), "letters", split, 3, seed=seed, workers=1)
        sets.append(members(tmp_path / str(number) / split))
    assert sets[0] != sets[1] != sets[2] != sets[0]


def test_the_command_builds_the_sets_that_are_asked_for(tmp_path, capsys):
    build(tmp_path, recipe="reading", train=4, dev=0, test=2, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test", "train"]
    said = capsys.readouterr().out
    assert f"{tmp_path / 'train'}: 4 pages in 1 shards" in said.replace("\n", "")


def test_unknown_recipes_and_splits_are_answered_with_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"no recipe 'leters'\. Did you mean 'letters'\?"):
        build_set(tmp_path, "leters", "train", 1)
    with pytest.raises(UserError, match=r"no split 'val'\. Splits are train, dev, test"):
        build_set(tmp_path, "letters", "val", 1)
    assert not list(tmp_path.iterdir())


def test_help_names_the_recipes(capsys):
    with pytest.raises(SystemExit):
        main(["shards", "build", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    *most, last = RECIPES
    assert f"Which pages are drawn: {', '.join(most)} or {last}" in said
