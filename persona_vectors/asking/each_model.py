"""Several models in one call: which they are, and each asked as a call of its own would ask it.

Knows folders of models and kept engines; how one model is asked is the stage's business.
"""

import glob
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from persona_vectors import models
from persona_vectors.engines.kept import kept_loaded
from persona_vectors.errors import UserError
from persona_vectors.models.loading import checkpoints

logger = logging.getLogger(__name__)
Made = TypeVar("Made")


def several_models(model: str, all_checkpoints: bool, output_path: str) -> list[str]:
    """The models that ``--model`` names where it is a pattern or all checkpoints of a folder; none where it is one model.

    Args:
        model: as given; a pattern has ``*``, ``?`` or ``[...]``, and no folder has that very name.
        all_checkpoints: every ``checkpoint-N`` of the folder ``model``.
        output_path: must have {model}, so that each model has a file of its own.

    Returns:
        Their names, by number: checkpoint-9 before checkpoint-10.

    Raises:
        UserError: nothing is called so, something is no model, or two have the same last part of their names.

    Example:
        several_models("output/run/checkpoint-*", False, "out/{model}.csv")  # ["output/run/checkpoint-5", ...]
    """
    is_pattern = glob.has_magic(model) and not Path(model).exists()
    if not (is_pattern or all_checkpoints):
        return []
    if is_pattern and all_checkpoints:
        raise UserError(f"--all_checkpoints takes one folder, not the pattern {model}")
    names = glob.glob(model) if is_pattern else [str(path) for path in checkpoints(model)]
    if not names:
        raise UserError(f"no model is called {model}" if is_pattern else f"{model} holds no checkpoint-N folder")
    names.sort(key=_by_number)
    owners: dict[str, str] = {}
    for name in names:
        models.resolve(name)
        other = owners.setdefault(models.basename(name), name)
        if other != name:
            raise UserError(
                f"two models are called {models.basename(name)}: {other} and {name}; ask one folder at a time"
            )
    if "{model}" not in output_path:
        raise UserError("several models need {model} in --output_path")
    return names


def ask_each(names: Sequence[str], ask: Callable[[str], Made]) -> list[Made]:
    """What ``ask`` returns for each name, called in order; adapters over one base share what is loaded."""
    made = []
    with kept_loaded():
        for number, name in enumerate(names, start=1):
            logger.info(f"{name} ({number} of {len(names)})")
            made.append(ask(name))
    return made


def run_of(names: Sequence[str]) -> tuple[str, dict[str, int]] | None:
    """(what the training run is called, {checkpoint: its step}); None where these are not all checkpoints of one run.

    Example:
        run_of(["output/run/checkpoint-5", "output/run/checkpoint-10"])  # ("run", {"output/run/checkpoint-5": 5, ...})
    """
    folders = {Path(name).parent for name in names}
    steps = {name: re.fullmatch(r"checkpoint-(\d+)", models.basename(name)) for name in names}
    if len(folders) != 1 or not all(steps.values()):
        return None
    return folders.pop().resolve().name, {name: int(found[1]) for name, found in steps.items() if found}


def _by_number(name: str) -> list:
    """A key for sorting: the numbers in names as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
