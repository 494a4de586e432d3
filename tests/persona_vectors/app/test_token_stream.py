"""Side-by-side answers against whole forwards without a cache, and several of them in turn on one model."""

import pytest
import torch
from helpers import tiny_model

from persona_vectors.app.token_stream import End, Gauge, Token, side_by_side
from persona_vectors.engines.base import Request, Sampling
from persona_vectors.engines.hf import HFEngine
from persona_vectors.errors import UserError
from persona_vectors.models.loading import ModelPath
from persona_vectors.steering.intervention import Intervention

DRAW = torch.Generator().manual_seed(5)
VECTOR, WATCHED = (torch.randn(32, generator=DRAW) for _ in range(2))
PROMPTS = [torch.randint(4, 300, (length,), generator=DRAW).tolist() for length in (7, 12)]
STEERED = (Intervention(2, VECTOR, 1.5),)


def collect(events) -> dict:
    """{row: (token ids, text, projections, reason)}, and the gauge under "gauge"."""
    rows: dict = {0: ([], [], []), 1: ([], [], [])}
    for event in events:
        if isinstance(event, Gauge):
            rows["gauge"] = event.projections
        elif isinstance(event, Token):
            for part, value in zip(rows[event.row], (event.token_id, event.text, event.projection), strict=True):
                part.append(value)
        elif isinstance(event, End):
            rows[event.row] += (event.reason,)
    return rows


def run(model, tokenizer, max_tokens=12, temperature=0.0, layer=2, seed=0):
    sampling = Sampling(max_tokens, temperature)
    return side_by_side(model, tokenizer, PROMPTS, [(), STEERED], layer, WATCHED, sampling, seed)


def test_answers_equal_the_engine_and_projections_whole_forwards(qwen2_folder, qwen2, tokenizer):
    engine = HFEngine(ModelPath(str(qwen2_folder), str(qwen2_folder)), "float32")
    requests = [Request("0", PROMPTS[0]), Request("1", PROMPTS[1], STEERED)]
    expected = {a.key: a for a in engine.generate(requests, Sampling(12, 0.0))}
    rows = collect(run(qwen2, tokenizer))
    for row in (0, 1):
        ids, text, projections, reason = rows[row]
        answer = expected[str(row)]
        assert ids == [t for t in answer.token_ids if t != 1] and reason == answer.finish_reason
        assert "".join(text) == answer.text
        # Steering acts at the output of the watched layer, and is not counted: what an unsteered model reads there.
        with torch.no_grad():
            states = qwen2(torch.tensor([PROMPTS[row] + ids]), output_hidden_states=True).hidden_states[2][0]
        read = (states @ WATCHED / WATCHED.norm()).tolist()
        assert rows["gauge"][row] == pytest.approx(read[len(PROMPTS[row]) - 1], abs=1e-4)
        assert projections == pytest.approx(read[len(PROMPTS[row]) :], abs=1e-4)
    assert rows[0][0] != rows[1][0]


def test_several_take_turns_on_one_model_without_mixing(qwen2, tokenizer):
    def hooks() -> int:  # transformers may have some of its own there
        return sum(len(block._forward_hooks) for block in qwen2.model.layers)

    before = hooks()
    alone = [collect(run(qwen2, tokenizer)), collect(run(qwen2, tokenizer, temperature=1.0, seed=3, layer=3))]
    one, two = run(qwen2, tokenizer), run(qwen2, tokenizer, temperature=1.0, seed=3, layer=3)
    together: list = [[], []]
    done = [False, False]
    while not all(done):
        for k, events in enumerate((one, two)):
            event = next(events, None)
            done[k] = event is None
            together[k] += [] if event is None else [event]
    assert [collect(events) for events in together] == alone
    assert hooks() == before
    abandoned = run(qwen2, tokenizer)
    next(abandoned)
    assert hooks() == before  # also between steps
    abandoned.close()


def test_what_cannot_be_watched_or_does_not_fit(qwen2, tokenizer):
    for layer in (0, 4):
        with pytest.raises(UserError, match=r"1\.\.3"):
            next(run(qwen2, tokenizer, layer=layer))
    short = tiny_model("qwen2", max_position_embeddings=12)
    with pytest.raises(UserError, match="begin a new one"):
        next(run(short, tokenizer))
