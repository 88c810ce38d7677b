"""Verifiers as metrics of generated answers."""

import pytest

from fcot.metrics import METRICS
from shards.factory.verifiers import VERIFIERS, Verifier
from shards.factory.verifiers.as_metrics import offer_verifiers


def test_each_verifier_is_a_metric():
    offer_verifiers()
    assert {f"verified_{name}" for name in VERIFIERS} <= set(METRICS)


@pytest.mark.parametrize(
    ("name", "prediction", "references", "score"),
    [
        ("number", "7 + 8 = 15\nAnswer: 15.0", ["15"], 1.0),
        ("number", "Answer: 16", ["15"], 0.0),
        ("number", "a chain\nAnswer: 1,565", ["a longer chain\nAnswer: 1565"], 1.0),
        ("date", "Answer: 3 April 2021", ["2021-04-03"], 1.0),
        ("list", "b, a", ["a, b"], 1.0),
        ("ordered_list", "b, a", ["a, b"], 0.0),
        ("number", "", ["15"], 0.0),
        ("text", "no marker", ["something else", "No marker."], 1.0),
    ],
)
def test_the_conclusion_is_what_counts(name, prediction, references, score):
    offer_verifiers()
    metric = METRICS[f"verified_{name}"]()
    metric.update([prediction], [references])
    assert float(metric.compute()) == score


def test_a_plugins_verifier_becomes_a_metric():
    class Loud(Verifier):
        """Capitals only."""

        def agrees(self, said, truth, task):
            return said == str(truth).upper()

    offer_verifiers()
    assert METRICS["verified_loud"].score("OK", ["ok"]) == 1.0
