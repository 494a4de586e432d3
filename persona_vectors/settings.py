"""API keys and endpoint addresses, read from the environment and ``.env`` when they are needed.

Nothing here prints a secret.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from persona_vectors.errors import UserError

# Endpoints that are known by name; those on this machine need no key.
ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "openrouter": "https://openrouter.ai/api/v1",
    "vllm": "http://127.0.0.1:8000/v1",
    "ollama": "http://127.0.0.1:11434/v1",
}


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked.

    Attributes:
        model: as the endpoint names it.
        base_url: of its OpenAI-compatible API.
        key: "none" where none is set.
        variable: the beginning of its variables' names, as in OPENAI_API_KEY.
        is_hosted: at the known address of its name, elsewhere than on this machine: it needs a key.
    """

    model: str
    base_url: str
    key: str = field(repr=False)
    variable: str
    is_hosted: bool = False


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


def judge_endpoint(model: str, needs_key: bool = True) -> Endpoint:
    """The OpenAI-compatible endpoint of a model, from OPENAI_BASE_URL and OPENAI_API_KEY.

    ``name:model`` is asked at another one: at NAME_BASE_URL, or the known address of that name (:data:`ADDRESSES`), with
    NAME_API_KEY. A name that is not known and has no NAME_BASE_URL is part of the model's own, as in ``llama3:8b``.
    Used for judges and for the models that write data.

    Raises:
        UserError: a hosted endpoint without a key, or an address that is not http(s).

    Example:
        judge_endpoint("openrouter:openai/gpt-4.1-mini").base_url  # "https://openrouter.ai/api/v1"
    """
    endpoint = endpoint_of(model)
    if not endpoint.base_url.startswith(("http://", "https://")):
        raise UserError(
            f"{endpoint.variable}_BASE_URL is '{without_secrets(endpoint.base_url)}'; it must start with http:// or https://"
        )
    if needs_key and endpoint.key == "none" and endpoint.is_hosted:
        raise UserError(
            f"{endpoint.variable}_API_KEY is missing: put it into .env (see .env.example), or set {endpoint.variable}_BASE_URL "
            "to an OpenAI-compatible server of your own"
        )
    return endpoint


def endpoint_of(model: str) -> Endpoint:
    """:func:`judge_endpoint`, also where it cannot be used."""
    load_dotenv()
    name, _, rest = model.partition(":")
    name, variable = name.lower(), re.sub(r"\W", "_", name).upper()
    if not rest or not (name in ADDRESSES or os.environ.get(f"{variable}_BASE_URL")):
        name, rest, variable = "openai", model, "OPENAI"
    hosted = ADDRESSES.get(name, "")
    base_url = os.environ.get(f"{variable}_BASE_URL") or hosted
    key = os.environ.get(f"{variable}_API_KEY", "").strip()
    is_hosted = base_url.rstrip("/") == hosted and hosted.startswith("https://")
    return Endpoint(rest, base_url, key or "none", variable, is_hosted)
