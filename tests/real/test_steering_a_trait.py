"""The method on a real model, small: instructed answers -> a vector -> steering moves the trait, random vectors do not."""

from statistics import fmean

import torch
from real_model import LAYER

from persona_vectors.engines import Request, Sampling
from persona_vectors.likelihood.scores import LikelihoodScorer, Spoken
from persona_vectors.models import chat_template
from persona_vectors.steering.intervention import Intervention
from persona_vectors.traits.artifact import load_trait, make_questions
from persona_vectors.vectors.activations import pooled_activations
from persona_vectors.vectors.batches import Sample
from persona_vectors.vectors.storage import random_like

GREEDY = Sampling(30, temperature=0)


def answers(engine, questions, interventions=()) -> list[tuple]:
    """(question, prompt ids, answer ids, answer) of each question, greedily."""
    render = lambda q: chat_template.render(engine.tokenizer, q.messages)  # noqa: E731
    prompts = {q.id: chat_template.token_ids(engine.tokenizer, render(q)) for q in questions}
    asked = [Request(key, ids, interventions) for key, ids in prompts.items()]
    found = {answer.key: answer for answer in engine.generate(asked, GREEDY)}
    return [(q, prompts[q.id], found[q.id].token_ids, found[q.id].text) for q in questions]


def test_the_optimistic_vector_moves_what_random_vectors_of_its_norm_do_not(engine):
    trait = load_trait("optimistic", "extract")
    means = {}
    for sign in ("pos", "neg"):
        asked = [q for k, q in enumerate(make_questions(trait, sign)) if k % 20 < 4][:16]
        told = [Sample(prompt, ids) for _, prompt, ids, text in answers(engine, asked) if text.strip()]
        assert len(told) >= 12
        pooled = [pool["response_avg"] for _, pool in pooled_activations(engine.model, told, ("response_avg",))]
        means[sign] = torch.cat(pooled).mean(0)
    vector = means["pos"] - means["neg"]
    asked = make_questions(load_trait("optimistic", "eval"))[:6]
    scorer = LikelihoodScorer(engine.model, engine.tokenizer, pairs=1)

    def score(rows, coef: float) -> float:
        steering = (Intervention(LAYER, rows[LAYER], coef),)
        spoken = [Spoken(q.text, text) for q, _, _, text in answers(engine, asked, steering)]
        return fmean(found.score for found in scorer.score(trait, spoken))

    moved = score(vector, 2) - score(vector, -2)
    by_chance = [score(random_like(vector, seed), 2) - score(random_like(vector, seed), -2) for seed in (1, 2)]
    assert moved > 20, moved
    assert all(abs(change) < moved / 2 for change in by_chance), (moved, by_chance)
