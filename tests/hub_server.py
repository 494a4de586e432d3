"""A server on loopback that speaks as much of the hub's protocol as a download needs."""

import hashlib
import json
import os
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlparse

from loopback import Loopback

SHA = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = os.urandom(3_000_000)
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "tokenizer.json": b"{}",
    "merges.txt": b"a b",
    "README.md": b"hello",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickled",
    "consolidated.safetensors": b"again",
    "model-q4.gguf": b"another program's",
    "onnx/model.onnx": b"another program's",
    "original/params.json": b"{}",
    "training_args.bin": b"pickled",
}


class HubServer(Loopback):
    """A hub with one model. ``gets``: files fetched (path, Range); ``cut``: hang up midway, so often."""

    def __init__(self, files=FILES, status=200, code=None, revisions=("main", SHA, "v1"), model="lab/tiny"):
        self.gets, self.cut, self.tokens = [], {}, set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def refuse(self, status, code):
                self.reply(status, b'{"error": "no"}', **({"X_Error_Code": code} if code else {}))

            def do_GET(self):
                if model in self.path:  # the client asks for a thing or two of its own
                    hub.tokens.add(self.headers.get("Authorization"))
                parts = urlparse(self.path).path.strip("/").split("/")
                if parts[:2] == ["api", "models"]:
                    return self.api(parts)
                name = "/".join(parts[4:])
                if parts[:3] != [*model.split("/"), "resolve"] or name not in files:
                    return self.refuse(404, "EntryNotFound" if parts[:2] == model.split("/") else "RepoNotFound")
                data = files[name]
                headers = {
                    "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                    "X_Repo_Commit": SHA,
                    "Accept_Ranges": "bytes",
                }
                if self.command == "HEAD":
                    return self.reply(200, **headers, Content_Length=str(len(data)))
                given = self.headers.get("Range")
                hub.gets.append((name, given))
                start = int(given.removeprefix("bytes=").split("-")[0]) if given else 0
                if given:
                    headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                if hub.cut.get(name):
                    hub.cut[name] -= 1
                    self.close_connection = True
                    half = start + (len(data) - start) // 2
                    return self.reply(
                        206 if given else 200, data[start:half], **headers, Content_Length=str(len(data) - start)
                    )
                self.reply(206 if given else 200, data[start:], **headers)

            do_HEAD = do_GET

            def api(self, parts):
                if status != 200:
                    return self.refuse(status, code)
                if parts[2:4] != model.split("/"):
                    return self.refuse(404, "RepoNotFound")
                if parts[5] not in revisions:
                    return self.refuse(404, "RevisionNotFound")
                if parts[4] == "tree":
                    entries = [
                        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                        for name, data in files.items()
                    ]
                    return self.reply(200, json.dumps(entries).encode(), Content_Type="application/json")
                siblings = [{"rfilename": name, "size": len(data), "blobId": "x"} for name, data in files.items()]
                body = {
                    "id": model,
                    "modelId": model,
                    "sha": SHA,
                    "siblings": siblings,
                    "tags": [],
                    "downloads": 0,
                }
                self.reply(200, json.dumps(body).encode(), Content_Type="application/json")

            def log_message(self, *_):
                pass

        super().__init__(Handler)
