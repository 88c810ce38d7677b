import pytest

from fcot.errors import UserError
from fcot.files.json_files import read_json

ADVICE = "Test the model again: fcot test …"


@pytest.mark.parametrize(
    ("content", "wrong"),
    [(None, "There is no row.json in"), ("{", "is not valid JSON"), ("[1]", "holds no JSON object")],
)
@pytest.mark.parametrize("advice", [None, ADVICE])
def test_a_file_that_is_no_object_is_named_with_the_advice_of_who_asked(tmp_path, content, wrong, advice):
    if content is not None:
        (tmp_path / "row.json").write_text(content)
    with pytest.raises(UserError, match=wrong) as raised:
        read_json(tmp_path / "row.json", advice)
    said, what_to_do = str(raised.value).split("\n")
    assert str(tmp_path) in said
    assert what_to_do == advice if advice else "Give a model folder" in what_to_do or "Fetch" in what_to_do


def test_a_folder_in_the_place_of_a_file_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read_json(tmp_path)
