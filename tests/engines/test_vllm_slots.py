"""The table of slots and rows (no vLLM needed), and which tokens of a step a worker steers."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from vllm_models import without_vllm

from persona_vectors.engines.vllm.engine import REQUEST_KEY
from persona_vectors.engines.vllm.server import salt_each_prompt
from persona_vectors.engines.vllm.slots import PARTS, SlotTable
from persona_vectors.errors import UserError
from persona_vectors.steering.intervention import Intervention

WIDTH = 5
V, W = torch.arange(1.0, 6.0), torch.tensor([1.0, -1, 1, -1, 1])


class Mirror:
    """What a worker's tables hold after the writes it was told."""

    def __init__(self, table: SlotTable, slots: int, rows: int) -> None:
        self.table = table
        self.rows = np.zeros((rows, WIDTH), dtype=np.float32)
        self.slots: list[dict] = [{} for _ in range(slots)]

    def update(self) -> None:
        writes = self.table.take_writes()
        for number, row in zip(writes.row_numbers, writes.rows, strict=True):
            self.rows[number] = row
        for slot, entries in writes.slots:
            self.slots[slot] = {layer: (added, ablated) for layer, added, ablated in entries}

    def effect(self, slot: int) -> dict[int, tuple[list[float], list[list[float]]]]:
        return {
            layer: (self.rows[added].tolist(), [self.rows[row].tolist() for row in ablated])
            for layer, (added, ablated) in self.slots[slot].items()
        }


def make(slots: int = 16, rows: int = 16, ablations: int = 2) -> tuple[SlotTable, Mirror]:
    table = SlotTable(layers=3, hidden=WIDTH, slots=slots, rows=rows, ablations=ablations)
    return table, Mirror(table, slots, rows)


@pytest.mark.parametrize(("positions", "steered"), [("prompt", (1, 1, 0)), ("response", (0, 1, 1)), ("all", (1, 1, 1))])
def test_each_kind_of_positions_steers_its_parts(positions, steered):
    table, mirror = make()
    plan = table.acquire([Intervention(2, V, 3.0, positions)], {})
    mirror.update()
    for slot, acts in zip(plan.slots, steered, strict=True):
        assert mirror.effect(slot) == ({2: ((3 * V).tolist(), [])} if acts else {})


def test_interventions_on_one_layer_add_up_and_ablations_keep_their_order():
    table, mirror = make()
    added = [Intervention(1, V, 2.0, "all"), Intervention(1, W, -1.0, "prompt"), Intervention(3, W, 1.0, "response")]
    ablated = [Intervention(1, v, positions=p, kind="ablate") for v, p in ((W, "all"), (V, "prompt"))]
    body, last, generated = table.acquire(added + ablated, {}).slots
    mirror.update()
    v, w = (V / V.norm()).tolist(), (W / W.norm()).tolist()
    assert mirror.effect(body) == {1: ((2 * V - W).tolist(), [v, w])}  # in the order of persona_vectors.steering.hooks
    assert mirror.effect(last) == {1: ((2 * V - W).tolist(), [v, w]), 3: (W.tolist(), [])}
    assert mirror.effect(generated) == {1: ((2 * V).tolist(), [w]), 3: (W.tolist(), [])}


def test_what_changes_nothing_takes_no_slot_and_no_salt():
    table, _ = make()
    plan = table.acquire([Intervention(2, V, 0.0)], {})
    assert plan.slots == (0, 0, 0) and plan.salt is None and not table.writes


def test_salts_differ_exactly_when_the_interventions_do():
    base = dict(layer=2, vector=V, coef=1.0, positions="all", kind="add")
    changes = [{}, {"layer": 1}, {"vector": W}, {"coef": 1.5}, {"positions": "prompt"}, {"kind": "ablate"}]
    table, _ = make()
    salts = [table.check([Intervention(**{**base, **change})], {}) for change in changes]
    assert len(set(salts)) == len(changes)
    assert salts[0] == table.check([Intervention(**{**base, "vector": V.clone()}), Intervention(1, W, 0.0)], {})


