"""Models that answer on the page."""

from fcot.internvl.decode import decode_image
from fcot.look.answers import answer_all
from fcot.look.reader import load_readers
from fcot.look.uploaded import read_page


def test_an_elastic_student_reads_at_each_of_its_numbers_of_tokens(reader_folder, served_page):
    readers = load_readers([reader_folder("elastic").path])
    assert [reader.name for reader in readers] == [f"student, {number} a tile" for number in (16, 8, 4)]
    assert len({id(reader.looker) for reader in readers}) == 1  # it is loaded once
    page = readers[0].looker.cut(decode_image(served_page.form, "it"))
    assert [reader.seen(page)["tokens"] for reader in readers] == [48, 24, 12]
    calls = []
    answers = answer_all(readers, read_page(served_page.form, readers, 10**6), "City?", 2, lambda: calls.append(1))
    assert [said["visual_tokens"] for said, _ in answers] == [48, 24, 12]
    assert len(calls) > sum(said["new_tokens"] for said, _ in answers)  # each token may be the last
