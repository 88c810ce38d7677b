"""Rows that join and leave at any token are answered as a conversation with each alone."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from fcot.compress import COMPRESSORS
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.encoder import expand
from fcot.models.conversation import Conversation
from fcot.models.generation import stop_tokens
from fcot.models.running_rows import Prompt, RunningRows
from fcot.models.seen_pages import Page, SeenPages
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from fcot.reduce import reducer_of

REDUCERS = [
    (None, {}),
    ("fastv", {"positions": "original", "keep": 0.3}),
    ("fastv", {"positions": "renumbered", "keep": 0.3}),
    ("pyramiddrop", {}),
    ("visionzip", {}),
    ("random", {"keep": 0.4}),
]
NEW = 8


@pytest.fixture(scope="module")
def folder():
    return ModelFolder(Path("fcot/tiny/student"))


@pytest.fixture(scope="module")
def pair(folder):
    return StudentTeacher(folder.path).eval()


def page(folder, seed, tiles, config=None):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (tiles, 3, folder.tile_size, folder.tile_size), dtype=torch.uint8, generator=generator)
    return Page(pixels, (tiles, 1), TokenCounts(config or folder.config)(pixels))


def prompt(folder, questions, answers, pages):
    """A prompt as a server makes it; all pages come with the first question."""
    encoder, counts = folder.encoder(), torch.cat([torch.empty(0, dtype=torch.int64), *(p.counts for p in pages)])
    first = "<image>\n" * len(pages) + questions[0]
    tiles = [len(each.tiles) for each in pages]
    whole, opening = (
        expand(encoder.prompt([first, *questions[1:n]], answers[: n - 1], tiles), counts, encoder.image_token_id)[0]
        for n in (len(questions), 1)
    )
    return Prompt(whole.tolist(), tuple(pages), len(opening))


def in_conversation(pair, folder, reducer, questions, answers, pages):
    """What a conversation answers at its last turn, earlier turns having been read before."""
    nothing = torch.empty(0, 3, folder.tile_size, folder.tile_size, dtype=torch.uint8)
    tiles, counts = (
        torch.cat([nothing, *(each.tiles for each in pages)]),
        torch.cat([torch.empty(0, dtype=torch.int64), *(each.counts for each in pages)]),
    )
    talk = Conversation(pair, tiles.to(pair.mean.device), counts, reducer=reducer, grids=[each.grid for each in pages])
    for turn in range(len(questions)):
        ids = prompt(folder, questions[: turn + 1], answers[:turn], pages).ids
        new = talk.answer(ids, max_new_tokens=NEW)
    return new


def cases(folder, config=None):
    one, two, three = (page(folder, seed, tiles, config) for seed, tiles in ((1, 1), (2, 4), (3, 2)))
    return [
        (["City?"], [], [one]),
        (["What is the code of the place?"], [], [two]),
        (["Hello"], [], []),
        (["City?", "And the code?"], ["Chanpatia"], [two, three]),
        (["Lon?"], [], [one]),
    ]


def in_rows(pair, folder, reducer, asked):
    """The answers of rows that join one after another and leave as soon as they end."""
    stops, rows = stop_tokens(pair), RunningRows(pair, SeenPages(pair, reducer, 10**8), reducer)
    waiting, running, answers = list(enumerate(asked)), [], {number: [] for number in range(len(asked))}
    while waiting or running:
        if waiting:  # one joins at the first token, two at the second, and so on
            several = [waiting.pop(0) for _ in range(min(len(waiting), 1 + len(running) % 2))]
            rows.join([prompt(folder, *case) for _, case in several])
            running += [number for number, _ in several]
        tokens, going_on = rows.step().argmax(-1).tolist(), []
        for row, (number, token) in enumerate(zip(running, tokens, strict=True)):
            if token not in stops:
                answers[number].append(token)
                if len(answers[number]) < NEW:
                    going_on.append(row)
        rows.keep(going_on, [tokens[row] for row in going_on])
        running = [running[row] for row in going_on]
        assert len(rows) == len(running)
    return [*answers.values()]


@pytest.mark.parametrize(("name", "options"), REDUCERS, ids=lambda each: str(each))
def test_rows_that_join_one_after_another_are_answered_as_alone(pair, folder, name, options):
    reducer, asked = reducer_of(name, options), cases(folder)
    expected = [in_conversation(pair, folder, reducer, *case) for case in asked]
    assert in_rows(pair, folder, reducer, asked) == expected
    assert len({tuple(each) for each in expected}) > 2  # the page and the question matter


@pytest.mark.parametrize("name", sorted(COMPRESSORS.keys() - {"identity"}))
def test_every_compressor_is_answered_as_alone(checkpoint, name):
    torch.manual_seed(1)
    place, folder = COMPRESSORS[name].places[0], ModelFolder(checkpoint)
    pair = StudentTeacher(checkpoint, compressor=name, ratio=2, placement=place).eval()
    for parameter in pair.student.model.multi_modal_projector.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)  # or what a compressor adds would be zero
    asked = cases(folder, pair.student.config)
    expected = [in_conversation(pair, folder, None, *case) for case in asked]
    assert in_rows(pair, folder, None, asked) == expected


def test_a_page_is_looked_at_once_and_forgotten_when_others_need_its_place(pair, folder):
    seen, pages = SeenPages(pair, None, 10**8), [page(folder, seed, 1) for seed in range(3)]
    first = seen.look([([], [pages[0], pages[1]]), ([], [pages[0]])])
    again = seen.look([([], [pages[1], pages[0]])])[0]
    assert (seen.misses, seen.hits) == (2, 3)
    half = len(first[0].rows) // 2
    assert torch.equal(again.rows, torch.cat([first[0].rows[half:], first[0].rows[:half]]))
    seen.max_bytes = seen.num_bytes  # room for two
    seen.look([([], [pages[2]])])
    assert seen.num_bytes <= seen.max_bytes and seen.misses == 3
    seen.look([([], [pages[0]])])
    assert seen.misses == 3  # asked about last
    seen.look([([], [pages[1]])])
    assert seen.misses == 4


@pytest.mark.parametrize("name", ["random", "visionzip"])
def test_pages_are_not_confused_with_each_other_where_a_reducer_draws(pair, folder, name):
    reducer = reducer_of(name, {"keep": 0.4})
    one, two = page(folder, 1, 1), page(folder, 2, 2)
    together, alone = (SeenPages(pair, reducer, 10**8) for _ in range(2))
    both = together.look([([], [one, two]), ([], [two])])
    each = [alone.look([([], pages)])[0] for pages in ([one, two], [two])]
    for shown, expected in zip(both, each, strict=True):
        assert all(torch.equal(*places) for places in zip(shown.places, expected.places, strict=True))
        torch.testing.assert_close(shown.rows, expected.rows)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "options"), REDUCERS, ids=lambda each: str(each))
def test_rows_and_turns_on_a_device_are_answered_as_on_a_cpu(pair, folder, device, name, options):
    reducer, asked, there = reducer_of(name, options), cases(folder), deepcopy(pair).to(device)
    expected = [in_conversation(pair, folder, reducer, *case) for case in asked]
    assert [in_conversation(there, folder, reducer, *case) for case in asked] == expected
    assert in_rows(there, folder, reducer, asked) == expected


@pytest.mark.gpu
def test_a_page_that_is_remembered_on_a_device_is_the_page_looked_at_anew(pair, folder, device):
    there, one = deepcopy(pair).to(device), page(folder, 1, 4)
    seen = SeenPages(there, None, 10**8)
    first, again, anew = (each.look([([], [one])])[0].rows for each in (seen, seen, SeenPages(there, None, 10**8)))
    assert (seen.misses, seen.hits) == (1, 1)
    assert first.device.type == device.type
    assert again.equal(first) and anew.equal(first)
