"""What a vector file's rows become: the same for a sweep, a training, a server and a chat."""

import pytest
import torch

from persona_vectors.errors import UserError
from persona_vectors.models.loading import Shape
from persona_vectors.steering.sweep import Cell, Grid
from persona_vectors.steering.vector_folder import NamedVectors
from persona_vectors.steering.vector_rows import ALL, VectorRows
from persona_vectors.training.config import SteeringConfig
from persona_vectors.training.steering import interventions as of_training


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "evil_response_avg_diff.pt"
    torch.save(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), path)
    return path


def roads(path, layer, coef):
    """The interventions on all tokens at a layer (or at all of them), by every road that there is."""
    grid = Grid([Cell(layer, coef)], str(path), "all")
    grid.load(["evil"])
    where = {"incremental": True} if layer == ALL else {"layers": [layer]}
    config = SteeringConfig(steering_vector_path=str(path), type="steer", steering_coef=coef, **where)
    yield VectorRows.load(path).interventions(layer, coef, "all")
    yield grid.interventions("evil", grid.cells[0])
    yield NamedVectors(path.parent, "response_avg_diff", 4, 8).interventions("evil", coef, layer, "all")
    yield of_training(config, Shape(4, 8, None))


@pytest.mark.parametrize("layer", [1, 4, ALL])
def test_all_roads_make_the_same_interventions(path, layer):
    vectors = torch.load(path)
    expected = [(layer, vectors[layer])] if layer != ALL else [(k, vectors[k] - vectors[k - 1]) for k in (1, 2, 3)]
    for made in roads(path, layer, 1.5):
        assert [(i.layer, i.coef, i.positions, i.kind) for i in made] == [(k, 1.5, "all", "add") for k, _ in expected]
        assert all(i.vector.equal(row) for i, (_, row) in zip(made, expected, strict=True))


def test_the_same_rows_are_the_same_objects_each_time(path):
    rows = VectorRows.load(path)
    for layer in (2, ALL):
        first, again = rows.interventions(layer, 1.0), rows.interventions(layer, -2.0)
        assert all(one.vector is other.vector for one, other in zip(first, again, strict=True))
    assert rows.interventions(2, 0.0) == ()


def test_a_product_that_float32_cannot_hold_is_refused_by_every_road(path):
    grid = Grid([Cell(2, 1e39)], str(path), "all")
    grid.load(["evil"])
    config = SteeringConfig(steering_vector_path=str(path), type="steer", steering_coef=1e39, layers=[2])
    named = NamedVectors(path.parent, "response_avg_diff", 4, 8)
    for setting, refused in (
        ("--coef", lambda: grid.check(4, 8)),
        ("coef", lambda: named.interventions("evil", 1e39, 2)),
        ("steering_coef", lambda: of_training(config, Shape(4, 8, None))),
    ):
        with pytest.raises(
            UserError, match=rf"^{setting} 1e\+39 times .*evil_response_avg_diff.pt is more than float32"
        ):
            refused()
