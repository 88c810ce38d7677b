"""A server under load, for minutes: all answers right, faster together, and no memory lost."""

import io
import random
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tiling import cut, grid
from fcot.serve.dialogue import Dialogue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
QUESTIONS = ["City?", "Lon?", "Pop of Ajara?", "What is the code of the place?"]
LENGTHS = [3, 12, 40]
CLIENTS, REQUESTS = 32, 256


def pages(images):
    """Both pages, and parts of them: pictures of one to four tiles."""
    whole = [Image.open(image).convert("RGB") for image in images]
    parts = [(0.5, 1.0), (1.0, 0.5)]
    return whole + [page.crop((0, 0, int(x * page.width), int(y * page.height))) for page in whole for x, y in parts]


def as_png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def in_chat(picture, question, most):
    folder = ModelFolder(Path("fcot/tiny/student"))
    tiles = cut(picture, folder.max_tiles, tile_size=folder.tile_size)
    shape = grid(*picture.size, folder.max_tiles, tile_size=folder.tile_size)
    return Dialogue(folder, [tiles], grids=[shape]).ask(question, max_new_tokens=most)


@pytest.fixture
def asked(apart):
    """Mixed requests `(page, question, length)`."""
    draw = random.Random(0)
    return [(draw.randrange(6), draw.choice(QUESTIONS), draw.choice(LENGTHS)) for _ in range(REQUESTS)]


def test_32_clients_get_the_answers_of_chat_and_three_times_as_many_a_second(apart, asked):
    torch.set_num_threads(1)
    served = apart()
    shown = pages(served.images)
    urls = [served.url_of(as_png(each)) for each in shown]
    expected = {each: in_chat(shown[each[0]], *each[1:]) for each in sorted(set(asked))}

    def ask(each):
        page, question, most = each
        return served.said(served.ask(served.user(question, urls[page]), max_tokens=most))

    for each in asked[:32]:
        ask(each)  # warms up
    begun = time.monotonic()
    for each in asked[:64]:
        assert ask(each) == expected[each]
    alone = 64 / (time.monotonic() - begun)
    begun = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = list(pool.map(ask, asked))
    rate = REQUESTS / (time.monotonic() - begun)
    assert together == [expected[each] for each in asked]
    print(f"{alone:.1f} requests/s one at a time, {rate:.1f} with {CLIENTS} clients: {rate / alone:.2f} times")
    assert rate > 3 * alone


def test_20000_requests_leave_no_memory_behind(apart):
    served = apart("--page_memory_mb", "4")
    drawn = Image.open(served.images[0]).convert("RGB").resize((150, 110))

    def ask(number):
        page = drawn.copy()
        page.putpixel((0, 0), (number % 256, number // 256 % 256, 0))  # each page is new
        url = served.url_of(as_png(page)) if number % 7 else "data:image/png;base64,AAAA"
        return served.ask(served.user(f"{number}?", url), max_tokens=1 + number % 3).status_code

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert set(pool.map(ask, range(4000))) == {200, 400}  # within which the largest batches have been met
        before = served.resident_bytes()
        assert set(pool.map(ask, range(4000, 20_000))) == {200, 400}
    after, numbers = served.resident_bytes(), served.numbers()
    print(f"{before / 1e6:.0f} MB resident after 4,000 requests, {after / 1e6:.0f} MB after 20,000")
    assert numbers["fcot_page_bytes"] <= 4_000_000 and numbers["fcot_held_bytes"] == 0
    assert after < 1.05 * before


def test_10000_connections_do_not_keep_others_out(apart):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 10_500:
        pytest.skip("this machine does not let one process open 10,000 connections")
    served = apart()
    assert served.ask(served.user("City?", served.page(0)), max_tokens=5).status_code == 200
    before, opened = served.resident_bytes(), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        for number in range(10_000):
            opened.append(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            if number % 2:
                opened[-1].sendall(b"POST /v1/chat/completions HTTP/1.1\r\nX: ")
            if number % 500 == 499:
                time.sleep(0.3)
                reply = served.ask(served.user("City?", served.page(0)), max_tokens=5)
                assert reply.status_code == 200
        assert served.resident_bytes() < before + 200_000_000
    finally:
        for each in opened:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    code, errors = served.end()
    assert code == 0 and errors.count("\n") < 10
