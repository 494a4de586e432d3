"""Allocate slots and rows of the workers' tables to requests: the engine's side of steering in vLLM.

A worker steers by table. ``rows`` [n, hidden] holds vectors, multiplied by their coefficients; row 0 is zero. A slot
names, per layer, the row to add and the rows to ablate; slot 0 names row 0 everywhere. Each token of a batch has a
slot. A request needs up to three slots, because ``prompt``, ``response`` and ``all`` split its tokens into three
parts: the prompt without its last token, the last prompt token, and the generated tokens.

Equal content shares a slot and equal vectors share a row, so a sweep of 30 settings over 1,000 questions takes 30
slots. Does not import vLLM.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import sha256
from persona_vectors.steering.intervention import POSITIONS, Intervention

# For each part of the sequence, the kinds of positions that act there.
PARTS = (("prompt", "all"), ("response", "prompt", "all"), ("response", "all"))

SETTINGS_KEPT = 4096  # settings remembered with their vectors; a server may see any number of them

Content = tuple[tuple[int, str, tuple[str, ...]], ...]  # per layer: digests of the vector added and those ablated


@dataclass(frozen=True)
class Allocation:
    """What one request was given.

    Attributes:
        slots: for the prompt without its last token, the last prompt token, and every generated token.
        salt: digest of the steering, None without any.
    """

    slots: tuple[int, int, int]
    salt: str | None

    def salt_for(self, prompt: object) -> str | None:
        """The salt of one request's blocks; requests with different salts never share blocks of the prefix cache.

        Where a prompt's tokens are steered otherwise than those after it, the same text under the same steering has other
        activations if its prompt ends elsewhere, as when an answer has become part of the next prompt.

        Args:
            prompt: tells where the prompt ends (its number of tokens, say).
        """
        if self.salt is None or len(set(self.slots)) == 1:
            return self.salt
        return sha256(f"{self.salt}|{prompt}")


@dataclass
class Writes:
    """Table entries that the workers must write before the requests that need them are added."""

    row_numbers: list[int] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)  # [hidden] float32 each
    slots: list[tuple[int, list[tuple[int, int, list[int]]]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.row_numbers or self.slots)


class SlotTable:
    """Allocates and releases slots and rows; the workers' tables mirror this one.

    A slot stays filled after its last request until its place is needed, since settings tend to come again.

    Example:
        table = SlotTable(layers=28, hidden=3584, slots=1024, rows=1024, ablations=0)
        plan = table.acquire([Intervention(20, vectors[20], 1.5)], digests={})
        table.release(plan)  # after table.take_writes() has gone to the workers and the request has finished
    """

    def __init__(self, layers: int, hidden: int, slots: int, rows: int, ablations: int) -> None:
        self.layers, self.hidden, self.ablations = layers, hidden, ablations
        self.slot_limit, self.row_limit = slots - 1, rows - 1  # without slot 0 and row 0
        self._free_slots = list(range(slots - 1, 0, -1))
        self._free_rows = list(range(rows - 1, 0, -1))
        self._slot_of: OrderedDict[Content, int] = OrderedDict()  # least recently used first
        self._users: dict[int, int] = {}  # requests by slot
        self._row_of: dict[str, int] = {}
        self._row_users: dict[int, int] = {}  # slots by row
        self._contents: dict[str, tuple[list[Content], dict[str, np.ndarray]]] = {}
        self.writes = Writes()

    def check(self, interventions: Sequence[Intervention], digests: dict[int, str]) -> str | None:
        """The salt of these interventions: equal if and only if layers, vectors, coefficients, positions, kinds are.

        None if they change nothing.

        Args:
            digests: cache of vector digests by ``id``, filled here; valid while the caller keeps the vectors unchanged.

        Raises:
            UserError: a layer, a vector or a number of interventions that this engine cannot serve.
        """
        acting = [i for i in interventions if not i.is_identity]
        if not acting:
            return None
        described = [
            (i.layer, i.kind, i.positions, float(i.coef) if i.kind == "add" else None, _digest(i.vector, digests))
            for i in acting
        ]
        salt = sha256(repr(described))
        if salt not in self._contents:
            while len(self._contents) >= SETTINGS_KEPT:
                del self._contents[next(iter(self._contents))]
            self._contents[salt] = self._checked_contents(acting)
        return salt

    def acquire(self, interventions: Sequence[Intervention], digests: dict[int, str]) -> Allocation | None:
        """The allocation for one more request, or None while requests that are running occupy the place.

        Entries that the workers must write first are appended to :attr:`writes`. Errors are those of :meth:`check`.
        """
        salt = self.check(interventions, digests)
        if salt is None:
            return Allocation((0, 0, 0), None)
        taken: list[int] = []
        for content in self._contents[salt][0]:
            slot = self._take(content, self._contents[salt][1])
            if slot is None:
                self._give_back(taken)
                return None
            taken.append(slot)
        return Allocation(tuple(taken), salt)

    def take_writes(self) -> Writes:
        """Return the pending writes and start a new list."""
        writes, self.writes = self.writes, Writes()
        return writes

    def release(self, allocation: Allocation) -> None:
        """One request less: finished or aborted."""
        self._give_back(allocation.slots)

    def _give_back(self, slots: Iterable[int]) -> None:
        for slot in slots:
            if slot:
                self._users[slot] -= 1

    def _take(self, content: Content, vectors: dict[str, np.ndarray]) -> int | None:
        """The slot with this content, filled and counted; None where everything is in use."""
        if not content:
            return 0
        if content not in self._slot_of:
            named = {digest for _, added, ablated in content for digest in (added, *ablated)} - {""}
            while not self._free_slots or len(self._free_rows) < len(named - self._row_of.keys()):
                if not self._evict():
                    return None
            self._fill(content, vectors)
        self._slot_of.move_to_end(content)
        slot = self._slot_of[content]
        self._users[slot] += 1
        return slot

    def _fill(self, content: Content, vectors: dict[str, np.ndarray]) -> None:
        slot = self._free_slots.pop()
        self._slot_of[content], self._users[slot] = slot, 0
        entries = []
        for layer, added, ablated in content:
            added_row = self._row(added, vectors)
            entries.append((layer, added_row, [self._row(digest, vectors) for digest in ablated]))
        self.writes.slots.append((slot, entries))

    def _row(self, digest: str, vectors: dict[str, np.ndarray]) -> int:
        if not digest:
            return 0
        if digest not in self._row_of:
            row = self._row_of[digest] = self._free_rows.pop()
            self._row_users[row] = 0
            self.writes.row_numbers.append(row)
            self.writes.rows.append(vectors[digest])
        row = self._row_of[digest]
        self._row_users[row] += 1
        return row

    def _evict(self) -> bool:
        """Free the least recently used idle slot and the rows that only it uses; False if all slots are in use."""
        content = next((c for c, slot in self._slot_of.items() if not self._users[slot]), None)
        if content is None:
            return False
        slot = self._slot_of.pop(content)
        del self._users[slot]
        self._free_slots.append(slot)
        for _, added, ablated in content:
            for digest in filter(None, (added, *ablated)):
                row = self._row_of[digest]
                self._row_users[row] -= 1
                if not self._row_users[row]:
                    del self._row_of[digest], self._row_users[row]
                    self._free_rows.append(row)
        return True

    def _checked_contents(self, acting: list[Intervention]) -> tuple[list[Content], dict[str, np.ndarray]]:
        """The content of each part's slot, and the vectors [hidden] float32 that these name by digest."""
        for i in acting:
            if not 1 <= i.layer <= self.layers:
                raise UserError(f"layer {i.layer} does not exist: this model has layers 1..{self.layers}")
            if i.vector.shape[0] != self.hidden:
                raise UserError(f"the vector is {i.vector.shape[0]} wide, the model's residual stream {self.hidden}")
        vectors: dict[str, np.ndarray] = {}
        contents = [_content(acting, kinds, vectors) for kinds in PARTS]
        most = max(len(ablated) for content in contents for _, _, ablated in content)
        if most > self.ablations:
            raise UserError(
                f"a request ablates {most} directions at one layer; this vLLM engine was started for {self.ablations}"
            )
        slots = len(set(contents) - {()})
        if slots > self.slot_limit or len(vectors) > self.row_limit:
            raise UserError(
                f"one request's interventions take {len(vectors)} vectors and {slots} slots; this vLLM engine was "
                f"started for {self.row_limit} and {self.slot_limit}"
            )
        return contents, vectors


