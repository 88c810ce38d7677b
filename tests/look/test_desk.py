"""Pages, questions and answers over HTTP: what the models see, say and cost, and what is refused."""

import io
import json
import socket
import time

import pytest
from PIL import Image

from fcot.internvl.decode import decode_image


def picture(size, form="PNG", mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form)
    return buffer.getvalue()


PNG = picture((100, 80))
HOSTILE_PAGES = {
    "a bomb": (picture((12_000, 12_000), mode="1"), "image/png", 400),
    "truncated": (PNG[: len(PNG) // 2], "image/png", 400),
    "empty": (b"", "image/png", 400),
    "no picture": (b"<svg onload=alert(1)>" * 10, "image/png", 400),
    "another format": (picture((9, 9), "BMP"), "image/png", 400),
    "too many pixels": (picture((2001, 2000)), "image/png", 400),
    "a line": (picture((40_000, 1)), "image/png", 400),
    "too large": (bytes(2_000_001), "image/png", 413),
    "much too large": (bytes(30_000_000), "image/jpeg", 413),
    "of another kind": (PNG, "image/svg+xml", 415),
    "as a form of another site": (PNG, "text/plain", 415),
    "of no kind": (PNG, "", 415),
}
DEEP = b"[" * 50_000
HOSTILE_QUESTIONS = {
    "no JSON": (b"{", 400),
    "not even text": (b"\xff\xfe\x00", 400),
    "deeply nested": (DEEP[:49_000], 400),
    "too large": (b" " * 50_001, 413),
    "a lone surrogate": (b'{"page": "PAGE", "question": "\\ud800"}', 400),
    "no question": ({"question": "  "}, 400),
    "no text": ({"question": ["City?"]}, 400),
    "too long": ({"question": "x" * 4001}, 400),
    "longer than the model reads": ({"question": "long " * 700}, 400),
    "an unknown page": ({"page": "../../etc/passwd"}, 404),
    "an unknown model": ({"models": ["studnet"]}, 404),
    "no model": ({"models": []}, 400),
    "many models": ({"models": ["student"] * 65}, 400),
    "an unknown field": ({"temperature": 1}, 400),
}


@pytest.fixture(scope="module")
def page(served_page):
    return served_page.upload().json()["page"]


def test_a_page_is_cut_and_counted_for_each_model(served_page):
    seen = served_page.upload().json()
    assert seen["size"] == [224, 112]
    teacher, student = seen["models"]
    assert (teacher["name"], teacher["grid"], teacher["counts"]) == ("teacher", [2, 1], [16] * 3)
    assert (student["tokens"], student["instead_of"], student["counts"]) == (24, 48, [8] * 3)
    assert len(teacher["rasters"]["16"]["borders"]) == 24  # all lines within 4 x 4 cells
    assert len(student["rasters"]["8"]["borders"]) == 16  # 1 x 2 cells are one token
    shown = decode_image(served_page.client.get(f"/page/{seen['page']}").content, "it")
    assert shown.size == (224, 112) and shown.tobytes() == decode_image(served_page.form, "it").convert("RGB").tobytes()


def test_answers_are_those_of_each_model_with_differences_and_costs(served_page, page, readers):
    reply = served_page.ask(page, " City? ").json()
    alone = [reader.looker.look(decode_image(served_page.form, "it"), "City?", max_new_tokens=40) for reader in readers]
    assert reply["question"] == "City?"
    first, second = reply["answers"]
    assert [first["answer"], second["answer"]] == [look.answer for look in alone] == ["Chanpatia", "Chanpatia"]
    assert first["differences"] is None
    assert second["differences"] == [["same", "Chanpatia"]]
    assert (first["visual_tokens"], second["visual_tokens"]) == (48, 24)
    assert first["prompt_tokens"] - second["prompt_tokens"] == 24
    assert first["new_tokens"] == len("Chanpatia") + 1
    assert 0 < second["flops"]["prompt"] < first["flops"]["prompt"] and first["seconds"] > 0
    assert sum(first["on_tiles"]) == pytest.approx(1, abs=0.01) and first["on_tiles"][1] > 0.4  # where the name stands
    assert first["overlap"] is None and 0 < second["overlap"] <= 1


def test_answers_that_differ_are_marked(served_page, page):
    first, second = served_page.ask(page, "Country?").json()["answers"]  # which this page does not say
    assert [first["answer"], second["answer"]] == ["Chanpatia", "85"]
    assert second["differences"] == [["lacking", "Chanpatia"], ["added", "85"]]


def test_where_an_answer_looked_is_a_picture_of_the_page(served_page, page):
    (answer,) = served_page.ask(page, "City?", models=["student"]).json()["answers"]
    assert answer["name"] == "student" and answer["differences"] is None
    whole, small = (served_page.client.get(answer["look"][part]) for part in ("page", "thumbnail"))
    assert whole.headers["content-type"] == "image/png"
    assert decode_image(whole.content, "it").size == (224, 112) and decode_image(small.content, "it").size == (224, 224)
    assert decode_image(whole.content, "it").getcolors(10**6) != decode_image(served_page.form, "it").getcolors(10**6)


def test_a_page_of_one_tile_has_no_thumbnail(served_page):
    page = served_page.upload(picture((112, 112))).json()
    assert [model["counts"] for model in page["models"]] == [[16], [8]]
    (answer,) = served_page.ask(page["page"], "?", models=["teacher"]).json()["answers"]
    assert answer["look"]["thumbnail"] is None
    assert served_page.client.get(answer["look"]["page"].replace("/page", "/thumbnail")).status_code == 404


@pytest.mark.parametrize(("data", "kind", "status"), HOSTILE_PAGES.values(), ids=HOSTILE_PAGES)
def test_a_bad_page_is_refused_in_a_short_reply(served_page, data, kind, status):
    before = len(served_page.desk.pages)
    reply = served_page.upload(data, kind)
    assert reply.status_code == status, reply.text
    assert len(reply.text) < 1000 and reply.json()["error"]["message"]
    assert len(served_page.desk.pages) == before and served_page.desk.held.taken == 0


@pytest.mark.parametrize(("body", "status"), HOSTILE_QUESTIONS.values(), ids=HOSTILE_QUESTIONS)
def test_a_bad_question_is_refused_in_a_short_reply(served_page, page, body, status):
    if isinstance(body, dict):
        body = json.dumps({"page": page, "question": "City?", **body}).encode()
    body = body.replace(b"PAGE", page.encode())
    reply = served_page.client.post("/ask", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert len(reply.text) < 1000 and reply.json()["error"]["message"]


@pytest.mark.parametrize("question", ["<image>", "<IMG_CONTEXT></img><img>", "\0", "\N{RIGHT-TO-LEFT OVERRIDE}"])
def test_strange_questions_are_answered_or_refused_and_never_fail(served_page, page, question):
    assert served_page.ask(page, question, models=["student"]).status_code in (200, 400)


def test_a_form_of_another_site_cannot_ask(served_page, page):
    body = json.dumps({"page": page, "question": "City?"})
    reply = served_page.client.post("/ask", content=body, headers={"Content-Type": "text/plain"})
    assert reply.status_code == 415


def test_old_pages_are_dropped(serve_page):
    server = serve_page(max_pages=2)
    pages = [server.upload(picture((30 + number, 30))).json()["page"] for number in range(3)]
    assert [server.client.get(f"/page/{page}").status_code for page in pages] == [404, 200, 200]
    refused = server.ask(pages[0], "City?")
    assert refused.status_code == 404 and "Give the page again." in refused.json()["error"]["message"]


def post(server, address, kind, length, data):
    """A connection that has sent the beginning of a request."""
    held = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    held.sendall(head.encode() + data)
    return held


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_more_requests_than_may_wait_are_refused_until_one_leaves(serve_page):
    server = serve_page(max_waiting=1)
    held = post(server, "/page", "image/png", 100, PNG[:10])
    until(lambda: server.desk.reading.under_way == 1)
    refused = server.upload()
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
    held.close()
    until(lambda: server.desk.reading.under_way == 0)
    assert server.upload().status_code == 200


def test_a_client_that_leaves_ends_its_answer(serve_page):
    server = serve_page(max_new_tokens=10_000)
    body = json.dumps({"page": server.upload().json()["page"], "question": "Read the text."}).encode()
    held = post(server, "/ask", "application/json", len(body), body)
    until(lambda: server.desk.answering.under_way == 1)
    held.close()
    until(lambda: server.desk.answering.under_way == 0)
    assert len(server.desk.looks) == 0


def test_an_answer_that_takes_too_long_is_given_up(serve_page):
    server = serve_page(seconds=1e-6)
    server.desk.reading.seconds = 60
    assert server.ask(server.upload().json()["page"], "City?").status_code == 504
