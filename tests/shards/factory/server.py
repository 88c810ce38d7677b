"""A server of a tiny model behind OpenAI's chat completions, that fails by plan and logs what it is asked.

Run it as `python -m tests.shards.factory.server MODEL LOG CACHE [PORT]`; it prints the port. The path of an address
says which run asks and what goes wrong: `http://127.0.0.1:PORT/RUN/500@3,cut@5/v1` answers each third call of RUN with
status 500 and cuts each fifth. An answer depends on the request and its seed alone, and a second server with the same
cache gives the same.
"""

import base64
import hashlib
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

from shards.factory.generators.in_process import InProcess
from shards.factory.requests import Request, Sampling

STATUS = {"500": {}, "429": {}, "429s1": {"Retry-After": "1"}, "429s300": {"Retry-After": "300"}, "503": {}}
STATUS |= {"400": {}, "401": {}, "404": {}, "307": {"Location": "http://127.0.0.1:9/v1/chat/completions"}}
BODIES = {
    "html": b"<html><body>It works!</body></html>",
    "error200": b'{"error": {"message": "engine is dead", "code": 500}}',
    "nochoices": b'{"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": []}',
    "null": b'{"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [null], "usage": 3}',
    "parts": b'{"choices": [{"message": {"role": "assistant", "content": [{"text": "x"}]}, "finish_reason": "stop"}]}',
}


class Model:
    """Answers requests that come at the same time together, each one once."""

    def __init__(self, folder, cache):
        self.generator, self.cache = InProcess(Path(folder), device="cpu"), Path(cache)
        self.known, self.lock, self.pending = {}, threading.Lock(), Queue()
        if self.cache.exists():
            self.known = dict(map(json.loads, self.cache.read_text().splitlines()))
        threading.Thread(target=self.work, daemon=True).start()

    def answer(self, asked):
        name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        if name not in self.known:
            ready = threading.Event()
            self.pending.put((name, asked, ready))
            ready.wait()
        return self.known[name]

    def work(self):
        while True:
            waiting = [self.pending.get()]
            time.sleep(0.05)  # for others to come
            while not self.pending.empty():
                waiting.append(self.pending.get())
            names = {name: asked for name, asked, _ in waiting if name not in self.known}
            requests = {request_of(name, asked).id: name for name, asked in names.items()}
            made = iter([request_of(name, asked) for name, asked in names.items()])
            for request, response in self.generator.answers(made):
                name = requests[request.id]
                found = [response.text, response.finish_reason, response.prompt_tokens, response.answer_tokens]
                with self.cache.open("a") as file:
                    file.write(json.dumps([name, found]) + "\n")
                self.known[name] = found
            for *_, ready in waiting:
                ready.set()


def request_of(name, asked):
    """Return the factory's request that a body stands for."""
    turns, images = [], []
    for message in asked["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = ""
        for part in parts:
            if part["type"] == "image_url":
                kind, _, data = part["image_url"]["url"].partition(";base64,")
                images.append((kind.rpartition("/")[2].replace("jpeg", "jpg"), base64.b64decode(data)))
            text += part["text"] if part["type"] == "text" else "<image>\n"
        turns.append({"from": {"user": "human", "assistant": "gpt"}[message["role"]], "value": text})
    sampling = Sampling(asked["temperature"], asked["top_p"], asked["max_tokens"])
    return Request(f"{asked['seed'] << 1:016x}{name[:16]}", name, turns, images, sampling)


class Handler(BaseHTTPRequestHandler):
    """Answers or fails."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, run, plan, *_ = self.path.split("/")
        server = self.server
        with server.lock:
            server.calls[run] += 1
            call = server.calls[run]
        fault = ""
        for each in filter(None, plan.split(",")):
            name, _, every = each.partition("@")
            if not fault and call % int(every or 1) == 0:
                fault = name
        body = b"" if fault in {*STATUS, *BODIES} else self.body(asked, fault)
        with server.lock, server.log.open("a") as file:  # before it is sent: what arrives was logged
            line = {"run": run, "seed": asked["seed"], "fault": fault, "key": self.headers.get("Authorization", "")}
            file.write(json.dumps(line) + "\n")
        if fault in STATUS:
            self.send(int(fault[:3]), b'{"error": {"message": "by plan"}}', STATUS[fault])
        elif fault in BODIES:
            self.send(200, BODIES[fault], kind="text/html" if fault == "html" else "application/json")
        else:
            self.deliver(body, fault)

    def body(self, asked, fault):
        if fault == "same" or (fault == "certain" and asked["temperature"] < 2):
            asked = {**asked, "seed": 7}
        text, finish, prompt, answer = self.server.model.answer({key: asked[key] for key in asked if key != "model"})
        text = f"\ud83d{text}" if fault == "surrogate" else text
        message = {"role": "assistant", "content": text}
        found = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny"}
        found["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
        found["usage"] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        return json.dumps(found).encode()

    def deliver(self, body, fault):
        """Send an answer, or what is left of it."""
        if fault == "hang":
            time.sleep(20)
            self.close_connection = True
        elif fault == "reset":
            self.close_connection = True
        elif fault == "cut":
            self.send(200, body[: len(body) // 2], length=len(body))
            self.close_connection = True
        elif fault == "truncated":
            self.send(200, body[: len(body) // 2])
        elif fault == "drip":
            self.send(200, b"", length=len(body))
            for at in range(len(body)):  # until the client has enough
                self.wfile.write(body[at : at + 1])
                time.sleep(0.1)
        elif fault == "twice":
            self.send(200, body)
            self.send(200, body)
        else:
            time.sleep(0.15 if fault == "slow" else 0)
            self.send(200, body)

    def send(self, status, body, headers=None, kind="application/json", length=None):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": length or len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Stands where it is asked to, on this machine alone."""

    daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

    def __init__(self, model, log, cache, port=0):
        super().__init__(("127.0.0.1", int(port)), Handler)
        self.model, self.log = Model(model, cache), Path(log)
        self.lock, self.calls = threading.Lock(), Counter()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), OSError):  # clients that leave are part of it
            super().handle_error(request, client_address)


if __name__ == "__main__":
    served = Server(*sys.argv[1:])
    print(served.server_address[1], flush=True)
    served.serve_forever()
