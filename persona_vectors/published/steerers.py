"""Published module ``activation_steer``: a context manager that steers any forward pass of a model."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.hooks import steered_forwards
from persona_vectors.steering.intervention import Intervention


class ActivationSteerer:
    """Within the ``with`` block, add ``coeff * steering_vector`` to the output of a decoder block in every forward.

    Today: :func:`persona_vectors.steering.hooks.steered_forwards`, which counts layers as vector files do
    (``layer = layer_idx + 1``). Unlike the published class, it does not steer padding that the attention mask marks.

    Args:
        steering_vector: [hidden], a tensor or a list of numbers.
        layer_idx: index of the block, from 0; negative values count from the last.
        positions: ``all``; ``prompt``: all tokens of forwards with several tokens; ``response``: the last token of each
            forward.
        debug: print what is added, and where.

    Raises:
        UserError: unknown positions; on entering, a block or vector width that the model does not have.

    Example:
        with ActivationSteerer(model, vectors[20], coeff=2.0, layer_idx=19, positions="response"):
            model.generate(**inputs, max_new_tokens=100)
    """

    def __init__(
        self, model: nn.Module, steering_vector: Tensor | Sequence[float], *, coeff: float = 1.0, layer_idx: int = -1,
        positions: str = "all", debug: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.coeff, self.layer_idx = model, float(coeff), layer_idx
        self.vector = torch.as_tensor(steering_vector, dtype=torch.float32)
        self.positions, self.debug = positions.lower(), debug
        self._active = ExitStack()
        Intervention(1, self.vector, self.coeff, self.positions)  # raises now if the arguments are invalid

    def interventions(self) -> list[Intervention]:
        """What is added, as the library has it."""
        count = len(find_blocks(self.model))
        if not -count <= self.layer_idx < count:
            raise UserError(f"layer_idx {self.layer_idx} does not exist: this model has blocks 0..{count - 1}")
        added = Intervention(self.layer_idx % count + 1, self.vector, self.coeff, self.positions)
        if self.debug:
            length = abs(self.coeff) * self.vector.norm()
            print(f"steering: a vector of length {length:.4g} is added to block {added.layer - 1} ({added.positions})")
        return [added]

    def __enter__(self):
        self._active.enter_context(steered_forwards(self.model, self.interventions()))
        return self

    def __exit__(self, *_error: object) -> None:
        self.remove()

    def remove(self) -> None:
        """End the steering."""
        self._active.close()


class ActivationSteererMultiple(ActivationSteerer):
    """Several steering vectors at once; those at the same block add up.

    Today: :func:`persona_vectors.steering.hooks.steered_forwards`, which takes any number of interventions.

    Args:
        instructions: dicts of :class:`ActivationSteerer`'s ``steering_vector``, ``coeff`` (0 if missing, as published),
            ``layer_idx`` and ``positions``; other keys are ignored.

    Example:
        with ActivationSteererMultiple(model, [{"steering_vector": vectors[20], "coeff": 2.0, "layer_idx": 19}]):
            model.generate(**inputs, max_new_tokens=100)
    """

    def __init__(self, model: nn.Module, instructions: Sequence[dict], *, debug: bool = False) -> None:
        known = ("steering_vector", "coeff", "layer_idx", "positions")
        chosen = [{"coeff": 0.0} | {key: one[key] for key in known if key in one} for one in instructions]
        self.model, self.instructions, self.debug, self._active = model, instructions, debug, ExitStack()
        self._steerers = [ActivationSteerer(model, debug=debug, **one) for one in chosen]

    def interventions(self) -> list[Intervention]:
        """What is added, as the library has it."""
        return [added for steerer in self._steerers for added in steerer.interventions()]
