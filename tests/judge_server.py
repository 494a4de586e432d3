"""An OpenAI-compatible server on loopback whose replies a test scripts; real HTTP, real sockets, no mock client.

``reply(number of the call, request body) -> (status, headers, body)``; helpers below build bodies. A status None hangs
up without a word, a body of bytes breaks off after them.
"""

import json
import math
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loopback import Loopback


class _Quiet(ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # of a client that was killed
            super().handle_error(request, client_address)


class JudgeServer(Loopback):
    """``with JudgeServer(reply) as server: server.url``; ``server.bodies`` holds every request as it came, ``server.keys`` its key."""

    def __init__(self, reply, latency: float = 0.0):
        self.bodies, self.keys, self.in_flight, self.most_in_flight = [], [], 0, 0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                    server.keys.append(self.headers.get("Authorization", "").removeprefix("Bearer "))
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                time.sleep(latency)
                status, headers, content = reply(number, body)
                with lock:
                    server.in_flight -= 1
                if status is None:  # hang up in the middle
                    self.close_connection = True
                    return
                cut = isinstance(content, bytes)  # the beginning of a reply, then nothing
                data = content if cut else json.dumps(content).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data) + 100 * cut))
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = self.close_connection or cut

            def log_message(self, *_):
                pass

        super().__init__(Handler, "/v1", _Quiet)


def completion(weights: dict[str, float] | None = None, texts: tuple[str, ...] = ("",)):
    """A 200 reply: ``weights`` are the first token's probabilities, ``texts`` the choices' contents."""
    logprobs = None
    if weights is not None:
        top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in weights.items()]
        logprobs = {"content": [{**top[0], "top_logprobs": top}], "refusal": None}
        texts = (max(weights, key=weights.get),)
    choices = [
        {"index": i, "finish_reason": "length", "message": {"role": "assistant", "content": text}, "logprobs": logprobs}
        for i, text in enumerate(texts)
    ]
    return 200, {}, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}


def error(status: int, message: str = "no", code: str | None = None, **headers: str):
    """An error reply in OpenAI's shape."""
    return status, headers, {"error": {"message": message, "type": "x", "param": None, "code": code}}


def is_probe(body: dict) -> bool:
    """True for the toolkit's tokenizer probe."""
    return "number 57" in body["messages"][0]["content"]
