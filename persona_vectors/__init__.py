"""The library every stage shares. Importing it costs nothing: each module is imported by name where it is used.

Vectors are saved beside it, in ``persona_vectors/<model>/``, where users of the method look for them.
"""

__version__ = "0.2.0"

from persona_vectors.interrupts import watch as _watch

_watch()
