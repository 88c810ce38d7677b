import pytest

from fcot.errors import UserError
from fcot.registry import Registry, snake_case


class Shape:
    pass


class RoundShape(Shape):
    def __init__(self, *, width, radius: float, filled: bool = True):
        self.given = (width, radius, filled)


SHAPES = Registry("shape", base=Shape, own=("width",))


def test_a_subclass_is_a_member_as_soon_as_it_exists():
    assert SHAPES["round_shape"] is RoundShape

    class ThinVQAShape(RoundShape):
        pass

    assert SHAPES["thin_vqa_shape"] is ThinVQAShape
    assert {"round_shape", "thin_vqa_shape"} <= set(SHAPES)


def test_a_name_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"There is no shape 'round_shpe'\. Did you mean 'round_shape'"):
        SHAPES["round_shpe"]


def test_options_are_the_parameters_that_are_not_the_projects_own():
    assert list(SHAPES.options("round_shape")) == ["radius", "filled"]
    SHAPES.check_options("round_shape", {"radius": 2.0})
    with pytest.raises(UserError, match=r"'round_shape' has no option 'raduis'\. Did you mean 'radius'"):
        SHAPES.check_options("round_shape", {"raduis": 2.0})
    with pytest.raises(UserError, match="needs the option 'radius'"):
        SHAPES.check_options("round_shape", {})


def test_functions_are_added_by_name_and_in_order():
    ways = Registry("way")

    @ways.add
    def zigzag():
        pass

    @ways.add
    def along():
        pass

    assert list(ways) == ["zigzag", "along"] and ways["along"] is along


@pytest.mark.parametrize(("name", "short"), [("VQAAccuracy", "vqa_accuracy"), ("Conv2d", "conv2d"), ("ANLS", "anls")])
def test_short_names(name, short):
    assert snake_case(name) == short
