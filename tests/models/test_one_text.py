"""The shipped student reads drawn pages, and says the same whichever way it is asked."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fcot.batch import PageLayout
from fcot.bench import infer
from fcot.bench.workload import Pages
from fcot.cli.main import main
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tiling import cut
from fcot.models.sampling import Sampling
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from fcot.serve.dialogue import Dialogue
from shards.feed.collate import collate
from shards.feed.decode import Prepared
from shards.render.recipes import RECIPES

STUDENT = Path("fcot/tiny/student")
READ = "Read the text on this page."
NEW_TOKENS = 24


def page(seed):
    return RECIPES["reading"]("test", 0.9, np.random.default_rng(seed)).image


# pages, questions asked one after another
TALKS = {
    "one page": ([1], [READ]),
    "the same page, another question": ([1], ["What is in the first line?"]),
    "several pages": ([2, 3], [READ]),
    "several turns": ([4], [READ, "And what is the last word?", READ]),
    "no page": ([], ["What is 2 + 2?"]),
}


@pytest.fixture(scope="module")
def folder():
    return ModelFolder(STUDENT)


@pytest.fixture(scope="module")
def pair():
    return StudentTeacher(STUDENT).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    place = tmp_path_factory.mktemp("one_text") / "exported"
    main(["export", str(STUDENT), str(place), "--base", "someone/teacher"])
    given = {"trust_remote_code": True, "local_files_only": True}
    return AutoProcessor.from_pretrained(place, **given), AutoModelForImageTextToText.from_pretrained(place, **given)


def cuts(folder, pages):
    return [cut(page(seed), folder.max_tiles, tile_size=folder.tile_size) for seed in pages]


def asked(folder, pages, questions, answers):
    """A sample whose last question is open."""
    tiles = cuts(folder, pages)
    talk = []
    for question, answer in zip(questions, [*answers, "-"], strict=True):
        talk += [{"from": "human", "value": question}, {"from": "gpt", "value": answer or "-"}]
    talk[0]["value"] = "<image>\n" * len(pages) + talk[0]["value"]
    encoder, counts = folder.encoder(), [len(each) for each in tiles]
    side = folder.tile_size
    return Prepared(
        key=f"{pages} {questions}",
        task="text",
        question=questions[-1],
        references=["-"],
        tiles=torch.cat([torch.zeros(0, 3, side, side, dtype=torch.uint8), *tiles]),
        encoded=encoder.encode(talk, counts),
        prompt=encoder.encode(talk, counts, prompt_only=True),
    )


def batch_of(folder, talks):
    layout = PageLayout(folder.encoder(), folder.tile_size, folder.max_tiles, {"student": TokenCounts(folder.config)})
    return collate([asked(folder, *talk) for talk in talks], layout)


def evaluated(pair, folder, talks, **options):
    rows = pair.answer(batch_of(folder, talks), "student", max_new_tokens=NEW_TOKENS, **options)
    return [folder.tokenizer.decode(ids, skip_special_tokens=True) for ids in rows]


def generated(exported, pages, questions, answers, **options):
    processor, model = exported
    talk = []
    for question, answer in zip(questions, [*answers, None], strict=True):
        talk.append({"role": "user", "content": [{"type": "text", "text": question}]})
        if answer is not None:
            talk.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    talk[0]["content"] = [{"type": "image"}] * len(pages) + talk[0]["content"]
    text = processor.apply_chat_template(talk, add_generation_prompt=True)
    given = processor(images=[page(seed) for seed in pages] or None, text=text, return_tensors="pt")
    new = model.generate(**given, max_new_tokens=NEW_TOKENS, do_sample=False, **options)
    return processor.tokenizer.decode(new[0, given["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, 0.9, seed=5)], ids=["greedy", "drawn"])
def test_evaluation_chat_and_the_exported_folder_say_the_same(pair, folder, exported, sampling):
    turns, said = [], []
    for pages, questions in TALKS.values():
        dialogue = Dialogue(folder, cuts(folder, pages))
        for number in range(len(questions)):
            before = [answer for _, answer in dialogue.turns]
            answer = dialogue.ask(questions[number], max_new_tokens=NEW_TOKENS, sampling=sampling)
            turns.append((pages, questions[: number + 1], before))
            said.append(answer)
    assert len({*said}) > 4
    assert evaluated(pair, folder, turns, sampling=sampling) == said
    assert evaluated(pair, folder, turns[::-1], sampling=sampling) == said[::-1]
    if sampling == Sampling():
        assert [generated(exported, *turn) for turn in turns] == said


def test_beams_say_the_same_together_and_alone(pair, folder, exported):
    talks = [(pages, questions[:1], []) for pages, questions in TALKS.values()]
    together = evaluated(pair, folder, talks, num_beams=3)
    assert [evaluated(pair, folder, [talk], num_beams=3)[0] for talk in talks] == together
    assert [generated(exported, *talk, num_beams=3) for talk in talks] == together
    assert together != evaluated(pair, folder, talks)


@pytest.mark.parametrize("questions", [1, 2])
def test_bench_infer_says_the_same(pair, folder, questions, monkeypatch):
    said, answer = [], pair.answer
    monkeypatch.setattr(pair, "answer", lambda *args, **options: said.append(answer(*args, **options)) or said[-1])
    file = BytesIO()
    page(1).save(file, "png")
    tiles = len(cuts(folder, [1])[0])
    pages = Pages(tiles, 8, 1, questions).of({"student": folder.config})
    asked = {"max_tiles": folder.max_tiles, "new_tokens": NEW_TOKENS}
    infer.answer(pair, pages, [file.getvalue()], asked, torch.device("cpu"))
    (found,) = said
    seen = cuts(folder, [1])[0].clone()
    seen[0, :, 0, 0] = 0
    pages.tiles.copy_(seen.repeat(questions, 1, 1, 1))
    assert found == answer(pages, "student", max_new_tokens=NEW_TOKENS)
    assert all(found)
