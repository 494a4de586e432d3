"""Where the toolkit keeps what later runs of the same user can use again."""

import os
from pathlib import Path

OFF = "off"


def cache_folder() -> Path:
    """PERSONA_VECTORS_CACHE, else persona_vectors/ in the user's cache folder (XDG_CACHE_HOME, or ~/.cache).

    Raises:
        RuntimeError: there is no home folder.

    Example:
        cache_folder() / "scores.sqlite"
    """
    own = os.environ.get("PERSONA_VECTORS_CACHE", "").strip()
    if own and own != OFF:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "persona_vectors"


def is_off() -> bool:
    """Whether PERSONA_VECTORS_CACHE is ``off``: no scores are kept."""
    return os.environ.get("PERSONA_VECTORS_CACHE", "").strip() == OFF
