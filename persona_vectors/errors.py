"""The exceptions that mean: the user can mend this."""

import difflib
from collections.abc import Iterable

LONGEST = 1500  # characters of one line


class UserError(ValueError):
    """A mistake in a command, a file or an account, said in one line: what, where, what to do.

    Stages let it rise to :func:`persona_vectors.cli.run`, which prints it and exits with code 2, without a traceback.
    Any other exception is a defect of ours and keeps its traceback. What a message quotes may come from anybody's file:
    characters that a terminal would obey (line ends, escapes) become spaces, and what is very long is cut in its middle.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = "".join(character if character.isprintable() else " " for character in message)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
        super().__init__(line)


class NothingScored(UserError):
    """A run whose work was done and kept, but whose judge gave not one score: no mistake in the command, and no result."""

    exit_code = 1


class TooExpensive(UserError):
    """A run that costs more than the user allows, before it begins or in its middle; what was paid for is kept."""

    exit_code = 3


def first_line(error: BaseException, longest: int = 300) -> str:
    """What an error of a library says, in one line of at most ``longest`` characters; its type where it says nothing.

    Of a validation error that is the reason; where the first line ends with a colon, what follows belongs to it.

    Example:
        first_line(OSError("disk full\n(of /tmp)"))  # "disk full"
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = next((line for line in lines if line.startswith("Value error")), lines[0])
    line = " ".join(lines) if line.endswith(":") else line
    return line if len(line) <= longest else f"{line[:longest]} ..."


def suggest(word: str, known: Iterable[str], prefix: str = "", cutoff: float = 0.5) -> str:
    """``" (did you mean X?)"`` for the known word nearest to ``word``, or an empty string."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {prefix}{nearest[0]}?)" if nearest else ""
