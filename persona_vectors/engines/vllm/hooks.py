"""Steering inside a vLLM worker: hooks on the decoder blocks, and the tables they read.

The formula is that of :mod:`persona_vectors.steering.hooks`, implemented with tables. Shapes and addresses are fixed,
so torch.compile traces the hooks once and CUDA graphs capture them once; only table entries change between steps.
A block looks up each token's slot, each slot's row to add and rows to ablate, and each row's vector:

    x = hidden + residual
    residual <- residual - sum_k (x . u_k) u_k + rows[add[slot]]      u_k = rows[ablate[k][slot]], one after another

Works on modules and tensors; knows nothing about requests.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError


def find_vllm_blocks(model: nn.Module, count: int) -> tuple[nn.Module, nn.ModuleList]:
    """The module that owns the decoder blocks, and the list of all ``count`` blocks (empty on other pipeline ranks).

    Raises:
        UserError: no list of that length, or more than one.

    Example:
        owner, blocks = find_vllm_blocks(runner.get_model(), config.get_total_num_hidden_layers())
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
    """Tables and hooks for one worker's blocks.

    Attributes:
        rows: [rows, hidden] in the model's dtype: vectors multiplied by their coefficients; row 0 is zero.
        token_slots: [tokens] int64, the slot of each token of the batch; written before every step.

    Raises:
        UserError: the blocks are not found, or what they return is not the residual stream.

    Example:
        tables.write([1], vector.numpy().tobytes(), [(1, [(20, 1, [])])])  # slot 1: add row 1 at layer 20
        tables.fill([(0, 7, 1)], copy)  # the first seven tokens of the coming step
    """

    def __init__(
        self, model: nn.Module, layers: int, hidden: int, sizes: dict[str, int], tokens: int, dtype: torch.dtype,
        device: torch.device, eager: bool,
    ) -> None:  # fmt: skip
        owner, blocks = find_vllm_blocks(model, layers)
        sums = _residual_is_a_sum(model, owner, hidden, dtype, device)
        self.device, self.eager = device, eager
        # Layers that steer in this step. Only eager hooks check this; a graph always computes.
        self.active = np.zeros(layers, dtype=bool)
        self._used = 0  # entries of token_slots that may be non-zero
        with torch.inference_mode(False):  # inference tensors could not be written to later
            self.rows = torch.zeros(sizes["rows"], hidden, dtype=dtype, device=device)
            self.token_slots = torch.zeros(tokens, dtype=torch.int64, device=device)
        # [layers, 1 + ablations, slots] row indices. This is the host's copy; each block has its own on the device.
        self.table = torch.zeros(layers, 1 + sizes["ablations"], sizes["slots"], dtype=torch.int64)
        self.blocks: dict[int, nn.Module] = {}
        for index, block in enumerate(blocks):
            if not any(True for _ in block.parameters()):
                continue  # on another pipeline rank
            self.blocks[index] = block
            with torch.inference_mode(False):
                # Registered as buffers, so that compiled graphs treat them like weights.
                block.register_buffer("steering_rows", self.rows, persistent=False)
                block.register_buffer("steering_slots", self.token_slots, persistent=False)
                block.register_buffer("steering_table", self.table[index].to(device, copy=True), persistent=False)
            block.register_forward_hook(self._eager_hook(index, sums) if eager else _hook(sums))

    def _eager_hook(self, index: int, sums: bool) -> Callable:
        """The hook in eager mode; a layer without steering in this step only checks a flag."""
        act = _hook(sums)

        def hook(block: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple | None:
            return act(block, args, output) if self.active[index] else None

        return hook

    def write(self, row_numbers: Sequence[int], rows: bytes, slots: Sequence) -> None:
        """Fill rows and slots.

        Args:
            row_numbers: n row indices.
            rows: [n, hidden] float32, as bytes.
            slots: pairs (slot, entries), with one entry (layer in 1..L, row to add, rows to ablate) per steered layer.
        """
        if row_numbers:
            values = torch.frombuffer(bytearray(rows), dtype=torch.float32).view(len(row_numbers), -1)
            last = {number: k for k, number in enumerate(row_numbers)}  # a row may occur twice; the last one counts
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
        """Set the slots of the coming step's tokens.

        Args:
            spans: (first token in the batch, end, slot) of every steered span; all other tokens are not steered.
            copy: copies a host array to the device tensor ``out``, ordered with the model's work.
        """
        used = max((end for _, end, _ in spans), default=0)
        if not used and not self._used:
            return  # nothing is steered, now or in the step before
        slots = np.zeros(max(used, self._used), dtype=np.int64)
        for first, end, slot in spans:
            slots[first:end] = slot
        copy(slots, out=self.token_slots[: len(slots)])
        self._used = used
        if self.eager:
            self.active = self.table[:, :, list({slot for _, _, slot in spans})].numpy().any(axis=(1, 2))


def _hook(sums: bool) -> Callable:
    """The forward hook of a block: a pure function of the block's buffers and output, so that it can be traced.

    ``sums``: where a block returns two tensors, the residual stream is their sum (True) or the first (False).
    """

    def act(block: nn.Module, _args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        first = output[0] if isinstance(output, tuple) else output
        pair = sums and isinstance(output, tuple) and len(output) == 2 and output[1] is not None
        # Add to the residual, so that vLLM can still fuse "all-reduce, then add and norm".
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
    """Whether the residual stream after a block that returns (hidden, residual) is their sum.

    The meaning of the pair depends on the architecture (Cohere ignores the second tensor). Steering the wrong tensor
    would look like a weak vector. So the final norm is tested: does its output stay the same when an amount moves from
    one tensor to the other (a sum), or when only the second changes (ignored)?

    Raises:
        UserError: the norm uses the pair in another way.
    """
    norms = [m for name, m in owner.named_children() if "norm" in name.lower() or name == "ln_f"]
    norms = [m for m in norms if any(True for _ in m.parameters())]
    if not norms:
        return True  # no norm on this pipeline rank; the last rank checks for all
    draw = torch.Generator().manual_seed(0)
    a, b, d = (torch.randn(4, hidden, generator=draw).to(device, dtype) for _ in range(3))
    with torch.no_grad():
        try:
            plain, moved, alone = (norms[-1](x.clone(), y.clone()) for x, y in ((a, b), (a + d, b - d), (a, b + d)))
        except TypeError:
            return False  # it takes one tensor
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
