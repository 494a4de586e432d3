"""A judge that answers a part of all calls badly: every cell is what it should be, reruns ask for the rest."""

import pytest
from bad_judge import measure


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_every_fault_ends_as_it_should(rate, monkeypatch, tmp_path):
    """10,000 calls at each rate, and a server that stays dead for single calls, are in tests.faults.long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.setenv("OPENAI_API_KEY", "")
    outcome = measure(rate, 500, seed=0, dead=False)
    assert not outcome.wrong, outcome
    assert (outcome.given_up == outcome.asked_again and outcome.retried > 0) or rate < 0.1