def test_blocks_are_shared_where_it_does_not_matter_which_tokens_are_the_prompt():
    table, _ = make()
    plans = {p: table.acquire([Intervention(2, V, 1.0, p)], {}) for p in ("response", "prompt", "all")}
    salts = {p: {plan.salt_for(length) for length in (5, 6, 6)} for p, plan in plans.items()}
    assert {p: len(found) for p, found in salts.items()} == {"response": 2, "prompt": 2, "all": 1}
    assert len(set().union(*salts.values())) == 5
    assert table.acquire([], {}).salt_for(5) is None


def test_equal_settings_share_and_unused_ones_make_room():
    table, mirror = make(slots=3, rows=3)
    setting = {coef: [Intervention(1, V, coef, "all")] for coef in (1.0, 2.0, 3.0)}
    one, same, two = (table.acquire(setting[coef], {}) for coef in (1.0, 1.0, 2.0))
    assert one == same and one.slots != two.slots
    assert table.acquire(setting[3.0], {}) is None  # both slots are in use
    table.release(two)
    three = table.acquire(setting[3.0], {})
    mirror.update()
    assert three.slots == two.slots and mirror.effect(three.slots[0]) == {1: ((3 * V).tolist(), [])}
    assert mirror.effect(one.slots[0]) == {1: (V.tolist(), [])}
    table.release(one)
    assert table.acquire(setting[2.0], {}) is None  # its other request still runs
    table.release(same)
    assert table.acquire(setting[2.0], {}).slots == one.slots


def test_random_traffic_never_mixes_settings_up():
    table, mirror = make(slots=7, rows=6)
    draw = np.random.default_rng(0)
    running = []
    served = 0
    for _ in range(600):
        if running and draw.random() < 0.5:
            plan, _ = running.pop(draw.integers(len(running)))
            table.release(plan)
        settings = [
            Intervention(int(draw.integers(1, 4)), (V, W)[draw.integers(2)], float(draw.integers(1, 4)), positions)
            for positions in draw.choice(["prompt", "response", "all"], size=draw.integers(1, 3), replace=False)
        ]
        plan = table.acquire(settings, {})
        if plan is None:
            continue
        running.append((plan, settings))
        served += 1
        mirror.update()
        for plan, settings in running:
            for slot, kinds in zip(plan.slots, PARTS, strict=True):
                expected: dict = {}
                for i in settings:
                    if i.positions in kinds:
                        expected[i.layer] = expected.get(i.layer, 0) + i.coef * i.vector
                expected = {layer: (total.tolist(), []) for layer, total in expected.items() if total.any()}
                assert mirror.effect(slot) == expected
    assert served > 100


def test_limits_are_said_by_name():
    table, _ = make(slots=3, rows=3, ablations=1)
    cases = {
        "layer 4 does not exist: this model has layers 1..3": [Intervention(4, V)],
        "the vector is 6 wide, the model's residual stream 5": [Intervention(1, torch.ones(6))],
        "ablates 2 directions at one layer": [Intervention(1, v, kind="ablate") for v in (V, W)],
        "3 vectors and 1 slots": [Intervention(k, k * V) for k in (1, 2, 3)],
    }
    for message, interventions in cases.items():
        with pytest.raises(UserError, match=message):
            table.check(interventions, {})


reason = without_vllm()
needs_vllm = pytest.mark.skipif(reason is not None, reason=f"the vLLM worker is not tested here: {reason}")


