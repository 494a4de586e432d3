"""Keys and addresses, from the environment and ``.env``; asked for only by what needs them.

Knows where secrets come from. Nothing here prints one.
"""

import os
from pathlib import Path

from persona_vectors.errors import UserError

OPENAI_URL = "https://api.openai.com/v1"


def load_dotenv() -> None:
    """Read ``.env`` of the working directory into the environment; variables that are set already win."""
    from dotenv import load_dotenv as read

    read(Path.cwd() / ".env")


def without_secrets(url: str) -> str:
    """An address as it may be printed: without user, password and query."""
    address = url.split("?")[0].split("#")[0]
    scheme, separator, rest = address.rpartition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path


def judge_endpoint() -> tuple[str, str]:
    """``(base_url, api_key)`` of the OpenAI-compatible endpoint (judge or writer), from OPENAI_BASE_URL and OPENAI_API_KEY.

    A server of one's own needs no key; OpenAI's does, and its absence is a :class:`UserError` here, before any work.
    """
    load_dotenv()
    base_url = os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    api_key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not base_url.startswith(("http://", "https://")):
        raise UserError(f"OPENAI_BASE_URL is '{without_secrets(base_url)}'; it must start with http:// or https://")
    if not api_key and base_url.rstrip("/") == OPENAI_URL:
        raise UserError(
            "OPENAI_API_KEY is missing: put it into .env (see .env.example), or set OPENAI_BASE_URL to an "
            "OpenAI-compatible server of your own"
        )
    return base_url, api_key or "none"
