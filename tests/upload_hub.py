"""A hub on loopback that takes commits (small files inline, vectors through LFS) and gives them out again."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlparse

from loopback import Loopback


class UploadHub(Loopback):
    """Repositories by name: {path: bytes}. ``token``: the one that may write; ``stored``: LFS objects by sha256;
    ``headers``: cards that the client had checked."""

    def __init__(self, token: str = "hf_test"):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.stored: dict[str, bytes] = {}
        self.headers: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, status, body=b"", **headers):
                if not isinstance(body, bytes):
                    body = json.dumps(body).encode()
                    headers["Content_Type"] = "application/json"
                self.send_response(status)
                for name, value in ({"Content_Length": str(len(body))} | headers).items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def body(self):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def do_POST(self):
                body, parts = self.body(), urlparse(self.path).path.strip("/").split("/")
                if self.headers.get("Authorization") != f"Bearer {token}":
                    return self.reply(401, {"error": "no"})
                if parts == ["api", "repos", "create"]:
                    asked = json.loads(body)
                    name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                    hub.repos.setdefault(name, {})
                    return self.reply(200, {"url": f"{hub.url}/{name}", "name": name})
                if parts[-3:] == ["lfs", "objects", "batch"]:
                    objects = [
                        o | {"actions": {"upload": {"href": f"{hub.url}/lfs/{o['oid']}"}}}
                        for o in json.loads(body)["objects"]
                    ]
                    return self.reply(200, {"transfer": "basic", "objects": objects})
                if parts == ["api", "validate-yaml"]:  # the client has a card's header checked before it sends it
                    hub.headers.append(json.loads(body)["content"])
                    return self.reply(200, {"errors": [], "warnings": []})
                name = "/".join(parts[2:4])
                if parts[4] == "preupload":
                    files = [
                        {"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False, "oid": None}
                        for f in json.loads(body)["files"]
                    ]
                    return self.reply(200, {"files": files})
                for line in body.splitlines():
                    entry = json.loads(line)
                    value = entry["value"]
                    if entry["key"] == "file":
                        hub.repos[name][value["path"]] = base64.b64decode(value["content"])
                    elif entry["key"] == "lfsFile":
                        hub.repos[name][value["path"]] = hub.stored[value["oid"]]
                answer = {"commitUrl": f"{hub.url}/{name}/commit/{hub.sha(name)}", "commitOid": hub.sha(name)}
                self.reply(200, answer | {"pullRequestUrl": None, "success": True})

            def do_PUT(self):
                data, oid = self.body(), self.path.rsplit("/", 1)[1]
                assert hashlib.sha256(data).hexdigest() == oid
                hub.stored[oid] = data
                self.reply(200)

            def do_GET(self):
                parts = urlparse(self.path).path.strip("/").split("/")
                if parts == ["api", "whoami-v2"]:
                    known = self.headers.get("Authorization") == f"Bearer {token}"
                    return self.reply(200 if known else 401, {"name": "me"} if known else {"error": "no"})
                name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
                if name not in hub.repos:
                    return self.reply(404, b"", X_Error_Code="RepoNotFound")
                files = hub.repos[name]
                if parts[0] == "api" and len(parts) > 4 and parts[4] == "tree":
                    rows = [{"type": "file", "path": p, "size": len(d), "oid": "0" * 40} for p, d in files.items()]
                    return self.reply(200, rows)
                if parts[0] == "api":
                    siblings = [{"rfilename": p, "size": len(d)} for p, d in files.items()]
                    return self.reply(200, {"id": name, "sha": hub.sha(name), "siblings": siblings, "tags": []})
                path = "/".join(parts[4:])
                if path not in files:
                    return self.reply(404, b"", X_Error_Code="EntryNotFound")
                etag = f'"{hashlib.sha256(files[path]).hexdigest()}"'
                self.reply(200, files[path], ETag=etag, X_Repo_Commit=hub.sha(name))

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        def mode(path):
            return "lfs" if path.endswith((".safetensors", ".pt", ".png")) else "regular"

        super().__init__(Handler)

    def sha(self, name: str) -> str:
        """The commit of a repository: its content's digest."""
        return hashlib.sha1(repr(sorted(self.repos[name].items())).encode()).hexdigest()