@needs_vllm
@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("chunk", [1, 2, 3, 50])
def test_spans_of_any_chunks_cover_the_sequence_once(length, chunk):
    from persona_vectors.engines.vllm.worker import spans_of

    total, seen = length + 4, []
    for position in range(0, total, chunk):
        count = min(chunk, total - position)
        slots = [0] * (100 + count)
        for first, end, slot in spans_of([1, 2, 3], length, 100, position, count):
            slots[first:end] = [slot] * (end - first)
        seen += slots[100:]
    assert seen == [1] * (length - 1) + [2] + [3] * 4
    assert spans_of([0, 2, 0], length, 0, 0, total) == [(length - 1, length, 2)]
    for told in (0, 1, length):  # a text of that length, whose own prompt ends earlier
        seen = []
        for position in range(0, length, chunk):
            count = min(chunk, length - position)
            for first, end, slot in spans_of([1, 2, 3, told], length, 100, position, count):
                seen += [slot] * (end - first)
        assert seen == [1] * (told - 1) + [2] * (told > 0) + [3] * (length - told)


@needs_vllm
def test_the_second_model_runner_is_watched_in_its_own_order():
    """On a stand-in (that runner needs Triton, so a GPU): the batch's own order, preemption, a name used again."""
    from persona_vectors.engines.vllm.worker import REQUEST_KEY, watch_v2_runner

    class Runner:
        def add_requests(self, output):
            for request in output.scheduled_new_reqs:
                self._remove_request(request.req_id)

        def _remove_request(self, req_id):
            return True

        def prepare_inputs(self, batch):
            return batch

    filled = []
    runner = Runner()
    watch_v2_runner(runner, SimpleNamespace(fill=lambda spans, copy: filled.append(spans)))

    def new(req_id, slots, prompt_len):
        params = SimpleNamespace(extra_args={REQUEST_KEY: slots} if slots else None)
        return SimpleNamespace(req_id=req_id, sampling_params=params, prompt_len=prompt_len)

    def step(*parts):
        names, counts, positions = zip(*parts, strict=True)
        runner.prepare_inputs(
            SimpleNamespace(
                req_ids=list(names),
                num_scheduled_tokens=np.array(counts),
                num_computed_tokens_np=np.array(positions),
            )
        )
        return filled[-1]

    three = [new("a", [1, 2, 3], 4), new("b", None, 3), new("c", [0, 5, 5], 2)]
    runner.add_requests(SimpleNamespace(scheduled_new_reqs=three))
    assert step(("c", 2, 0), ("b", 3, 0), ("a", 4, 0)) == [(1, 2, 5), (5, 8, 1), (8, 9, 2)]
    assert step(("b", 1, 3), ("a", 1, 4), ("c", 1, 2)) == [(1, 2, 3), (2, 3, 5)]
    runner._remove_request("a")  # preempted; comes again with two tokens of output as prefill
    runner.add_requests(SimpleNamespace(scheduled_new_reqs=[new("a", [1, 2, 3], 4)]))
    assert step(("a", 6, 0)) == [(0, 3, 1), (3, 4, 2), (4, 6, 3)]
    runner._remove_request("a")  # finished; the name is taken by a request that is not steered
    runner.add_requests(SimpleNamespace(scheduled_new_reqs=[new("a", None, 4)]))
    assert step(("a", 4, 0)) == []


def test_a_request_of_several_prompts_has_a_salt_for_each_end():
    """What the server hands to vLLM: prompts of one request, whose body has one salt."""
    generate = salt_each_prompt(lambda prompt, _params, *_more, **_options: prompt.get("cache_salt"))

    def salts(slots):
        params = SimpleNamespace(extra_args={REQUEST_KEY: slots} if slots else None)
        prompts = ([7] * 32, [7] * 33, [7] * 32)
        return [generate({"prompt_token_ids": ids, "cache_salt": "s"}, params, "id") for ids in prompts]

    for slots in ([0, 1, 1], [1, 1, 0]):  # response, prompt
        short, longer, again = salts(slots)
        assert short == again and len({short, longer, "s"}) == 3
    assert generate({"prompt_token_ids": [7]}, SimpleNamespace(extra_args={REQUEST_KEY: [0, 0, 0]}), "id") is None
    assert salts([1, 1, 1]) == salts(None) == ["s"] * 3
