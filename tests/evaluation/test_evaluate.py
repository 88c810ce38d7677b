"""`fcot evaluate` from files to table."""

import json
import signal
import subprocess
import sys
import time

import pytest

from fcot.cli.main import main
from fcot.evaluation.benchmarks import BENCHMARKS
from fcot.evaluation.benchmarks.published import Published
from fcot.evaluation.rows import Answer, Row, Scored
from fcot.evaluation.run import evaluation
from fcot.evaluation.scoring.rrc import check_submission
from tests.evaluation.miniature import ROWS, draw

TEACHER, STUDENT = "fcot/tiny/teacher", "fcot/tiny/student"
FAST = ["--max_new_tokens", "6", "--device", "cpu", "--max_tiles", "4"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("miniature"))


@pytest.fixture
def whole(monkeypatch):
    """The miniature sets count as whole."""
    for name, rows in ROWS.items():
        kind = BENCHMARKS[name]
        monkeypatch.setattr(kind, "splits", {split: rows for split in kind.splits})


def evaluate(root, output, *words, models=(STUDENT,)):
    main(["evaluate", *map(str, models), "--root", str(root), "--output", str(output), *FAST, *words])
    return json.loads((output / "results.json").read_text())


def test_all_ten_run_from_files_to_table(root, tmp_path, whole, capsys):
    found = evaluate(root, tmp_path, models=(TEACHER, STUDENT))
    assert [model["label"] for model in found["models"]] == ["teacher", "student"]
    assert set(found["columns"]) == {
        "docvqa", "infovqa", "chartqa", "textvqa", "ocrbench", "ocrbench_v2_en", "ocrbench_v2_ch", "ai2d", "mathvista",
        "scienceqa", "mme_perception", "mme_cognition",
    }  # fmt: skip
    for name, column in found["columns"].items():
        assert column["models"].keys() == {"teacher", "student"}, name
        for cell in column["models"].values():
            assert cell["low"] <= cell["value"] <= cell["high"]
    teacher, student = (found["models"][number]["visual_tokens"] for number in (0, 1))
    assert student < teacher
    columns = found["average"]["columns"]
    assert len(columns) == 10
    mean = sum(found["columns"][name]["models"]["student"]["value"] for name in columns) / 10
    assert found["average"]["models"]["student"] == pytest.approx(mean)
    (pair,) = found["pairs"]
    for name in columns:
        cells = found["columns"][name]["models"]
        assert pair["columns"][name]["value"] == pytest.approx(cells["student"]["value"] - cells["teacher"]["value"])
    assert pair["columns"]["average"]["value"] == pytest.approx(
        found["average"]["models"]["student"] - found["average"]["models"]["teacher"]
    )
    kinds = {(each["set"], each["kind"]) for each in found["slices"]}
    assert {("docvqa-val", kind) for kind in ("answer", "tiles", "page")} <= kinds
    text = (tmp_path / "RESULTS.md").read_text()
    assert "InternVL2-2B FCoT-VL 50%" in text and "† another split" in text
    assert (tmp_path / "results.png").stat().st_size > 5000
    truth = json.loads((root / "docvqa/spdocvqa_qas/val_v1.0_withQT.json").read_text())
    said = json.loads((tmp_path / "submissions/student/rrc_docvqa_val.json").read_text())
    scores = check_submission(truth, said)
    value = found["columns"]["docvqa"]["models"]["student"]["value"]
    assert 100 * sum(scores.values()) / len(scores) == pytest.approx(value)
    files = {
        file.relative_to(tmp_path / "submissions/teacher").as_posix()
        for file in tmp_path.glob("submissions/teacher/**/*.*")
    }
    assert {"rrc_infovqa_val.json", "evalai_textvqa_val.json", "mathvista_testmini.json", "mme/OCR.txt"} <= files
    assert "average of 10" in capsys.readouterr().out


def test_a_set_that_is_not_whole_stays_out(root, tmp_path):
    found = evaluate(root, tmp_path, "--benchmarks", "docvqa")
    assert found["columns"] == {} and found["average"] is None
    assert any("not the whole split" in note for note in found["notes"])
    found = evaluate(root, tmp_path, "--benchmarks", "docvqa", "--allow_partial", "true")
    assert found["columns"]["docvqa"]["n"] == ROWS["docvqa"]


def test_answers_at_which_an_official_script_stops_are_counted():
    kind = BENCHMARKS["ocrbench_v2"]()
    fields = {"type": "full-page OCR cn", "answers": ["Gate 4"], "eval": None, "bbox": None, "content": None}
    row = Row("7", (), "?", ("Gate 4",), group="text_recognition", fields=fields)
    scored = [Scored(row, Answer("7", said), kind.score(row, said)) for said in (" ", "Gate 4")]
    (note,) = kind.counted(scored)
    assert note.startswith("1 answers would stop the official script and score 0, such as 7")


