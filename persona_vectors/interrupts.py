"""A command that is interrupted says so in one line, even while it still imports.

An import that is interrupted may fail in words of its own (a SyntaxError, an ImportError), so that the signal is what counts.
"""

import signal
import sys
import threading
from pathlib import Path

SAID = "interrupted: finished work is kept; the same command goes on from there"
_came = threading.Event()


def caused(error: BaseException) -> bool:
    """Whether an error is an interrupt, or what an interrupt has become."""
    return isinstance(error, KeyboardInterrupt) or _came.is_set()


def watch() -> None:
    """In a command of this project, from here on; in anybody else's program nothing."""
    main, root = getattr(sys.modules.get("__main__"), "__file__", None), Path(__file__).resolve().parents[1]
    inside = Path(main).resolve().relative_to(root).parts if main and Path(main).resolve().is_relative_to(root) else ()
    ours = len(inside) == 1 or inside[:1] in [("eval",), ("data_generation",), ("persona_vectors",)]
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def note(number: int, frame: object) -> None:
        _came.set()
        signal.default_int_handler(number, frame)

    def hook(kind: type, error: BaseException, trace: object, before=sys.excepthook) -> None:
        if caused(error):
            print(SAID, file=sys.stderr)
        else:
            before(kind, error, trace)

    signal.signal(signal.SIGINT, note)
    sys.excepthook = hook
