"""Steering inside a vLLM worker: hooks on the decoder blocks, and the tables they read.

The same maths as :mod:`persona_vectors.steering.hooks`, but by table: shapes and addresses never change, so that the hooks
are traced once by torch.compile and captured once in CUDA graphs, and only numbers in the tables change between steps.
A block reads, per token, the slot; per slot, the row to add and the rows to ablate; and per row, the vector:

    x = hidden + residual
    residual <- residual - sum_k (x . u_k) u_k + rows[add[slot]]      u_k = rows[ablate[k][slot]], one after another

Knows modules and tensors; knows nothing of requests.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError


def find_vllm_blocks(model: nn.Module, count: int) -> tuple[nn.Module, nn.ModuleList]:
    """The module that owns the decoder blocks, and its list of all ``count`` (those of other pipeline ranks are empty).

    Raises:
        UserError: if no list, or more than one, fits.
    """
    get_language_model = getattr(model, "get_language_model", None)
    if get_language_model is not None:
        model = get_language_model()
    found: dict[str, tuple[nn.Module, nn.ModuleList]] = {}
    for name, module in model.named_modules():
        for child_name, child in module.named_children():
            path = f"{name}.{child_name}".lstrip(".")
            inside_a_list = any(path.startswith(f"{outer}.") for outer in found)
            if isinstance(child, nn.ModuleList) and len(child) == count and not inside_a_list:
                found[path] = (module, child)
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise UserError(
            f"vLLM cannot steer {type(model).__name__}: {count} decoder blocks expected, lists that fit: {names}"
        )
    return next(iter(found.values()))


class ResidualTables:
    """The tables and hooks of one worker's blocks.

    Attributes:
        rows: [rows, hidden] in the model's dtype; vectors with their coefficients, row 0 zero.
        token_slots: [tokens] the slot of each token of the batch, written before every step.
    """

    def __init__(
        self, model: nn.Module, layers: int, hidden: int, sizes: dict[str, int], tokens: int, dtype: torch.dtype,
        device: torch.device, eager: bool,
    ) -> None:  # fmt: skip
        owner, blocks = find_vllm_blocks(model, layers)
        sums = _residual_is_a_sum(model, owner, hidden, dtype, device)
        self.device, self.eager = device, eager
        # Layers with something to do in this step; only eager hooks look, a graph always computes.
        self.active = np.zeros(layers, dtype=bool)
        self._used = 0  # entries of token_slots that may be non-zero
        with torch.inference_mode(False):  # they are written to at any time
            self.rows = torch.zeros(sizes["rows"], hidden, dtype=dtype, device=device)
            self.token_slots = torch.zeros(tokens, dtype=torch.int64, device=device)
        # By layer: [1 + ablations, slots] numbers of rows. The host's copy is what is written to; a block has its own.
        self.table = torch.zeros(layers, 1 + sizes["ablations"], sizes["slots"], dtype=torch.int64)
        self.blocks: dict[int, nn.Module] = {}
        for index, block in enumerate(blocks):
            if not any(True for _ in block.parameters()):
                continue  # another pipeline rank has it
            self.blocks[index] = block
            with torch.inference_mode(False):
                # Buffers, so that a compiled graph finds them as it finds weights.
                block.register_buffer("steering_rows", self.rows, persistent=False)
                block.register_buffer("steering_slots", self.token_slots, persistent=False)
                block.register_buffer("steering_table", self.table[index].to(device, copy=True), persistent=False)
            block.register_forward_hook(self._eager_hook(index, sums) if eager else _hook(sums))

    def _eager_hook(self, index: int, sums: bool) -> Callable:
        """Without a graph, a layer that has nothing to do in a step costs a look at a flag."""
        act = _hook(sums)

        def hook(block: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple | None:
            return act(block, args, output) if self.active[index] else None

        return hook

    def write(self, row_numbers: Sequence[int], rows: bytes, slots: Sequence) -> None:
        """Fill rows and slots.

        Args:
            row_numbers: n numbers of rows.
            rows: [n, hidden] float32, as bytes.
            slots: pairs of a slot and its layers: (layer in 1..L, row to add, rows to ablate).
        """
        if row_numbers:
            values = torch.frombuffer(bytearray(rows), dtype=torch.float32).view(len(row_numbers), -1)
            last = {number: k for k, number in enumerate(row_numbers)}  # a row may have been given out twice
            self.rows[torch.tensor(list(last), device=self.device)] = values[list(last.values())].to(self.rows)
        for slot, entries in slots:
            self.table[:, :, slot] = 0
            for layer, added, ablated in entries:
                self.table[layer - 1, 0, slot] = added
                for k, row in enumerate(ablated):
                    self.table[layer - 1, 1 + k, slot] = row
        if slots:
            for index, block in self.blocks.items():
                block.steering_table.copy_(self.table[index])

    def fill(self, spans: list[tuple[int, int, int]], copy: Callable) -> None:
        """Give the tokens of the coming step their slots.

        Args:
            spans: (first token of the batch, end, slot) of every stretch that is steered; the rest is not.
            copy: from a host array to the device tensor ``out``, in order with the model's work.
        """
        used = max((end for _, end, _ in spans), default=0)
        if not used and not self._used:
            return  # nothing is steered, as in the step before
        slots = np.zeros(max(used, self._used), dtype=np.int64)
        for first, end, slot in spans:
            slots[first:end] = slot
        copy(slots, out=self.token_slots[: len(slots)])
        self._used = used
        if self.eager:
            self.active = self.table[:, :, list({slot for _, _, slot in spans})].numpy().any(axis=(1, 2))


def _hook(sums: bool) -> Callable:
    """The forward hook of a block; a pure function of the block's buffers and output, so that it can be traced.

    ``sums``: of a block that returns two tensors, the residual stream is their sum; else it is the first.
    """

    def act(block: nn.Module, _args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        first = output[0] if isinstance(output, tuple) else output
        pair = sums and isinstance(output, tuple) and len(output) == 2 and output[1] is not None
        # Adding to the residual keeps "all-reduce, then add and norm" together, which vLLM fuses.
        base = output[1] if pair else first
        slots = block.steering_slots[: first.shape[-2]]
        rows, table = block.steering_rows, block.steering_table
        for k in range(1, table.shape[0]):
            unit = rows[table[k][slots]]
            stream = base + first if pair else base
            base = base - (stream * unit).sum(-1, keepdim=True) * unit
        base = base + rows[table[0][slots]]
        if pair:
            return first, base
        return (base, *output[1:]) if isinstance(output, tuple) else base

    return act


def _residual_is_a_sum(
    model: nn.Module, owner: nn.Module, hidden: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Whether the stream behind a block that returns (hidden, residual) is their sum, as the final norm reads it.

    Architectures return pairs that mean different things (Cohere's second tensor is not read at all), and adding or
    ablating in the wrong one would look like a vector that does little. So the final norm is asked: does its output
    stay the same when something moves from one to the other, or when the second changes alone?

    Raises:
        UserError: the norm reads the pair in another way.
    """
    norms = [m for name, m in owner.named_children() if "norm" in name.lower() or name == "ln_f"]
    norms = [m for m in norms if any(True for _ in m.parameters())]
    if not norms:
        return True  # no norm on this pipeline rank: the last one checks for all
    draw = torch.Generator().manual_seed(0)
    a, b, d = (torch.randn(4, hidden, generator=draw).to(device, dtype) for _ in range(3))
    with torch.no_grad():
        try:
            plain, moved, alone = (norms[-1](x.clone(), y.clone()) for x, y in ((a, b), (a + d, b - d), (a, b + d)))
        except TypeError:
            return False  # it reads one tensor
    if not isinstance(plain, tuple):
        return False
    close = {"rtol": 0, "atol": 0.05 if dtype.itemsize < 4 else 1e-4}
    if torch.allclose(plain[0], moved[0], **close):
        return True
    if torch.allclose(plain[0], alone[0], **close):
        return False
    raise UserError(
        f"vLLM cannot steer {type(model).__name__}: its blocks return two tensors whose sum is not the residual stream"
    )