def test_difficult_rows_are_those_that_fewer_tiles_get_wrong(root, tmp_path):
    options = ["--benchmarks", "chartqa", "--allow_partial", "true", "--difficult", "0.5"]
    found = evaluate(root, tmp_path, *options)
    (harder,) = [each for each in found["slices"] if each["kind"] == "difficult"]
    answers = tmp_path / "answers/student-at-fewer-tiles/chartqa-test/answers-0.jsonl"
    few = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len(few) == ROWS["chartqa"]
    assert 0 < harder["n"] <= len(few)


@pytest.mark.parametrize(("value", "code"), [("inside", 0), ("outside", 1)])
def test_published_scores_are_checked(root, tmp_path, whole, monkeypatch, capsys, value, code):
    measured = evaluate(root, tmp_path, "--benchmarks", "chartqa")["columns"]["chartqa"]["models"]["student"]
    given = measured["low"] if value == "inside" else measured["high"] + 0.01
    made_up = Published("Invented-1B", "chartqa", "test", given, "nobody")
    monkeypatch.setattr(evaluation, "published", lambda: [made_up])
    words = ["--benchmarks", "chartqa", "--check-published", "Invented-1B"]
    if code:
        with pytest.raises(SystemExit) as stopped:
            evaluate(root, tmp_path, *words)
        assert stopped.value.code == code
        assert "DIFFERS" in capsys.readouterr().out
    else:
        evaluate(root, tmp_path, *words)
        assert "chartqa: agrees" in capsys.readouterr().out


def test_a_model_without_published_scores_is_refused_at_once(root, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate(root, tmp_path, "--check-published", "InternVL2-3B")
    assert stopped.value.code == 2
    assert "No score of 'InternVL2-3B' is published. Did you mean" in capsys.readouterr().err
    assert not (tmp_path / "answers").exists()


def test_a_score_by_a_judge_cannot_be_checked(root, tmp_path, whole, capsys):
    with pytest.raises(SystemExit):
        evaluate(root, tmp_path, "--benchmarks", "mathvista", "--check-published", "InternVL2-2B")
    assert "another rule or a judge" in capsys.readouterr().out


def command(root, output):
    words = ["evaluate", STUDENT, "--root", str(root), "--output", str(output), *FAST, "--allow_partial", "true"]
    return [*words, "--benchmarks", "docvqa,ocrbench_v2", "--batch_size", "4"]


def result(output):
    """The table, and every answer."""
    files = output.glob("answers/student/*/answers-*.jsonl")
    lines = [(file.parent.name, json.loads(line)) for file in files for line in file.read_text().splitlines()]
    answers = {(name, line["id"]): line["text"] for name, line in lines}
    assert len(answers) == len(lines) == ROWS["docvqa"] + ROWS["ocrbench_v2"]
    return json.loads((output / "results.json").read_text()), answers


@pytest.fixture(scope="module")
def once(root, tmp_path_factory):
    """The output of a run that nothing happened to."""
    output = tmp_path_factory.mktemp("once")
    main(command(root, output))
    return output


@pytest.mark.parametrize("times", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_goes_on_to_the_same_table(root, once, tmp_path, times):
    killed = tmp_path / "killed"
    done = 0
    for number in range(1, times + 1):
        words = [sys.executable, "-m", "fcot", *command(root, killed)]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wanted = done + number % 2 + 1
        while process.poll() is None:
            written = sum(len(file.read_bytes().splitlines()) for file in killed.glob("answers/*/*/answers-*.jsonl"))
            if written >= wanted:
                process.send_signal(signal.SIGKILL)
                process.wait()
                break
            time.sleep(0.01)
        done = sum(len(file.read_bytes().splitlines()) for file in killed.glob("answers/*/*/answers-*.jsonl"))
    assert 0 < done < ROWS["docvqa"] + ROWS["ocrbench_v2"]
    assert not (killed / "results.json").exists()
    main(command(root, killed))
    table, answers = result(once)
    assert result(killed) == (table, answers)
    assert table["columns"]["ocrbench_v2_en"]["models"]["student"]["value"] > 5 and len(set(answers.values())) > 20


def test_two_processes_give_the_table_of_one(root, once, tmp_path):
    two = tmp_path / "two"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29611"]
    done = subprocess.run([*torchrun, "-m", "fcot", *command(root, two)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all((two / f"answers/student/docvqa-val/answers-{rank}.jsonl").is_file() for rank in (0, 1))
    assert result(two) == result(once)
