"""What the toolkit's pages have in common: one HTML file, requests of this machine alone, no script from elsewhere."""

import json
from collections.abc import Sequence
from pathlib import Path
from socket import AF_INET, AF_INET6, create_server, socket
from typing import TYPE_CHECKING, Any

from persona_vectors.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.routing import Route

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"


def listen(host: str, port: int) -> socket:
    """A listening socket; taken before anything is loaded, so that a port in use is said at once."""
    try:
        return create_server((host, port), family=AF_INET6 if ":" in host else AF_INET)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"cannot listen on {host} port {port}: {why}; --port takes another") from error


def address(listener: socket) -> tuple[str, bool]:
    """(the address of a page, whether this machine alone can reach it)."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}", host in ("::1", "localhost") or host.startswith("127.")


def page_app(name: str, routes: "Sequence[Route]", loopback: bool) -> "Starlette":
    """The ASGI app of a page: ``app/<name>.html`` at /, and ``routes``.

    Args:
        loopback: accept requests addressed to this machine only.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    page = Path(__file__).with_name(f"{name}.html").read_text(encoding="utf-8")

    async def index(_request: "Request") -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    hosts = ["127.0.0.1", "localhost", "::1", "[::1]"] if loopback else ["*"]
    return Starlette(
        routes=[Route("/", index), *routes], middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]
    )


async def read_request(request: "Request") -> Any:
    """The JSON of a request.

    Raises:
        UserError: it says that it is something else: other sites' pages can send that without asking first.
        ValueError: it is no JSON.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise UserError("send application/json")
    return json.loads(await request.body())
