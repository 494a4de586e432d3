"""The Hugging Face hub: its settings, and its client's errors in one line.

Knows huggingface_hub's exceptions; knows nothing of models or vectors.
"""

import os
import re

from persona_vectors.errors import UserError, first_line
from persona_vectors.settings import load_dotenv


def load_hub_settings() -> None:
    """Read ``.env``; to be called before huggingface_hub is imported: it reads HF_ENDPOINT and HF_HUB_OFFLINE then."""
    load_dotenv()
    if not os.environ.get("HF_TOKEN", "").strip():
        os.environ.pop("HF_TOKEN", None)  # an empty line of .env is no token


def check_repo(name: str) -> None:
    """Refuse what cannot be the name of a repository."""
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise UserError(f"'{name}' is not a model on the hub: owner/name, e.g. Qwen/Qwen3-1.7B")


class sorting_errors:
    """Turns what the hub's client says of a model that cannot be had into one line that says what to do."""

    def __init__(self, model_name: str, revision: str) -> None:
        self.name, self.revision = model_name, revision

    def __enter__(self) -> None: ...

    def __exit__(self, kind, error, _traceback) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, UserError):
            return
        message = self._tell(error)
        if message:
            raise UserError(message) from error

    def _tell(self, error: Exception) -> str | None:
        from huggingface_hub import constants, errors, get_token

        page = f"{constants.ENDPOINT}/{self.name}"
        token = get_token()
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.GatedRepoError):
            do = "wait for access, or ask for it there" if token else "put HF_TOKEN into .env (see .env.example)"
            return f"{self.name} is gated: accept its terms at {page} and {do}"
        if isinstance(error, errors.RevisionNotFoundError):
            return f"{self.name} has no revision '{self.revision}'; {page}/tree/main lists its branches and tags"
        if isinstance(error, errors.RepositoryNotFoundError) or (status == 401 and not token):
            known = "HF_TOKEN may not see it" if token else "it is private: then put HF_TOKEN into .env"
            return f"{constants.ENDPOINT} has no model {self.name}; check the name, or {known}"
        if status == 401:
            return f"{constants.ENDPOINT} refuses the token; check HF_TOKEN"
        if status is not None:
            return f"{constants.ENDPOINT} answered HTTP {status} for {self.name}; try again later: the command goes on"
        if isinstance(error, errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
            return f"cannot fetch {self.name}: HF_HUB_OFFLINE is set; unset it, or use a folder that has the model"
        if isinstance(error, (OSError, *_connection_errors())):
            reason = first_line(error)
            return f"cannot fetch {self.name} from {constants.ENDPOINT}: {reason}; the same command goes on from there"
        return None


def _connection_errors() -> tuple[type[Exception], ...]:
    """What the hub client's HTTP library raises without a network; which library that is, is the client's choice."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
