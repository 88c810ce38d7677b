"""Pages looked at once."""

import io

import pytest
from PIL import Image

from fcot.errors import SampleError
from fcot.evaluation.rows import Picture, Row
from fcot.evaluation.run.pages import look, pixels, remembered, survey


def jpeg(color="red", orientation=None):
    image, buffer = Image.new("RGB", (30, 20), color), io.BytesIO()
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def row(name, data):
    return Row(name, (Picture(name, lambda: data),), "?", ())


def test_the_same_bytes_are_the_same_page():
    pages = survey([row("a", jpeg()), row("b", jpeg()), row("c", jpeg("blue"))])
    (a,), (b,), (c,) = pages.values()
    assert a.sha256 == b.sha256 != c.sha256
    assert (a.width, a.height) == (30, 20)


def test_a_picture_of_several_rows_is_read_once():
    reads = []
    picture = Picture("page", lambda: reads.append(1) or jpeg())
    survey([Row(str(number), (picture,), "?", ()) for number in range(5)])
    assert len(reads) == 1


def test_what_is_no_picture_is_said_by_name():
    assert "it.png: cannot identify" in look(Picture("it.png", lambda: b"no picture")).failed

    def missing():
        raise FileNotFoundError(2, "No such file", "it.png")

    assert look(Picture("it.png", missing)).failed.startswith("it.png cannot be read")


def test_a_page_is_not_turned_as_the_authors_scripts_do_not():
    data = jpeg(orientation=6)
    assert pixels(Picture("page", lambda: data)).size == (30, 20)
    assert (look(Picture("page", lambda: data)).width, look(Picture("page", lambda: data)).height) == (30, 20)
    assert not pixels(Picture("page", lambda: data)).getexif()


def test_a_picture_cut_short_is_refused():
    with pytest.raises(SampleError, match="page: "):
        pixels(Picture("page", lambda: jpeg()[:-200]))


def test_pages_are_kept_until_the_files_change(tmp_path):
    rows, looks = [row("a", jpeg())], []

    def find():
        looks.append(1)
        return survey(rows)

    file = tmp_path / "pages" / "set.json"
    first = remembered(file, rows, "files 1", find)
    assert remembered(file, rows, "files 1", find) == first
    assert len(looks) == 1
    remembered(file, rows, "files 2", find)
    assert len(looks) == 2
    file.write_text(file.read_text()[:20])
    assert remembered(file, rows, "files 2", find) == first