def _content(acting: list[Intervention], kinds: tuple[str, ...], vectors: dict[str, np.ndarray]) -> Content:
    """What happens, layer by layer, to a token on which these kinds of positions act; its vectors go to ``vectors``."""

    def name(vector: torch.Tensor) -> str:
        array = vector.numpy()
        digest = sha256(array.tobytes())
        vectors[digest] = array
        return digest

    layers = []
    for layer in sorted({i.layer for i in acting if i.positions in kinds}):
        here = [i for i in acting if i.layer == layer and i.positions in kinds]
        here.sort(key=lambda i: POSITIONS.index(i.positions))  # ablations act in the order of persona_vectors.steering
        added = sum((i.coef * _float32(i.vector) for i in here if i.kind == "add"), torch.zeros(len(here[0].vector)))
        ablated = [torch.nn.functional.normalize(_float32(i.vector), dim=0) for i in here if i.kind == "ablate"]
        layers.append((layer, name(added) if added.any() else "", tuple(name(unit) for unit in ablated)))
    return tuple(entry for entry in layers if entry[1] or entry[2])


def _float32(vector: torch.Tensor) -> torch.Tensor:
    return vector.detach().float().cpu().contiguous()


def _digest(vector: torch.Tensor, digests: dict[int, str]) -> str:
    """Names a vector by content; hashed once for all the requests that carry the same tensor."""
    if id(vector) not in digests:
        digests[id(vector)] = sha256(_float32(vector).numpy().tobytes())
    return digests[id(vector)]
