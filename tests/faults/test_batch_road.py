"""Scores through the batch API under kills and faults; at full size: python tests/faults/batch_road.py"""

from batch_road import measure


def test_every_score_is_paid_for_once():
    assert measure(answers=150, kills=3, faults=0.1, requests=60) == []
