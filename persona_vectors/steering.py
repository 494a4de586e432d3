"""Interventions on the residual stream, as plain forward hooks on decoder blocks.

The method (arXiv 2507.21509, section 3.2): ``h_l <- h_l + a v_l`` at the output of the l-th block, and for ablation
(CAFT, section 5) ``h_l <- h_l - (h_l . u) u`` with ``u = v / |v|``. Knows hooks and token positions; knows nothing
of prompts, tokenizers or files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from persona_vectors.blocks import find_blocks
from persona_vectors.errors import UserError
from persona_vectors.grid import POSITIONS


@dataclass(frozen=True, eq=False)
class Intervention:
    """One change to the residual stream of one sequence.

    Attributes:
        layer: l in 1..L; acts on the output of block l-1 (counting blocks from 0), as ``--layer`` says everywhere.
        vector: [hidden] of any float dtype; cast to the model's own when applied.
        coef: the factor a of an addition. An ablation has none: it removes the whole component.
        positions: ``response``: the last prompt token and every generated one; ``prompt``: every prompt token and no
            generated one; ``all``: both.
        kind: ``add`` or ``ablate``. Where one layer has both, ablations act first: what is added stays. Several
            ablations at one layer act in the order response, prompt, all.
    """

    layer: int
    vector: Tensor
    coef: float = 1.0
    positions: str = "response"
    kind: str = "add"

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise UserError(f"steering type must be one of {', '.join(POSITIONS)}, not '{self.positions}'")
        if self.kind not in ("add", "ablate"):
            raise UserError(f"an intervention adds or ablates; '{self.kind}' is neither")
        if self.vector.ndim != 1:
            raise UserError(f"a steering vector has one dimension, not shape {tuple(self.vector.shape)}")

    @property
    def is_identity(self) -> bool:
        """True where it changes nothing: an addition with coefficient 0."""
        return self.kind == "add" and self.coef == 0


@contextmanager
def steered(
    model: nn.Module, interventions: Sequence[Sequence[Intervention]], prompt_lengths: Sequence[int], width: int
) -> Iterator[None]:
    """Within the block, ``model.generate`` (or a forward with a cache) is steered, each row of the batch by its own list.

    The batch is padded on the left: row i's prompt is columns ``width - prompt_lengths[i] .. width - 1``, generated
    tokens follow. Hooks count the columns that went by, so a prompt of one token, a prompt in several chunks and a
    single decoding step need no special case. Padding is never steered. Hooks are removed at the end, whatever happens.

    Args:
        interventions: one list per row of the batch; empty lists leave a row as it is.
        prompt_lengths: tokens of each row's prompt, without padding.
        width: columns of the padded prompt batch.

    Raises:
        UserError: a layer outside 1..L or a vector of another width than the model's.
    """
    blocks = find_blocks(model)
    layers = sorted({i.layer for row in interventions for i in row if not i.is_identity})
    for layer in layers:
        if not 1 <= layer <= len(blocks):
            raise UserError(f"layer {layer} does not exist: this model has layers 1..{len(blocks)}")
    hidden = model.config.get_text_config(decoder=True).hidden_size
    for row in interventions:
        for i in row:
            if i.vector.shape[0] != hidden:
                raise UserError(f"the vector is {i.vector.shape[0]} wide, the model's residual stream {hidden}")
    handles = []
    try:
        for layer in layers:
            at_layer = [[i for i in row if i.layer == layer and not i.is_identity] for row in interventions]
            hook = _BatchHook(at_layer, torch.tensor(prompt_lengths), width, hidden)
            handles.append(blocks[layer - 1].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _BatchHook:
    """The forward hook of one block: per row of the batch what to ablate and what to add, at which columns."""

    def __init__(self, rows: list[list[Intervention]], prompt_lengths: Tensor, width: int, hidden: int) -> None:
        self.prompt_lengths, self.width, self.seen = prompt_lengths, width, 0
        # Rows may carry several interventions: the k-th of each row makes the k-th step for the whole batch.
        self.ablations: list[tuple[str, Tensor]] = []
        self.additions: list[tuple[str, Tensor]] = []
        for positions in POSITIONS:
            summed = torch.zeros(len(rows), hidden)
            for b, row in enumerate(rows):
                for i in row:
                    if i.kind == "add" and i.positions == positions:
                        summed[b] += i.coef * i.vector.detach().float().cpu()
            if summed.any():
                self.additions.append((positions, summed))
            ablating = [[i for i in row if i.kind == "ablate" and i.positions == positions] for row in rows]
            for k in range(max(map(len, ablating), default=0)):
                unit = torch.zeros(len(rows), hidden)
                for b, row in enumerate(ablating):
                    if k < len(row):
                        unit[b] = nn.functional.normalize(row[k].vector.detach().float().cpu(), dim=0)
                self.ablations.append((positions, unit))

    def _mask(self, positions: str, first: int, count: int, device: torch.device) -> Tensor:
        """[batch, count] bool: which of the columns ``first .. first + count - 1`` are of that kind."""
        column = torch.arange(first, first + count, device=device)[None]
        start = self.width - self.prompt_lengths.to(device)[:, None]
        if positions == "prompt":
            return (column >= start) & (column < self.width)
        if positions == "response":
            return (column >= self.width - 1).expand(len(start), -1)
        return column >= start

    def __call__(self, _block: nn.Module, _args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        h = output[0] if isinstance(output, tuple) else output
        if self.seen == 0:  # everything on the block's own device and dtype, once
            self.prompt_lengths = self.prompt_lengths.to(h.device)
            self.ablations = [(p, v.to(h)) for p, v in self.ablations]
            self.additions = [(p, v.to(h)) for p, v in self.additions]
        first, count = self.seen, h.shape[1]
        self.seen += count
        decoding = first >= self.width  # then every column counts, or none
        for positions, unit in self.ablations:
            if not (decoding and positions == "prompt"):
                along = (h * unit[:, None]).sum(-1, keepdim=True)
                if not decoding:
                    along = along * self._mask(positions, first, count, h.device)[..., None]
                h = h - along * unit[:, None]
        for positions, delta in self.additions:
            if decoding and positions != "prompt":
                h = h + delta[:, None]
            elif not decoding:
                h = h + delta[:, None] * self._mask(positions, first, count, h.device)[..., None]
        return (h, *output[1:]) if isinstance(output, tuple) else h
