import pytest

from shards.render.recipes import SPLITS
from shards.render.sources import prose, split_of, tables


@pytest.mark.parametrize("sources", [prose, tables])
def test_no_document_or_table_is_in_two_splits(sources):
    names = {split: {getattr(item, "name", None) or item[0] for item in sources(split)} for split in SPLITS}
    assert all(names.values())
    assert sum(map(len, names.values())) == len(set().union(*names.values()))
    assert all(split_of(name) == split for split in SPLITS for name in names[split])
    assert len(names["train"]) > 0.6 * len(set().union(*names.values()))


def test_no_city_or_country_is_in_two_splits():
    rows = [row[0] for split in SPLITS for table in tables(split) for row in table.rows if "cities" in table.name]
    assert len(rows) == len(set(rows)) > 1000


def test_figures_are_whole_numbers_and_names_fit_their_column():
    for table in tables("dev"):
        assert len({row[0] for row in table.rows}) == len(table.rows) >= 6
        for name, *figures in table.rows:
            assert 3 <= len(name) <= 10
            assert len(figures) == len(table.columns) - 1
            assert all(str(int(figure)) == figure for figure in figures)


def test_prose_is_printable_words():
    name, words = prose("test")[0]
    assert name.startswith("topics/")
    assert len(words) >= 50
    assert all(word.isascii() and word.isprintable() and " " not in word for word in words)
