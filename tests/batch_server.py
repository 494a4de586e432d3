"""An OpenAI-compatible server on loopback with the batch API, and what can go wrong with it; real HTTP, no mock client.

``reply(number of the call, request body) -> (status, headers, body)`` answers chat completions, those in batches as well.
The server knows what must not happen: a file or a batch that arrives twice under one name, a request answered twice.
"""

import json
import random
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlparse

from judge_server import _Quiet
from loopback import Loopback

LIMITS = (50_000, 200 * 2**20)  # requests and bytes of a batch's file
LINE_FAULTS = (429, 500, None)  # statuses of a request in a batch that may pass; None: the batch's own error


class BatchServer(Loopback):
    """``with BatchServer(reply) as server: server.url``.

    Args:
        faults: the part of calls, of batches and of requests in them that go wrong, until :attr:`healed`.
        seconds: from a batch's creation to its end.
        enqueued: the most requests that all batches under way may have together (OpenAI's limit is of their tokens).
        page: entries of a listing.

    Attributes:
        chats: bodies of chat completions asked for one by one.
        files, batches: what is there, by id. answered: how often each request was answered in batches.
        wrong: what must not happen, and did.
    """

    def __init__(self, reply, faults=0.0, seconds=0.1, seed=0, enqueued=10**9, page=5):
        self.reply, self.faults, self.seconds, self.enqueued, self.page = reply, faults, seconds, enqueued, page
        self.healed, self.draw, self.lock = False, random.Random(seed), threading.RLock()
        self.chats, self.files, self.batches, self.answered, self.wrong = [], {}, {}, Counter(), []
        self.calls, self.fates = Counter(), Counter()
        self.fate = self.random_fate
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                sent = self.rfile.read(length)
                if len(sent) < length:  # of a client that was killed
                    return self.hang_up()
                self.answer(sent)

            def do_GET(self):
                self.answer(b"")

            def answer(self, sent):
                fault = server.faulty() and server.draw.choice(("500", "429", "lost", "late", "cut", "odd"))
                if fault in ("500", "429"):
                    return self.send(int(fault), {"error": {"message": "try again", "code": None}})
                if fault == "lost":
                    return self.hang_up()
                status, content = server.do(self.command, urlparse(self.path), self.headers, sent)
                if fault == "late":  # it was done, and the client never hears of it
                    return self.hang_up()
                if fault == "odd" and self.command == "POST":
                    return self.send(502, {})
                self.send(status, content, cut=fault == "cut")

            def hang_up(self):
                self.close_connection = True

            def send(self, status, content, cut=False):
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if cut else data)
                self.close_connection = self.close_connection or cut

            def log_message(self, *_):
                pass

        super().__init__(Handler, "/v1", _Quiet)

    def faulty(self) -> bool:
        with self.lock:
            return not self.healed and self.draw.random() < self.faults

    def random_fate(self, _batch: dict) -> str:
        """What becomes of a batch: one of those below."""
        if not self.faulty():
            return "completed"
        return self.draw.choice(("expired", "failed"))

    def do(self, method, address, headers, sent):
        with self.lock:
            path, query = address.path.removeprefix("/v1/"), {k: v[0] for k, v in parse_qs(address.query).items()}
            self.calls[f"{method} {path.split('/')[0]}"] += 1
            if path == "chat/completions":
                self.chats.append(json.loads(sent))
                status, _, body = self.reply(len(self.chats), self.chats[-1])
                return status, body
            kind, _, rest = path.partition("/")
            held = {"files": self.files, "batches": self.batches}.get(kind)
            if held is None:
                return 404, {"error": {"message": "no such path"}}
            if method == "POST":
                return self.upload(headers, sent) if kind == "files" else self.create(json.loads(sent))
            if not rest:
                return 200, self.listed(list(held.values()), query)
            found, _, part = rest.partition("/")
            if found not in held:
                return 404, {"error": {"message": f"no such {kind}: {found}"}}
            if kind == "batches":
                self.go_on(held[found])
            return 200, held[found]["content"] if part == "content" else self.shown(held[found])

    @staticmethod
    def shown(entry):
        return {name: value for name, value in entry.items() if name not in ("content", "fate")}

    def listed(self, entries, query):
        """The newest first, by pages, as the API has it."""
        entries = [self.shown(entry) for entry in reversed(entries)]
        if "purpose" in query:
            entries = [entry for entry in entries if entry["purpose"] == query["purpose"]]
        ids = [entry["id"] for entry in entries]
        begin = ids.index(query["after"]) + 1 if "after" in query else 0
        page = entries[begin : begin + self.page]
        return {"object": "list", "data": page, "has_more": begin + self.page < len(entries)}

    def add_file(self, name, purpose, content):
        made = f"file-{len(self.files):06}"
        entry = {"id": made, "object": "file", "bytes": len(content), "created_at": int(time.time()), "filename": name}
        self.files[made] = {**entry, "purpose": purpose, "status": "processed", "content": content}
        return made

    def upload(self, headers, sent):
        boundary = re.search(r"boundary=(\S+)", headers["Content-Type"])[1].encode()
        parts = dict(self.part(part) for part in sent.split(b"--" + boundary)[1:-1])
        (name, content), (_, purpose) = parts["file"], parts["purpose"]
        if any(file["filename"] == name for file in self.files.values()):
            self.wrong.append(f"{name} was uploaded although it was there")
        return 200, self.shown(self.files[self.add_file(name, purpose.decode(), content)])

    @staticmethod
    def part(part):
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'\bname="([^"]*)"', head)[1].decode()
        file = re.search(rb'filename="([^"]*)"', head)
        return name, (file and file[1].decode(), content.removesuffix(b"\r\n"))

    def create(self, asked):
        file = self.files.get(asked["input_file_id"])
        if file is None:
            return 400, {"error": {"message": f"no such file: {asked['input_file_id']}"}}
        if asked["endpoint"] != "/v1/chat/completions" or asked["completion_window"] != "24h":
            return 400, {"error": {"message": "another endpoint or window"}}
        if any(batch["metadata"] == asked["metadata"] for batch in self.batches.values()):
            self.wrong.append(f"a batch of {asked['metadata']} was made although it was there")
        lines = [json.loads(line) for line in file["content"].splitlines()]
        names = [line["custom_id"] for line in lines]
        if len(lines) > LIMITS[0] or file["bytes"] > LIMITS[1] or len(set(names)) < len(names):
            self.wrong.append(f"{len(lines)} requests, {len(set(names))} names, {file['bytes']} bytes")
        made = f"batch_{len(self.batches):06}"
        entry = {"id": made, "object": "batch", "created_at": int(time.time()), "status": "validating", **asked}
        entry |= {"began": time.monotonic(), "content": lines, "errors": None}
        entry |= {
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "output_file_id": None,
            "error_file_id": None,
        }
        open_now = sum(len(b["content"]) for b in self.batches.values() if b["status"] in ("validating", "in_progress"))
        entry["fate"] = "token_limit_exceeded" if open_now + len(lines) > self.enqueued else self.fate(entry)
        self.batches[made] = entry
        return 200, self.shown(entry)

    def go_on(self, batch):
        """What time has made of a batch."""
        if batch["status"] not in ("validating", "in_progress"):
            return
        age, lines, fate = time.monotonic() - batch["began"], batch["content"], batch["fate"]
        if fate in ("failed", "token_limit_exceeded", "invalid"):
            code = {"failed": "server_error", "invalid": "model_not_found"}.get(fate, fate)
            batch |= {
                "status": "failed",
                "errors": {"object": "list", "data": [{"code": code, "message": f"so: {code}"}]},
            }
        elif age < self.seconds:
            done = int(len(lines) * age / self.seconds)
            batch |= {"status": "in_progress", "request_counts": {"total": len(lines), "completed": done, "failed": 0}}
        else:
            self.end(batch, lines, fate)
        self.fates[batch["status"]] += batch["status"] != "in_progress"

    def end(self, batch, lines, fate):
        good, bad = [], []
        for line in lines:
            name, status, body = line["custom_id"], None, None
            late = fate != "completed" and self.draw.random() < 0.5  # what an expired or cancelled batch did not get to
            if not late and not self.faulty():
                status, _, body = self.reply(-1, line["body"])
            elif not late:
                status = self.draw.choice(LINE_FAULTS)
                body = {"error": {"message": "try again"}}
            if status == 200:
                self.answered[name] += 1
                if self.answered[name] > 1:
                    self.wrong.append(f"{name} was answered twice")
            response = None if status is None else {"status_code": status, "request_id": "r", "body": body}
            failed = {"code": f"batch_{fate}", "message": "this request was not executed"} if status is None else None
            (good if status == 200 else bad).append(
                {"id": "l", "custom_id": name, "response": response, "error": failed}
            )
        self.draw.shuffle(good)
        files = [
            self.add_file("o.jsonl", "batch_output", b"".join(json.dumps(line).encode() + b"\n" for line in part))
            if part
            else None
            for part in (good, bad)
        ]
        counts = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        batch |= {"status": fate, "output_file_id": files[0], "error_file_id": files[1], "request_counts": counts}
