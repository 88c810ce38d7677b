import pytest
from matplotlib.image import imread

from fcot.merge import MERGE_METHODS, draw_merge


def report(players, **extra):
    weights = dict.fromkeys(players, 1 / len(players))
    return {
        "players": players,
        "utilities": {"": 0.2, **{name: 0.3 + 0.01 * place for place, name in enumerate(players)}},
        "shapley": {name: 0.1 - 0.07 * place for place, name in enumerate(players)},
        "controls": {
            name: {"utility": 0.4 + 0.02 * place, "weights": weights} for place, name in enumerate(MERGE_METHODS)
        },
        "chosen": "shapley",
        "seed": 0,
        **extra,
    }


@pytest.mark.parametrize(
    "content",
    [
        report(["a-snapshot-with-a-name-that-would-not-fit-beside-a-panel"]),
        report([f"s{number}" for number in range(12)], standard_errors=dict.fromkeys(
            [f"s{number}" for number in range(12)], 0.02)),
    ],
)  # fmt: skip
def test_a_report_becomes_a_readable_png(tmp_path, content):
    draw_merge(content, tmp_path / "merge.png")
    height, width, _ = imread(tmp_path / "merge.png").shape
    assert width > 1400
    assert height > 25 * len(content["players"])


def test_the_picture_shows_every_player_and_method_and_names_split_and_count(tmp_path, monkeypatch):
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    shown = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: shown.extend(figure.findobj(Text)))
    draw_merge(report(["step=100", "step=200"], split="dev", n=200, metric="ANLS"), tmp_path / "merge.png")
    words = " | ".join(text.get_text() for text in shown)
    for expected in ("split dev", "n = 200", "seed 0", "step=100 alone", "base", "average", "best single",
                     "task arithmetic sum", "Shapley (chosen)", "0.5200", "+0.1000", "0.50"):  # fmt: skip
        assert expected in words


def test_drawing_leaves_pyplot_alone(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    draw_merge(report(["a", "b"]), tmp_path / "merge.png")
    assert plt.get_fignums() == before


def test_equal_scores_can_be_drawn(tmp_path):
    content = report(["a", "b"])
    content["utilities"] = dict.fromkeys(content["utilities"], 0.0)
    content["shapley"] = dict.fromkeys(content["shapley"], 0.0)
    for control in content["controls"].values():
        control["utility"] = 0.0
    draw_merge(content, tmp_path / "merge.png")
    assert (tmp_path / "merge.png").stat().st_size > 1000
