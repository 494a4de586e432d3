"""Tasks of lm-evaluation-harness: found, loaded with their data and known by content before a model is loaded, then run.

lm_eval is an extra, imported when a task is asked for.
"""

import inspect
import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_vectors.capability.values import Value
from persona_vectors.errors import UserError, first_line, suggest
from persona_vectors.files.fingerprints import Fingerprint, file_digests, sha256_of

if TYPE_CHECKING:
    from persona_vectors.capability.harness import SteeredLM, SteeredVLLM

logger = logging.getLogger(__name__)

# What a task may say of answers that are not drawn: the last ones change nothing then
GREEDY = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k", "min_p"}
INSTALL = 'pip install "lm_eval==0.4.13"'


@lru_cache(1)
def _all_of_lm_evals() -> Any:
    """The index of the tasks that come with lm-eval, which takes seconds; they do not change while a process lives."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


class Tasks:
    """Tasks by name, with their data.

    Args:
        names: as lm-eval has them: tasks, groups (mmlu) or tags.
        folder: of task files (YAML) of one's own; they come before lm-eval's of the same name.
        num_fewshot: worked examples before each question; None is each task's own number.

    Raises:
        UserError: lm_eval is not installed; an unknown name; data that cannot be reached; a task that runs what a model
            writes, or needs more than text.

    Example:
        tasks = Tasks(["arc_easy"])
        values, details = tasks.run("arc_easy", scorer, limit=100)
    """

    def __init__(self, names: Sequence[str], folder: str | None = None, num_fewshot: int | None = None) -> None:
        try:
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise UserError(f"--tasks {','.join(names)} needs lm-evaluation-harness: {INSTALL} ({error})") from error
        logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of what every run of it has
        if folder is not None and not any(Path(folder).rglob("*.yaml")):
            raise UserError(f"--task_dir {folder} holds no task file (.yaml)")
        self.num_fewshot = num_fewshot
        if folder is None:
            self.manager = _all_of_lm_evals()
        else:
            self.manager = TaskManager(include_path=folder, include_defaults=False)
            if not set(names) <= set(self.manager.all_tasks):
                self.manager = TaskManager(include_path=folder)
        self.loaded = {name: self._load(name) for name in names}
        for name in names:
            for leaf in self._leaves(name):
                self._check(name, leaf)

    def _load(self, name: str) -> list:
        """The group, or the tasks, of a name."""
        if name not in self.manager.all_tasks:
            raise UserError(f"lm-eval has no task '{name}'{suggest(name, self.manager.all_tasks)}")
        try:
            found = self.manager.load([name])
        except Exception as error:  # of files, networks, hubs, packages that a task needs
            hint = "; without a network its data has to be on this machine" if isinstance(error, OSError) else ""
            raise UserError(f"task {name} cannot be loaded: {_told(error)}{hint}") from error
        return [found["groups"][name]] if name in found["groups"] else list(found["tasks"].values())

    def _leaves(self, name: str) -> Iterator[Any]:
        for each in self.loaded[name]:
            yield from each.get_all_tasks() if hasattr(each, "get_all_tasks") else [each]

    def _check(self, name: str, leaf: Any) -> None:
        if getattr(leaf, "UNSAFE_CODE", False):
            raise UserError(f"task {name} runs code that the model writes, which is not done here")
        if getattr(leaf, "MULTIMODAL", False):
            raise UserError(f"task {name} shows the model more than text, which is not done here")

    def check_positions(self, positions: str) -> None:
        """Refuse tasks that score whole texts, which have no prompt, where prompts alone are steered."""
        for name in self.loaded:
            if positions == "prompt" and any(
                leaf.OUTPUT_TYPE == "loglikelihood_rolling" for leaf in self._leaves(name)
            ):
                raise UserError(
                    f"task {name} scores whole texts, which have no prompt: --steering_type response or all"
                )

    @property
    def generates(self) -> bool:
        """Whether a task has answers that are written, not only compared."""
        return any(leaf.OUTPUT_TYPE == "generate_until" for name in self.loaded for leaf in self._leaves(name))

    def not_by_vllm(self) -> str | None:
        """What some task needs that is done with transformers alone, in one line; None where vLLM can do all."""
        from lm_eval.models.utils import normalize_gen_kwargs

        for name in self.loaded:
            for leaf in self._leaves(name):
                if leaf.OUTPUT_TYPE != "generate_until":
                    continue
                settings = normalize_gen_kwargs(leaf.dump_config().get("generation_kwargs") or {})
                other = sorted(set(settings) - GREEDY)
                if settings["do_sample"]:
                    return f"task {name} draws its answers (do_sample)"
                if other:
                    return f"task {name} generates with {', '.join(other)}"
        return None

    def fingerprint(self, name: str) -> Fingerprint:
        """A task by what is asked and how it is scored: its settings and its questions, wherever they come from, the files of
        its functions, and how a group puts its tasks together.
        """
        from lm_eval import __version__

        def parts() -> Iterator[str]:
            yield __version__
            for leaf in self._leaves(name):
                settings = {k: v for k, v in leaf.dump_config().items() if not k.startswith("dataset_")}
                yield re.sub(" at 0x[0-9a-f]+", "", _json(settings))  # what Python calls a function without source
                examples = settings.get("num_fewshot") if self.num_fewshot is None else self.num_fewshot
                for doc in [*leaf.eval_docs, *(leaf.fewshot_docs() if examples else ())]:
                    yield _json(doc)

        first, around = f"sha256:{sha256_of(parts())}", list(self._around(name))
        if not around:
            return Fingerprint(name, first)
        return Fingerprint(name, f"sha256:{sha256_of([first, *around])}", older=(first,))

    def _around(self, name: str) -> Iterator[str]:
        """What a task's settings do not tell: the files, but for lm-eval's own, of all that is called, and the groups."""
        groups = [group for group in self.loaded[name] if hasattr(group, "get_all_groups")]
        groups += [inner for group in groups for inner in group.get_all_groups()]
        told = [group.to_dict() for group in groups]
        leaves = [[type(leaf), leaf.config.to_dict(keep_callable=True)] for leaf in self._leaves(name)]
        yield from file_digests(sorted(set(_code_files([leaves, told]))))
        yield from map(_json, told)

    def run(
        self, name: str, scorer: "SteeredLM | SteeredVLLM", limit: float | None = None, chat: bool = False
    ) -> tuple[list[Value], dict]:
        """The values of a task, and lm-eval's own results, those of the parts of a group included.

        What :func:`lm_eval.simple_evaluate` gives, seeds and all, without its report on the machine, which takes seconds.

        Args:
            limit: only the first so many questions of each task; below 1, this share of them.
            chat: put questions into the model's chat template.

        Raises:
            UserError: lm-eval refuses the task, or fails at it; logits that are no numbers.
        """
        from lm_eval.evaluator import evaluate

        cut: list[str] = []
        try:
            with _cuts_into(cut):
                results = evaluate(scorer, self._seeded(name), limit=limit, log_samples=False, apply_chat_template=chat)
        except (UserError, RuntimeError):  # memory, or a defect of ours
            raise
        except Exception as error:  # of whatever a task's file, or its code, does to questions and answers
            raise UserError(f"lm-eval cannot run task {name}: {_told(error)}") from error
        kept = ("results", "groups", "n-shot", "n-samples", "versions", "higher_is_better")
        details = json.loads(_json({key: results[key] for key in kept if key in results}))
        if cut:
            logger.warning(f"{name}: {len(cut)} times a text was longer than the model takes and was cut on the left")
        details["cut_on_the_left"] = len(cut)
        asked = [name] if name in details.get("groups", {}) else details["n-samples"]
        values = [value for one in asked for value in values_of(one, details)]
        if not values:
            raise UserError(f"task {name} gives no number: none of its metrics is one")
        return values, details

    def _seeded(self, name: str) -> Any:
        """A task as lm-eval runs it: with its number of examples, and every draw from the same seeds each time."""
        import random

        import numpy
        import torch
        from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

        random.seed(DEFAULT_RANDOM_SEED)
        numpy.random.seed(DEFAULT_OTHER_SEED)
        torch.manual_seed(DEFAULT_OTHER_SEED)
        loaded = self.manager.load(self.loaded[name])
        for leaf in loaded["tasks"].values():
            own = leaf.get_config("num_fewshot")
            if own is None or (own != 0 and self.num_fewshot is not None):  # a task that says 0 means it
                leaf.set_config(key="num_fewshot", value=self.num_fewshot or 0)
            leaf.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        return loaded


@contextmanager
def _cuts_into(cut: list[str]) -> Iterator[None]:
    """Within the block, what lm-eval warns of texts that it cuts goes into ``cut``, and its other warnings nowhere."""

    class Cuts(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "truncat" in record.getMessage().lower():
                cut.append(record.getMessage())

    log, handler = logging.getLogger("lm_eval"), Cuts()
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


def _code_files(value: object) -> Iterator[str]:
    """The source files, but for lm-eval's own, of all functions and classes in nested dicts and lists."""
    import lm_eval

    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _code_files(inner)
    elif callable(value):
        called: Any = inspect.unwrap(getattr(value, "func", value))
        try:
            is_code = hasattr(called, "__code__") or isinstance(called, type)
            file = inspect.getsourcefile(called if is_code else type(called))
        except TypeError:  # built in
            return
        if file and not Path(file).is_relative_to(Path(lm_eval.__file__).parent):
            yield file


def values_of(name: str, details: Mapping) -> list[Value]:
    """The metrics of one task or group in lm-eval's results: ``acc,none`` is acc, ``f1,strict`` is f1 (strict)."""
    found = {**details.get("groups", {}), **details["results"]}[name]
    counts = details["n-samples"].get(name)
    n = (
        found.get("sample_len")
        or (counts or {}).get("effective")
        or sum(c["effective"] for c in details["n-samples"].values())
    )
    values = []
    for key, value in found.items():
        metric, _, kind = key.partition(",")
        if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = found.get(f"{metric}_stderr,{kind}")
        error = float(error) if isinstance(error, int | float) else None
        values.append(Value(name, metric if kind == "none" else f"{metric} ({kind})", float(value), error, int(n)))
    return values


def _told(error: Exception) -> str:
    """An error of a library in one line; with its kind where that is a programming error, whose text alone says little."""
    if isinstance(error, OSError | ValueError | ImportError):
        return first_line(error, 240)
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {first_line(error, 240) if str(error) else last.line}"


def _json(value: object) -> str:
    """JSON of anything, the same each time: what has no JSON goes by its type."""
    return json.dumps(value, sort_keys=True, default=lambda other: getattr(other, "__name__", type(other).__name__))
