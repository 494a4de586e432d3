"""Projections of prompts and answers onto persona vectors: which columns, and their values, in one pass of the model.

Sections 3.3 and 6: a.v / |v| for the mean activation over the answer (``proj``) or over the prompt, for the prompt's
last token, or the cosine for the answer's mean. Knows samples of token ids; knows nothing of files or templates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import Fingerprint
from persona_vectors.vectors.activations import pooled_activations
from persona_vectors.vectors.batches import Sample
from persona_vectors.vectors.storage import cosine, fingerprint, project, vector_name

POOL_OF = {
    "proj": "response_avg",
    "prompt_last_proj": "prompt_last",
    "prompt_avg_proj": "prompt_avg",
    "cos_sim": "response_avg",
}


@dataclass(frozen=True, eq=False)
class Column:
    """One number per row: the projection of one pool at one layer onto one vector, float32 [hidden].

    ``source`` is what the file of the vector holds.
    """

    name: str
    kind: str
    layer: int
    vector: Tensor
    source: Fingerprint | None = None

    @property
    def needs_answer(self) -> bool:
        """True where a row without an answer has no value."""
        return POOL_OF[self.kind] == "response_avg"


def made_from(columns: Sequence[Column], common: dict) -> dict[str, dict]:
    """{column: what its values are made from}: ``common`` to all, and the column's own vector, layer and type."""
    return {c.name: {**common, "vector": c.source, "layer": c.layer, "type": c.kind} for c in columns}


def make_columns(model: str, vectors: dict[str, Tensor], layers: Sequence[int], kinds: Sequence[str]) -> list[Column]:
    """Every vector at every layer in every type, named as published: ``<model>_<vector>_<type>_layer<l>``.

    Args:
        model: the model's last part.
        vectors: {path: [layers + 1, hidden]}.

    Raises:
        UserError: two files of one name.
    """
    columns = []
    for path, rows in vectors.items():
        source = fingerprint(path, rows)
        for layer in layers:
            names = {kind: f"{model}_{vector_name(path)}_{kind}_layer{layer}" for kind in kinds}
            columns += [Column(name, kind, layer, rows[layer], source) for kind, name in names.items()]
    if len({column.name for column in columns}) < len(columns):
        raise UserError(f"two vector files have one name, and their columns would too: {', '.join(vectors)}")
    return columns


class Projector:
    """Computes columns for samples, on the model's device, every vector, layer and type in one forward pass.

    Args:
        base: a second model; then it is the difference of activations, model minus base, that is projected. The
            model itself may be given: then it is the model with its adapter switched off.
    """

    def __init__(
        self,
        model: nn.Module,
        columns: Sequence[Column],
        base: nn.Module | None = None,
        token_budget: int | None = None,
    ) -> None:
        self.model, self.columns, self.base, self.token_budget = model, list(columns), base, token_budget
        self.layers = sorted({column.layer for column in columns})

    def __call__(self, samples: Sequence[Sample], on_done: Callable[[int], object] = lambda n: None) -> numpy.ndarray:
        """Values, float32 [samples, columns]; NaN where a column needs an answer and there is none.

        ``on_done`` is told after every batch how many samples it held.
        """
        values = numpy.full((len(samples), len(self.columns)), numpy.nan, dtype=numpy.float32)
        for answered in (True, False):
            chosen = [i for i, sample in enumerate(samples) if bool(sample.answer_ids) == answered]
            places = [k for k, column in enumerate(self.columns) if answered or not column.needs_answer]
            if not chosen or not places:
                on_done(len(chosen))
                continue
            pools = list(dict.fromkeys(POOL_OF[self.columns[k].kind] for k in places))
            for indices, pooled in self._activations([samples[i] for i in chosen], pools):
                rows = torch.stack([self._column(pooled, self.columns[k]) for k in places], dim=1)
                values[numpy.ix_([chosen[i] for i in indices], places)] = rows.cpu().numpy()
                on_done(len(indices))
        return values

    def of_rows(
        self, samples: Sequence[Sample | None], problems: list[str], on_done: Callable[[int], object] = lambda n: None
    ) -> numpy.ndarray:
        """:meth:`__call__` for rows of which some have no sample: their values are NaN.

        A value that is infinite or not a number becomes NaN too, and ``problems`` is told.
        """
        places = [row for row, sample in enumerate(samples) if sample is not None]
        values = numpy.full((len(samples), len(self.columns)), numpy.nan, dtype=numpy.float32)
        values[places] = self([sample for sample in samples if sample is not None], on_done)
        on_done(len(samples) - len(places))
        expected = numpy.array(
            [[s is not None and bool(s.answer_ids or not c.needs_answer) for c in self.columns] for s in samples]
        ).reshape(values.shape)
        broken = expected & ~numpy.isfinite(values)
        values[broken] = numpy.nan
        for row in numpy.flatnonzero(broken.any(axis=1)):
            problems[row] = "activations overflow (try --dtype bfloat16 or float32)"
        return values

    def _column(self, pooled: dict[str, Tensor], column: Column) -> Tensor:
        activations = pooled[POOL_OF[column.kind]][:, self.layers.index(column.layer)]
        formula = cosine if column.kind == "cos_sim" else project
        return formula(activations, column.vector.to(activations.device))

    def _activations(self, samples: list[Sample], pools: list[str]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        def batches(model: nn.Module) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
            return pooled_activations(model, samples, pools, self.token_budget, self.layers, on_cpu=False)

        if self.base is None:
            yield from batches(self.model)
            return
        base = _without_adapter(self.model, batches(self.model)) if self.base is self.model else batches(self.base)
        for (indices, ours), (same_indices, theirs) in zip(batches(self.model), base, strict=True):
            assert indices == same_indices  # batches depend on lengths alone
            yield indices, {pool: ours[pool] - theirs[pool].to(ours[pool].device) for pool in pools}


def _without_adapter(model: Any, batches: Iterator) -> Iterator:
    """Batches made while the PEFT model's adapter is off; it is on whenever the caller has the word."""
    while True:
        with model.disable_adapter():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
