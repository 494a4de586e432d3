"""API keys and endpoint addresses, read from the environment and ``.env`` when they are needed.

Nothing here prints a secret.
"""

import os
from pathlib import Path

from persona_vectors.errors import UserError

OPENAI_URL = "https://api.openai.com/v1"


def load_dotenv() -> None:
    """Read ``.env`` of the working directory into the environment; variables that are already set win."""
    from dotenv import load_dotenv as read

    read(Path.cwd() / ".env")


def without_secrets(url: str) -> str:
    """An address as it may be printed: without user, password and query."""
    address = url.split("?")[0].split("#")[0]
    scheme, separator, rest = address.rpartition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path


def judge_endpoint() -> tuple[str, str]:
    """``(base_url, api_key)`` of the OpenAI-compatible endpoint, from OPENAI_BASE_URL and OPENAI_API_KEY.

    Used for judges and for the models that write data. The key is "none" if unset.

    Raises:
        UserError: OpenAI's own endpoint without a key, or an address that is not http(s).

    Example:
        base_url, api_key = judge_endpoint()
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
