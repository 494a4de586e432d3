"""Batches by length."""

import itertools

from persona_vectors.vectors.batches import batches_by_length


def test_batches_hold_the_budget_and_everything_once():
    lengths = [5, 90, 3, 3, 40, 41, 7, 200]
    batches = batches_by_length(lengths, 100)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 100
