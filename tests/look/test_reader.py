"""Models that answer on the page."""

from fcot.internvl.decode import decode_image
from fcot.look.reader import load_readers


def test_an_elastic_student_reads_at_each_of_its_numbers_of_tokens(reader_folder, served_page):
    readers = load_readers([reader_folder("elastic").path])
    assert [reader.name for reader in readers] == [f"student, {number} a tile" for number in (16, 8, 4)]
    assert len({id(reader.looker) for reader in readers}) == 1  # it is loaded once
    page = readers[0].looker.cut(decode_image(served_page.form, "it"))
    assert [reader.seen(page)["tokens"] for reader in readers] == [48, 24, 12]
    look = readers[2].looker.look(page, "City?", max_new_tokens=1, visual_tokens=readers[2].visual_tokens)
    assert [tile.count for tile in look.places.tiles] == [4] * 3
