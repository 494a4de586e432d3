"""A command that is interrupted says so in one line, even while it still imports.

An import that is interrupted may fail in words of its own (a SyntaxError, an ImportError), so that the signal is what counts.
This module comes first and imports next to nothing itself.
"""

import os
import sys

SAID = "interrupted: finished work is kept; the same command goes on from there"
_came: list[int] = []


def caused(error: BaseException) -> bool:
    """Whether an error is an interrupt, or what an interrupt has become."""
    return isinstance(error, KeyboardInterrupt) or bool(_came)


def watch() -> None:
    """In a command of this project, from here on; in anybody else's program nothing."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if not main:
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.relpath(os.path.abspath(main), root).split(os.sep)
    if len(inside) != 1 and inside[0] not in ("eval", "data_generation", "persona_vectors"):
        return

    def hook(kind: type, error: BaseException, trace: object, before=sys.excepthook) -> None:
        if caused(error):
            print(SAID, file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = hook

    import signal

    def note(number: int, _frame: object) -> None:
        _came.append(number)
        signal.default_int_handler(number, None)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)
