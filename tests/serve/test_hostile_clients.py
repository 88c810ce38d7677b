"""Clients of every kind: each gets a clear refusal, and others notice nothing."""

import base64
import http.client
import io
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest
from PIL import Image

from fcot.serve.connections import Crowd

ROW_OF_TEXT = {"role": "user", "content": "Hello"}


def picture(size, form="PNG", mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form)
    return buffer.getvalue()


def user(text, *urls):
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": text}]}


def shown(url):
    return {"messages": [user("What?", url)]}


def of_data(data):
    return shown(f"data:image/png;base64,{base64.b64encode(data).decode()}")


ENDLESS = {"temperature": 100, "seed": 48}  # a draw without an end token among the first 900
GOOD = {"messages": [ROW_OF_TEXT], "max_tokens": 1}
OPEN = json.dumps(GOOD)[:-1].encode()
FORM = picture((100, 80))
HOSTILE = {
    "no JSON": (b"{", 400),
    "not even text": (b"\xff\xfe\x00", 400),
    "deeply nested": (b'{"messages":' + b"[" * 100_000, 400),
    "deeply nested and closed": (b"[" * 200_000 + b"]" * 200_000, 400),
    "nested in a field": (OPEN + b', "metadata": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, 400),
    "too large": (b" " * 2_000_001, 413),
    "much too large": (b" " * 30_000_000, 413),
    "an endless number": (OPEN + b', "seed": ' + b"9" * 100_000 + b"}", 400),
    "an infinite temperature": (OPEN + b', "temperature": 1e999}', 400),
    "no number": (OPEN + b', "temperature": NaN}', 400),
    "a negative temperature": ({**GOOD, "temperature": -1}, 400),
    "a negative length": ({**GOOD, "max_tokens": -1}, 400),
    "a huge length": ({**GOOD, "max_tokens": 10**30}, 400),
    "a huge seed": ({**GOOD, "seed": 2**63}, 400),
    "an unknown field": ({**GOOD, "tools": []}, 400),
    "several answers": ({**GOOD, "n": 1000}, 400),
    "no message": ({"messages": []}, 400),
    "two questions": ({"messages": [user("a"), user("b")]}, 400),
    "a question that fills the model": ({"messages": [user("long " * 2000)]}, 400),
    "control tokens of a system": ({"messages": [{"role": "system", "content": "<|im_end|>"}, user("a")]}, 400),
    "a lone surrogate": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400),
    "a file": (shown("file:///etc/passwd"), 400),
    "an address": (shown("http://127.0.0.1:9/page.png"), 400),
    "a path": (shown("/etc/passwd"), 400),
    "no base64": (shown("data:image/png;base64,####"), 400),
    "half a picture": (of_data(FORM[: len(FORM) // 2]), 400),
    "no picture": (of_data(b"GIF89a" + bytes(100)), 400),
    "another format": (of_data(picture((9, 9), "BMP")), 400),
    "a bomb": (of_data(picture((12_000, 12_000), mode="1")), 400),
    "too many pixels": (of_data(picture((2001, 2000))), 400),
    "a line": (of_data(picture((40_000, 1))), 400),
    "too many pictures": ({"messages": [user("What?", *["data:image/png;base64,"] * 17)]}, 400),
}


@pytest.mark.parametrize(("body", "status"), HOSTILE.values(), ids=HOSTILE)
def test_a_bad_request_is_refused_in_a_short_reply(served, body, status):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = served.client.post("/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert len(reply.text) < 1000 and reply.json()["error"]["message"]


@pytest.mark.parametrize("form", ["{}", "<image>", "<IMG_CONTEXT></img><img>", "\0", "\N{RIGHT-TO-LEFT OVERRIDE}"])
@pytest.mark.parametrize("who", ["system", "user", "assistant"])
def test_strange_text_is_answered_or_refused_and_never_fails(served, who, form):
    texts = {"system": "a", "user": "b", "assistant": "c", who: form}
    turns = [
        {"role": "system", "content": texts["system"]},
        user(texts["user"], served.page(0)),
        {"role": "assistant", "content": texts["assistant"]},
        user("City?"),
    ]
    assert served.ask(*turns, max_tokens=1).status_code in (200, 400)


def test_a_bad_picture_fails_its_own_request_only(served):
    urls = [served.page(0), served.url_of(served.images[0].read_bytes()[:500])] * 4
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda url: served.ask(user("City?", url), max_tokens=20), urls))
    assert [reply.status_code for reply in replies] == [200, 400] * 4
    assert len({served.said(reply) for reply in replies[::2]}) == 1


def test_only_who_has_the_key_is_answered(served):
    bare = f"http://127.0.0.1:{served.port}"
    for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": "a key"}, {"Authorization": "Bearer"}):
        assert httpx.post(f"{bare}/v1/chat/completions", json=GOOD, headers=headers).status_code == 401
        assert httpx.get(f"{bare}/metrics", headers=headers).status_code == 401
    assert httpx.get(f"{bare}/health").json() == {"status": "ok"}
    assert served.client.get("/models").json()["data"][0]["id"] == "student"


def test_a_page_in_a_browser_cannot_ask(serve):
    server = serve(key="")
    plain = server.client.post("/chat/completions", content=json.dumps(GOOD), headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    for host in ("evil.example", "[", "127.0.0.1.evil.example"):
        assert server.client.get("/models", headers={"Host": host}).status_code == 400
    assert server.client.get("/models").status_code == 200


def test_clients_that_leave_free_their_rows(serve):
    server = serve(max_rows=2, max_waiting=2, max_new_tokens=900)
    endless = {"messages": [user("City?")], **ENDLESS}
    gone = [server.client.stream("POST", "/chat/completions", json={**endless, "stream": True}) for _ in range(4)]
    for each in gone:
        each.__enter__()
    refused = server.ask(user("City?"))
    assert refused.status_code == 429 and refused.headers["Retry-After"] == "1"
    for each in gone[2:]:  # those that wait
        each.__exit__(None, None, None)
    server.until(lambda numbers: numbers["fcot_requests_under_way"] == 2 and numbers["fcot_rows_waiting"] == 0)
    for each in gone[:2]:
        each.__exit__(None, None, None)
    with pytest.raises(httpx.TimeoutException):
        server.client.post("/chat/completions", json=endless, timeout=0.2)
    server.until(lambda numbers: numbers["fcot_requests_under_way"] == numbers["fcot_rows_running"] == 0)
    server.until(lambda numbers: numbers['fcot_requests_total{status="499"}'] == 5)
    assert server.numbers()["fcot_answer_tokens_total"] < 1500  # of 2700 that three whole answers have


def head(length, key="a key"):
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_client_that_closes_after_a_reply_gets_that_of_a_large_body(served):
    headers = {"Authorization": "Bearer a key", "Content-Type": "application/json", "Connection": "close"}
    for key, status in (("a key", 413), ("another", 401)):
        client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
        headers["Authorization"] = f"Bearer {key}"
        client.request("POST", "/v1/chat/completions", b" " * 20_000_000, headers)
        reply = client.getresponse()
        assert reply.status == status and b"error" in reply.read()


def test_a_body_that_is_said_to_be_too_large_is_not_waited_for(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
        client.sendall(head(10**12))
        assert b" 413 " in client.recv(100)


def test_clients_that_ask_and_are_gone_at_once_leave_nothing_behind(served):
    asked = json.dumps({**GOOD, **ENDLESS, "max_tokens": 200, "stream": True}).encode()
    left = 'fcot_requests_total{status="499"}'
    before = served.numbers()[left]
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(head(len(asked)) + asked)
    served.until(lambda numbers: numbers[left] == before + 50)
    served.until(lambda numbers: numbers["fcot_requests_under_way"] == numbers["fcot_rows_running"] == 0)


def test_a_request_that_takes_too_long_is_ended_running_or_waiting(serve):
    server = serve(max_rows=1, max_waiting=1, max_seconds=0.5, max_new_tokens=900)
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: server.ask(user("City?"), **ENDLESS), range(2)))
    assert [reply.status_code for reply in replies] == [504, 504]
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(head(1000) + b"{")
        assert b" 408 " in slow.recv(100)
    server.until(lambda numbers: numbers["fcot_requests_under_way"] == numbers["fcot_rows_running"] == 0)


def test_bodies_together_have_a_bound(serve):
    server = serve(max_held_bytes=1_000_000)
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(head(1_500_000) + b" " * 900_000)
        server.until(lambda numbers: numbers["fcot_held_bytes"] == 900_000)
        large = json.dumps({"messages": [user("a" * 200_000)]}).encode()
        reply = server.client.post("/chat/completions", content=large, headers={"Content-Type": "application/json"})
        assert reply.status_code == 429 and "bytes" in reply.text
        assert server.ask(user("City?"), max_tokens=1).status_code == 200
    server.until(lambda numbers: numbers["fcot_held_bytes"] == 0)


def closed_within(client, seconds):
    client.settimeout(seconds)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_connections_that_do_nothing_make_room_for_others(serve):
    server = serve(crowd=Crowd(20, seconds_idle=60))
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    time.sleep(1.1)  # no longer young
    with httpx.Client(base_url=server.url, headers=server.client.headers) as other:
        assert other.post("/chat/completions", json=GOOD).status_code == 200
    assert closed_within(idle[0], 5) and not closed_within(idle[-1], 0.1)
    for each in idle:
        each.close()


def test_a_head_that_never_ends_is_cut_off_and_an_answer_is_not(serve):
    server = serve(crowd=Crowd(20, seconds_idle=1), max_new_tokens=900)
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        for _ in range(4):
            slow.sendall(b"GET / HTTP/1.1\r\nX: " if _ == 0 else b"x")
            time.sleep(0.1)
        assert closed_within(slow, 5)
    begun = time.monotonic()
    while time.monotonic() < begun + 1.2:  # the connection is used all the time
        assert server.ask(user("City?"), **ENDLESS, max_tokens=100).status_code == 200


def test_a_client_that_does_not_read_is_cut_off(serve):
    server = serve(crowd=Crowd(20, seconds_unread=0.5), key="")
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as deaf,
        pytest.raises(ConnectionError),  # not TimeoutError
    ):
        while True:
            deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
    assert server.client.get("/models").status_code == 200
