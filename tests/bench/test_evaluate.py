import json

from fcot.bench.evaluate import evaluate
from tests.evaluation.miniature import docvqa


def test_rows_together_give_the_answers_of_rows_one_by_one(student_folder, tmp_path, capsys):
    docvqa(tmp_path / "docvqa")
    file = tmp_path / "found.json"
    evaluate(student_folder, root=tmp_path, rows=6, max_tiles=2, max_new_tokens=4, repeats=1, json=str(file))
    found = json.loads(file.read_text())
    assert (found["rows"], found["pages"], found["same_answers"]) == (6, 2, 6)
    assert found["times_faster"]["median"] > 0
    assert "6 of 6 answers are the same" in capsys.readouterr().out
