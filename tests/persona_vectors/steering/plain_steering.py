"""Steering written out plainly: a forward hook of a few lines, prompts one by one; and what models are asked here."""

from contextlib import ExitStack, contextmanager

import torch
from test_hooks import plain_greedy, plain_hook

from persona_vectors.models.decoder import find_blocks

OTHERS = [[4, 5, 6, 7], [90, 3, 91]]
STEPS = 8


@contextmanager
def plain(model, length, *interventions):
    """Within the block, plain hooks act: the prompt is the first ``length`` columns of every forward."""
    with ExitStack() as stack:
        for i in interventions:
            stack.callback(find_blocks(model)[i.layer - 1].register_forward_hook(plain_hook(i, length)).remove)
        yield


def batch(prompts, left=True):
    width = max(map(len, prompts))
    ids, mask = torch.full((len(prompts), width), 2), torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        where = slice(width - len(prompt), width) if left else slice(len(prompt))
        ids[row, where], mask[row, where] = torch.tensor(prompt), 1
    return {"input_ids": ids, "attention_mask": mask}


def until_eos(rows):
    return [row[: row.index(1) + 1] if 1 in row else row for row in rows]


def generate(model, prompts, steps=STEPS, **options):
    inputs = batch(prompts)
    made = model.generate(**inputs, max_new_tokens=steps, do_sample=False, pad_token_id=2, **options)
    return until_eos(made[:, inputs["input_ids"].shape[1] :].tolist())


@torch.no_grad()
def decode(model, prompts, left):
    """A user's own loop with a cache, padded on either side."""
    inputs = batch(prompts, left)
    ids, mask, rows = inputs["input_ids"], inputs["attention_mask"], torch.arange(len(prompts))
    at, cache, made = (mask.cumsum(1) - 1).clamp_min(0), None, []
    for _ in range(STEPS):
        out = model(ids, attention_mask=mask, position_ids=at, past_key_values=cache, use_cache=True)
        last = (mask * torch.arange(mask.shape[1])).argmax(1) if cache is None else torch.zeros(len(prompts), dtype=int)
        cache, ids, at = out.past_key_values, out.logits[rows, last].argmax(-1, keepdim=True), mask.sum(1, keepdim=True)
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
        made.append(ids)
    return until_eos(torch.cat(made, 1).tolist())


def expected(model, prompts, *interventions):
    return [plain_greedy(model, prompt, interventions, STEPS) for prompt in prompts]


def state(model):
    hooks = [(list(m._forward_hooks), list(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()]
    return hooks, [p.clone() for p in model.parameters()], model.generate


def unchanged(model, before):
    hooks, parameters, own = state(model)
    return hooks == before[0] and all(map(torch.equal, parameters, before[1])) and own == before[2]


CACHES = {
    "no cache": dict(use_cache=False),
    "prefill in chunks": dict(prefill_chunk_size=2),
    "prefill in odd chunks": dict(prefill_chunk_size=4),
    "static cache": dict(cache_implementation="static"),
    "static cache in chunks": dict(cache_implementation="static", prefill_chunk_size=3),
    "hybrid cache": dict(cache_implementation="hybrid"),
}
