"""Persona vectors: find a character trait in a language model, steer with it, watch it.

    import persona_vectors as pv
    model, tokenizer = pv.load("Qwen/Qwen2.5-7B-Instruct")
    vectors = pv.find_vectors(model, tokenizer, positive, negative)
    with pv.steer(model, vectors.response_avg, layer=20, coef=1.5):
        answers = pv.answer(model, tokenizer, ["How do I start with roses?"])

The import costs nothing: a name is loaded when it is asked for. Vectors that the stages make are saved beside this file, in
``persona_vectors/<model>/``, where users of the method look for them.
"""

from typing import TYPE_CHECKING

__version__ = "0.2.0"

from persona_vectors.interrupts import watch as _watch

_watch()

if TYPE_CHECKING:  # what editors and type checkers see
    from persona_vectors.errors import UserError as UserError
    from persona_vectors.front_door import Judge as Judge
    from persona_vectors.front_door import LikelihoodJudge as LikelihoodJudge
    from persona_vectors.front_door import PersonaVectors as PersonaVectors
    from persona_vectors.front_door import Scores as Scores
    from persona_vectors.front_door import answer as answer
    from persona_vectors.front_door import find_vectors as find_vectors
    from persona_vectors.front_door import load as load
    from persona_vectors.front_door import project as project
    from persona_vectors.sharing.reading import load_vectors as load_vectors
    from persona_vectors.steering.intervention import Intervention as Intervention
    from persona_vectors.steering.steer import steer as steer
    from persona_vectors.traits.artifact import Trait as Trait
    from persona_vectors.traits.artifact import load_trait as load_trait
    from persona_vectors.vectors.storage import random_like as random_like
    from persona_vectors.vectors.storage import save_vectors as save_vectors

_WHERE = {
    "front_door": "Judge LikelihoodJudge PersonaVectors Scores answer find_vectors load project",
    "steering.steer": "steer",
    "steering.intervention": "Intervention",
    "traits.artifact": "Trait load_trait",
    "sharing.reading": "load_vectors",
    "vectors.storage": "random_like save_vectors",
    "errors": "UserError",
}
_NAMES = {name: module for module, names in _WHERE.items() for name in names.split()}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module 'persona_vectors' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"persona_vectors.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
