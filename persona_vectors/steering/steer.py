"""Steering any loaded model, whoever calls it: a notebook, ``generate``, an evaluation harness, a trainer.

Section 3.2 of the paper: ``h_l <- h_l + a v_l``. Which tokens are real, which is the last prompt token and which are generated is read
from the attention mask and the cache of each forward (:mod:`persona_vectors.steering.tokens`), so that nothing has to be
said about the batch beforehand.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.hooks import BlockHook, check_fits
from persona_vectors.steering.intervention import Intervention
from persona_vectors.steering.tokens import Forwards, Marks, watched


@contextmanager
def steer(
    model: nn.Module,
    vector: "Tensor | Mapping[int, Tensor] | Sequence[Intervention]",
    layer: int | None = None,
    coef: float = 1.0,
    positions: str = "response",
    kind: str = "add",
) -> Iterator[None]:
    """Within the block, every forward of ``model`` in this thread is steered: any padding side, any number of calls.

    A forward on an empty cache, or without one, is a prompt; one that goes on from a cache is generation, also where it takes
    several tokens. Inside ``model.generate`` the prompt is what ``generate`` was given, with or without a cache. So ``response``
    steers, in a forward of whole sequences (training, a score of given text), the last real token of each alone; to steer all
    of them ask for ``all``. Padding is never steered. Blocks may be nested: the inner steering comes after the outer one.
    Other threads are not steered. The model is as it was when the block ends, whatever happens.

    Args:
        model: any decoder-only model of transformers, PEFT-wrapped or not, on any device.
        vector: [hidden]; or [layers + 1, hidden], of which row ``layer`` is taken; or {layer: [hidden]}; or a list of
            :class:`Intervention`, which say everything themselves.
        layer: l in 1..L: the output of block l-1.
        coef: the factor a; the vector is not normalised.
        positions: ``response`` (the last prompt token and every generated one), ``prompt`` or ``all``.
        kind: ``add``, or ``ablate``: take the vector's direction out.

    Raises:
        UserError: a layer that the model has not, a vector of another width or with values that are no numbers.
        RuntimeError: a forward whose arguments do not tell which tokens are padding.

    Example:
        with steer(model, vectors[20], layer=20, coef=1.5):
            ids = model.generate(**tokenizer(prompts, padding=True, return_tensors="pt"), max_new_tokens=50)
    """
    interventions = _interventions(vector, layer, coef, positions, kind)
    hidden = check_fits(model, interventions)
    for i in interventions:
        if not torch.isfinite(i.vector).all():
            raise UserError(f"the vector at layer {i.layer} holds values that are no numbers")
    acting = [i for i in interventions if not i.is_identity]
    blocks = find_blocks(model)
    with ExitStack() as stack:
        if acting:
            forwards = stack.enter_context(watched(model))
            kept = WeakIdKeyDictionary()
            for each in sorted({i.layer for i in acting}):
                change = BlockHook([[i for i in acting if i.layer == each]], hidden)
                handle = blocks[each - 1].register_forward_hook(_ThisThread(change, forwards, kept))
                stack.callback(handle.remove)
        yield


def _interventions(vector, layer: int | None, coef: float, positions: str, kind: str) -> list[Intervention]:
    """What the arguments of :func:`steer` mean."""
    if isinstance(vector, Mapping):
        rows = dict(vector)
    elif isinstance(vector, Tensor):
        if layer is None:
            raise UserError("name the layer to steer, 1..L")
        if vector.ndim == 2 and not 0 <= layer < len(vector):
            raise UserError(f"layer {layer} does not exist: these vectors have rows 0..{len(vector) - 1}")
        rows = {layer: vector[layer] if vector.ndim == 2 else vector}
    else:
        found = list(vector)
        if not all(isinstance(i, Intervention) for i in found):
            raise UserError("steer takes a tensor, {layer: tensor} or a list of Intervention")
        return found
    for row in rows.values():
        if not (isinstance(row, Tensor) and row.is_floating_point()):
            raise UserError("a steering vector is a tensor of floating-point numbers")
    return [Intervention(number, row.detach(), coef, positions, kind) for number, row in rows.items()]


class _ThisThread:
    """A block's hook that steers the forwards of the thread that made it, and what backward computes again of them.

    With gradient checkpointing a block runs a second time, outside of its decoder's forward and perhaps in a thread of
    autograd's: it is recognised by its input.
    """

    def __init__(self, change: BlockHook, forwards: Forwards, kept: WeakIdKeyDictionary) -> None:
        self.change, self.forwards, self.kept, self.ours = change, forwards, kept, threading.get_ident()
        self.latest: Marks | None = None

    def __call__(self, _block: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple | None:
        marks, ours = self.forwards.now, threading.get_ident() == self.ours
        given = args[0] if args and isinstance(args[0], Tensor) else None
        if marks is None:  # computed again
            known = given is not None and given in self.kept
            marks = self.kept[given] if known else self.latest if ours else None
            if marks is None and not known:
                raise RuntimeError(
                    "a decoder block ran outside of its decoder: steering cannot tell which tokens it took"
                )
        else:
            marks = marks if ours else None
            if ours:
                self.latest = marks
            if torch.is_grad_enabled() and given is not None:
                self.kept[given] = marks
        if marks is None:
            return None
        return self.change.changed(
            output, lambda h: {p: None if m is None else m[..., None].to(h) for p, m in marks.items()}
        )
