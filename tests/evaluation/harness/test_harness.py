"""fcot in other people's harnesses: what they call, and a run of the real lmms-eval where one is at hand."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.evaluation.harness import tiles_of
from fcot.evaluation.harness.asking import Answers, Question, picture_of
from fcot.evaluation.harness.vlmevalkit import prompt_of
from fcot.evaluation.run.reader import Budget
from tests.evaluation.miniature import hub, page

TASK = Path(__file__).parent / "lmms_task"
LMMS = os.environ.get("FCOT_LMMS_EVAL")  # the Python of an environment with lmms-eval 0.7.3 and this fcot


def test_tiles_are_those_of_published_scores_by_the_names_of_both_harnesses():
    named = {"docvqa_val": 18, "DocVQA_VAL": 18, "infovqa_val": 24, "InfoVQA_VAL": 24, "chartqa": 12,
             "ChartQA_TEST": 12,
             "ocrbench": 24, "OCRBench": 24, "textvqa_val": 6, "mme": 6, "ai2d": 6}  # fmt: skip
    assert {name: tiles_of(name) for name in named} == named


def test_answers_come_in_the_order_of_the_questions(student_folder):
    model = Answers(student_folder, device="cpu", dtype="auto", batch_size=3, batch_tokens=4000)
    sizes = [(56, 56), (168, 168), (56, 112), (224, 56)]
    questions = [
        Question(
            f"What is on page {number}?",
            [picture_of(Image.new("RGB", size, "white"), "page")],
            Budget(6, 6 + number % 2),
        )
        for number, size in enumerate(sizes)
    ]
    assert model.to(questions) == [model.to([question])[0] for question in questions]


def test_a_question_that_cannot_be_asked_is_an_error_and_no_empty_answer(student_folder, tmp_path):
    model = Answers(student_folder, device="cpu", dtype="auto", batch_size=3, batch_tokens=4000)
    (tmp_path / "page.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be asked"):
        model.to([Question("What?", [picture_of(tmp_path / "page.png", "page")], Budget(6, 6))])


def test_vlmevalkits_prompts():
    assert prompt_of({"question": "Who?"}, "DocVQA_VAL") == "Who?\nAnswer the question using a single word or phrase."
    assert prompt_of({"question": "Is it?"}, "MME") == "Is it? Answer the question using a single word or phrase."
    line = {"question": "Which?", "A": "cat", "B": float("nan"), "hint": float("nan")}
    assert prompt_of(line, "AI2D_TEST").startswith("Which?\nA. cat\nAnswer with")


def answer_of(responses):
    """The answer in a sample that lmms-eval logged: a text, or a list with it."""
    return responses if isinstance(responses, str) else responses[0]


@pytest.mark.slow
@pytest.mark.skipif(not LMMS, reason="FCOT_LMMS_EVAL names no Python with lmms-eval")
def test_lmms_eval_gives_the_answers_and_the_score_of_evaluate(tmp_path):
    rows = []
    for number in range(24):
        data, asked, answer = page("questions", number // 3)
        question = (asked, "What is the first word?", "Which number is the largest?")[number % 3]
        rows.append({"questionId": str(900 + number), "question": question, "answers": [answer], "image": data})
    file = "validation-00000-of-00001.parquet"
    hub(tmp_path / "DocVQA/DocVQA", file, rows)
    task = tmp_path / "task"
    shutil.copytree(TASK, task)
    text = (task / "docvqa_mini.yaml").read_text().replace("DATA", str(tmp_path / "DocVQA/DocVQA" / file))
    (task / "docvqa_mini.yaml").write_text(text)
    words = ["--model", "fcot", "--model_args", "pretrained=fcot/tiny/student,max_tiles=6", "--device", "cpu"]
    words += ["--tasks", "docvqa_mini", "--include_path", str(task), "--output_path", str(tmp_path / "out")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [LMMS, "-m", "lmms_eval", *words, "--log_samples", "--batch_size", "8"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (samples,) = (tmp_path / "out").glob("**/*samples_docvqa_mini.jsonl")
    said = {line["doc_id"]: answer_of(line["filtered_resps"]) for line in map(json.loads, samples.read_text().splitlines())}
    (summary,) = (tmp_path / "out").glob("**/*_results.json")
    score = json.loads(summary.read_text())["results"]["docvqa_mini"]["anls,none"]
    evaluate = ["evaluate", "fcot/tiny/student", "--root", str(tmp_path), "--output", str(tmp_path / "ours")]
    evaluate += ["--benchmarks", "docvqa", "--protocol", "lmms_eval", "--allow_partial", "true", "--max_tiles", "6"]
    main([*evaluate, "--max_new_tokens", "100", "--device", "cpu"])
    (journal,) = (tmp_path / "ours").glob("answers/*/*/answers-0.jsonl")
    ours = {int(line["id"]): line["text"] for line in map(json.loads, journal.read_text().splitlines())}
    found = json.loads((tmp_path / "ours/results.json").read_text())["columns"]["docvqa"]["models"]["student"]["value"]
    equal = sum(said[key] == ours[key] for key in ours)
    print(f"lmms-eval {100 * score:.4f}, fcot evaluate {found:.4f}, {equal} of {len(ours)} answers equal")
    assert said == ours
    assert 100 * score == pytest.approx(found)
