"""Which rows are answered together."""

from fcot.evaluation.rows import Row
from fcot.evaluation.run.pages import Page
from fcot.evaluation.run.plan import batches


def plan(costs, pages, **limits):
    rows = [Row(name, (), "?", ()) for name in costs]
    return batches(
        rows, {name: [Page(pages[name], 1, 1)] for name in costs}, costs, **{"batch_size": 8, "budget": 100, **limits}
    )


def test_rows_of_a_page_stay_together_and_the_dearest_come_first():
    found = plan({"a": 10, "b": 40, "c": 10, "d": 41}, {"a": "x", "b": "y", "c": "x", "d": "y"}, budget=82)
    assert found == [["b", "d"], ["a", "c"]]


def test_every_row_of_a_batch_costs_what_its_dearest_does():
    assert plan({"a": 50, "b": 30, "c": 20}, {"a": "1", "b": "2", "c": "3"}) == [["a", "b"], ["c"]]


def test_a_row_over_the_budget_has_a_batch_to_itself():
    assert plan({"a": 500, "b": 1, "c": 1}, {"a": "1", "b": "2", "c": "3"}) == [["a"], ["b", "c"]]


def test_a_page_with_many_questions_is_split():
    costs = {str(number): 1 for number in range(5)}
    assert [len(each) for each in plan(costs, dict.fromkeys(costs, "x"), batch_size=2)] == [2, 2, 1]


def test_every_row_is_there_once():
    costs = {str(number): number % 7 + 1 for number in range(40)}
    found = plan(costs, {name: str(int(name) % 9) for name in costs}, batch_size=3, budget=17)
    assert sorted(name for batch in found for name in batch) == sorted(costs)
