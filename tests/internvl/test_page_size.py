import pytest

from fcot.errors import UserError
from fcot.internvl.page_size import page_size


@pytest.mark.parametrize("text", ["1700", "1700x", "x", "0x5", "-1x5", "axb", "1x2x3"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserError, match="not WIDTHxHEIGHT in pixels"):
        page_size(text)


@pytest.mark.parametrize("text", ["1700x2200", "1700X2200", "1700,2200"])
def test_a_size_is_read(text):
    assert page_size(text) == (1700, 2200)
