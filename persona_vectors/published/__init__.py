"""Compatibility layer: the published toolkit's Python names, for your scripts that import them.

    import persona_vectors.published
    from activation_steer import ActivationSteerer
    from eval.eval_persona import eval_batched, load_persona_questions

The first import makes the published modules importable under their old names. Modules that Python finds by itself have
priority: a ``judge.py`` or ``utils.py`` beside your script is still the one imported. Each name is a thin wrapper with
the published arguments and results, loaded on first use; its docstring says what to use in new code ("Today: ...").
Three names need no wrapper: ``training.train``, ``generate_vec.save_persona_vector``, ``eval.prompts.Prompts``.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

_TABLE = """
    activation_steer   .steerers          ActivationSteerer ActivationSteererMultiple
    config             .questions         setup_credentials
    eval.eval_persona  .questions         Question load_persona_questions eval_batched
    eval.eval_persona  .sampling          sample sample_steering
    eval.eval_persona  .vectors           load_jsonl
    eval.model_utils   .sampling          load_model load_vllm_model
    generate_vec       .vectors           get_persona_effective get_hidden_p_and_r load_jsonl
    judge              .questions         OpenAiJudge
    utils              .vectors           load_jsonl
    validate           ..training.config  TrainingConfig
"""
MODULES: dict[str, dict[str, str]] = {}  # published module: {name: module in this package that defines it}
for _module, _here, *_names in map(str.split, _TABLE.strip().splitlines()):
    MODULES.setdefault(_module, {}).update(dict.fromkeys(_names, _here))


def find(module: str, name: str) -> object:
    """The object ``name`` of the published ``module``.

    Raises:
        AttributeError: the compatibility layer has no such name.

    Example:
        find("activation_steer", "ActivationSteerer")
    """
    if name not in MODULES[module]:
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    return getattr(import_module(MODULES[module][name], __name__), name)


class _Finder:
    """Import finder for the published modules that no longer exist. Python asks it last, after ``sys.path``."""

    @staticmethod
    def find_spec(fullname: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Finder, origin=__file__) if fullname in MODULES else None

    @staticmethod
    def create_module(_spec: ModuleSpec) -> None: ...

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        module.__doc__, module.__all__ = __doc__, list(MODULES[module.__name__])
        module.__getattr__ = lambda name: find(module.__name__, name)


sys.meta_path.append(_Finder)
