"""Search for the layer and the dose that bring out the most of a trait while answers stay coherent.

Bayesian optimisation by Optuna's Gaussian processes: the score is what is raised (or lowered), the floor of coherence and, where
there is one, the ceiling of KL are constraints (Gardner et al., "Bayesian Optimization with Inequality Constraints", 2014).
Cells are asked for in rounds, since a model answers many at once. Everything is kept in Optuna's SQLite storage, so that a search goes on where it was stopped.
Knows numbers; knows nothing of models or answers.
"""

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import differences, plain

ROUND = 4  # cells that are asked for at once
# Of the ranges of layers and doses: middle layers and moderate doses carry most traits, and come first.
FIRST = ((0.42, 0.2), (0.56, 0.4), (0.72, 0.55), (0.27, 0.3))
INSTALL = "the search needs Optuna and SciPy, which are not installed: pip install optuna==5.0.0 scipy"


@dataclass(frozen=True)
class Range:
    """Where is searched.

    Attributes:
        layers: lowest and highest.
        doses: smallest and largest, both positive, or both negative: then the trait is to be lowered.
    """

    layers: tuple[int, int]
    doses: tuple[float, float]

    @property
    def lowers(self) -> bool:
        """Whether the trait is to be lowered."""
        return self.doses[1] < 0

    @property
    def sizes(self) -> tuple[float, float]:
        """The doses without their sign, ascending."""
        low, high = sorted(map(abs, self.doses))
        return low, high


def check_installed() -> None:
    """Refuse to search without Optuna, in one line with what to install."""
    from importlib.util import find_spec

    if not (find_spec("optuna") and find_spec("scipy")):
        raise UserError(INSTALL)


class CellSearch:
    """A search that is kept in a folder.

    Example:
        search = CellSearch(Path("output/search"), Range((8, 24), (0.1, 1.2)), 75, settings, seed=0)
        while cells := search.round(trials=16):
            search.tell({cell: (score, coherence) for cell in cells})
    """

    def __init__(
        self,
        folder: Path,
        within: Range,
        min_coherence: float,
        settings: Mapping,
        seed: int = 0,
        max_kl: float | None = None,
    ) -> None:
        """Open the search, or begin it.

        Args:
            max_kl: the ceiling of KL, if there is one; then every cell is told its KL too.

        Raises:
            UserError: what is there was made from something else than ``settings`` or another range; Optuna is missing.
        """
        check_installed()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.within, self.folder, self.seed = within, folder, seed
        self.min_coherence, self.max_kl = min_coherence, max_kl
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
        made_from = plain({**settings, **vars(within), "min_coherence": min_coherence, "seed": seed})
        studies = {study.study_name: study for study in optuna.get_all_study_summaries(self._storage)}
        known = studies["cells"].user_attrs.get("made_from") if "cells" in studies else None
        if known is not None and (changed := differences(known, made_from)):
            raise UserError(
                f"the search in {folder} does not match this command ({'; '.join(changed)}); {provenance.REMEDY}"
            )
        if known is None:
            if "cells" in studies:  # stopped while it was begun
                optuna.delete_study(study_name="cells", storage=self._storage)
            direction: Any = "minimize" if within.lowers else "maximize"
            study = optuna.create_study(storage=self._storage, study_name="cells", direction=direction)
            for along, much in FIRST:
                study.enqueue_trial(
                    {"layer": round(_between(within.layers, along)), "dose": _between(within.sizes, much)}
                )
            study.set_user_attr("made_from", made_from)
        self._study = self._load()

    def _load(self) -> Any:
        """The study with a sampler that draws the same after the same trials, wherever the run was stopped."""
        import optuna

        study = optuna.load_study(study_name="cells", storage=self._storage)
        with _quiet():
            study.sampler = optuna.samplers.GPSampler(
                seed=self.seed + self._asked(study),
                n_startup_trials=ROUND,
                constraints_func=lambda trial: trial.user_attrs["lacks"],
            )
        return study

    @property
    def number(self) -> int:
        """Of the round under way, from 1."""
        return max((trial.user_attrs.get("round", 0) for trial in self._study.trials), default=0)

    def round(self, trials: int) -> list[tuple[int, float]]:
        """The (layer, dose) of the round that was stopped, else of the next; nothing after ``trials`` cells.

        A dose has three decimals; cells of one round may be the same.
        """
        from optuna.trial import Trial, TrialState

        running = self._study.get_trials(states=[TrialState.RUNNING])
        begun = [trial for trial in running if "round" not in trial.user_attrs]  # stopped while it was asked for
        first = [trial for trial in begun if "fixed_params" in trial.system_attrs]  # of FIRST, which come once
        for trial in begun:
            if trial not in first:  # it is drawn again, from the same seed
                self._study.tell(trial.number, state=TrialState.FAIL)
        number = self.number + (len(begun) == len(running))
        own = len(self._cells(number))
        sizes = self._study.user_attrs.get("sizes", {})  # of the rounds that were begun
        if (not own and not begun) or str(number) not in sizes:
            sizes |= {str(number): own or max(0, min(ROUND, trials - self._asked(self._study)))}
            self._study.set_user_attr("sizes", sizes)
        for _ in range(sizes[str(number)] - own):
            self._study = self._load()
            with _quiet():
                trial = Trial(self._study, first.pop()._trial_id) if first else self._study.ask()
                trial.suggest_int("layer", *self.within.layers)
                trial.suggest_float("dose", *self.within.sizes)
            trial.set_user_attr("round", number)
        return self._cells(number)

    @staticmethod
    def _asked(study: Any) -> int:
        return sum("round" in trial.user_attrs for trial in study.trials)

    def _cells(self, number: int) -> list[tuple[int, float]]:
        return [self._cell(trial) for trial in self._study.trials if trial.user_attrs.get("round") == number]

    def _cell(self, trial: Any) -> tuple[int, float]:
        dose = round(trial.params["dose"], 3)
        return trial.params["layer"], -dose if self.within.lowers else dose

    def tell(self, found: Mapping[tuple[int, float], tuple[float, ...]]) -> None:
        """Give the round's cells their mean (score, coherence), and KL where it has a ceiling; NaN, or nothing, where no answer
        was scored.
        """
        from optuna.trial import TrialState

        for trial in self._study.get_trials(states=[TrialState.RUNNING]):
            score, coherence, *drift = found.get(self._cell(trial), (math.nan, math.nan))
            if self.min_coherence == 0 and math.isnan(coherence):  # which is not looked at
                coherence = 0.0
            if math.isnan(score) or math.isnan(coherence):
                self._study.tell(trial.number, state=TrialState.FAIL)
                continue
            lacks = [self.min_coherence - coherence]
            if self.max_kl is not None:
                self._storage.set_trial_user_attr(trial._trial_id, "kl", drift[0])
                lacks.append(drift[0] - self.max_kl)
            self._storage.set_trial_user_attr(trial._trial_id, "lacks", lacks)
            self._study.tell(trial.number, score)


def _between(ends: tuple[float, float], part: float) -> float:
    return ends[0] + part * (ends[1] - ends[0])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that parts of Optuna are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
