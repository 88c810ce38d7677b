import pytest

from fcot.metrics import (
    ANLS,
    METRICS,
    AnswerMetric,
    CharacterErrorRate,
    ExactMatch,
    RelaxedAccuracy,
    VQAAccuracy,
    check_metrics,
)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("anls", ANLS),
        ("character_error_rate", CharacterErrorRate),
        ("exact_match", ExactMatch),
        ("relaxed_accuracy", RelaxedAccuracy),
        ("vqa_accuracy", VQAAccuracy),
    ],
)
def test_a_short_name_is_its_metric(name, metric):
    assert METRICS[name] is metric


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ANLS", "anls"),
        ("relaxed_acuracy", "relaxed_accuracy"),
        ("VQAAccuracy", "vqa_accuracy"),
        ("exact", "exact_match"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"no metric '{name}'\. Did you mean '{nearest}'"):
        METRICS[name]


def test_a_metric_of_ones_own_has_a_short_name_too():
    class FieldF1(AnswerMetric):
        @staticmethod
        def score(prediction, references):
            return float(prediction in references)

    assert METRICS["field_f1"] is FieldF1


def test_a_metric_where_lower_is_better_cannot_come_first():
    check_metrics({"*": ["anls", "character_error_rate"]})
    with pytest.raises(ValueError, match=r"first metric of task 'text' is character_error_rate.*\nPut one of anls, "):
        check_metrics({"*": ["anls"], "text": ["character_error_rate"]})


@pytest.mark.parametrize("name", ["", "interval", "answer_metric"])
def test_other_names_of_the_package_are_no_metrics(name):
    with pytest.raises(ValueError, match="There is no metric '"):
        METRICS[name]
