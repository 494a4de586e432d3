"""A server on a free port of this machine, up within a ``with``; what it answers is its handler's business."""

import threading
from http.server import ThreadingHTTPServer


class Loopback:
    """``with Loopback(Handler) as server: server.url``."""

    def __init__(self, handler, path: str = "", kind: type = ThreadingHTTPServer) -> None:
        self._server = kind(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
