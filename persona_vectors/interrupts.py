"""Make an interrupted command (Ctrl-C) end with one line instead of a traceback, even during imports.

An interrupted import may raise a SyntaxError or ImportError, so the signal itself is recorded. This module is imported
first and imports almost nothing.
"""

import os
import sys

SAID = "interrupted: finished work is kept; the same command goes on from there"
_came: list[int] = []


def caused(error: BaseException) -> bool:
    """Whether an error is an interrupt, or was raised after one."""
    return isinstance(error, KeyboardInterrupt) or bool(_came)


def watch() -> None:
    """Start watching for interrupts, if the running program is a command of this project; else do nothing."""
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
