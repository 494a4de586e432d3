"""Cosines, components and trees of directions, each against a plain computation; and the stage over models of one width."""

import json

import numpy
import pytest
import torch

from eval import vector_similarity
from persona_vectors.analysis.similarity import average_linkage, cosines, principal_components
from persona_vectors.errors import UserError


def drawn(n, hidden=16, seed=0):
    return numpy.random.default_rng(seed).normal(size=(n, hidden)) * numpy.arange(1, n + 1)[:, None]


def test_cosines_and_rows_of_zeros():
    rows = drawn(4)
    rows[2] = 0
    found = cosines(rows, rows)
    for i in range(4):
        for j in range(4):
            lengths = numpy.linalg.norm(rows[i]) * numpy.linalg.norm(rows[j])
            assert found[i, j] == pytest.approx(rows[i] @ rows[j] / lengths if lengths else 0, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 8, 40])
def test_components_are_the_eigenvectors_of_the_covariance(n):
    rows = drawn(n)
    points, shares = principal_components(rows)
    unit = rows / numpy.linalg.norm(rows, axis=1, keepdims=True)
    values, axes = numpy.linalg.eigh(numpy.cov(unit.T, bias=True))
    expected = (unit - unit.mean(0)) @ axes[:, ::-1][:, :2]
    assert numpy.allclose(shares, values[::-1][:2] / values.sum(), atol=1e-9)
    for k in range(2):
        assert numpy.allclose(points[:, k], expected[:, k], atol=1e-7) or numpy.allclose(
            points[:, k], -expected[:, k], atol=1e-7
        )
        assert points[numpy.abs(points[:, k]).argmax(), k] >= 0
    assert numpy.allclose(principal_components(rows * 7)[0], points)  # of directions


def test_points_that_are_one_have_no_components():
    points, shares = principal_components(numpy.ones((3, 4)))
    assert not points.any() and not shares.any()


@pytest.mark.parametrize("n", [2, 3, 7, 25])
def test_the_two_nearest_clusters_are_merged_each_time(n):
    rows = drawn(n, seed=n)
    distance = 1 - cosines(rows, rows)
    clusters = {leaf: [leaf] for leaf in range(n)}
    merges = average_linkage(rows)
    for k, merge in enumerate(merges):
        between = {
            (a, b): numpy.mean([distance[i, j] for i in clusters[a] for j in clusters[b]])
            for a in clusters for b in clusters if a < b
        }  # fmt: skip
        assert (merge.first, merge.second) == min(between, key=between.get)
        assert merge.distance == pytest.approx(between[merge.first, merge.second], abs=1e-12)
        clusters[n + k] = clusters.pop(merge.first) + clusters.pop(merge.second)
        assert sorted(merge.leaves) == sorted(clusters[n + k])
    assert len(merges) == n - 1 and sorted(merges[-1].leaves) == list(range(n))
    assert [m.distance for m in merges] == sorted(m.distance for m in merges)


def test_the_stage_compares_traits_layers_and_models_of_one_width(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = torch.Generator().manual_seed(0)
    paths = []
    for model, rows in (("small", 5), ("large", 7)):
        (tmp_path / model).mkdir()
        for trait in ("evil", "kind"):
            paths.append(f"{model}/{trait}_response_avg_diff.pt")
            torch.save(torch.randn(rows, 32, generator=draw), paths[-1])
    vector_similarity.main(",".join(paths), "2,4", "s")
    found = json.loads((tmp_path / "s.json").read_text())
    named = [(point["vector"], point["layer"]) for point in found["points"]]
    assert named == [(f"{m}/{t}", n) for m in ("small", "large") for t in ("evil", "kind") for n in (2, 4)]
    stacked = torch.stack([torch.load(path)[n] for path in paths for n in (2, 4)]).numpy()
    places, shares = principal_components(stacked)
    assert numpy.allclose([point["components"] for point in found["points"]], places)
    assert found["variance_shares"] == pytest.approx(shares.tolist())
    assert len(found["tree"]) == 7 and found["tree"][-1][3] == 8
    for kind in ("traits", "layers", "pca", "dendrogram"):
        assert (tmp_path / f"s_{kind}.png").read_bytes().startswith(b"\x89PNG")
    vector_similarity.main(paths[0] + "," + paths[1], "2", "one")  # two points, one layer
    torch.save(torch.randn(5, 33), "wide.pt")
    for more, layer, message in (
        ("wide.pt", "2", "only vectors of one width .* wide 33 wide"),
        (paths[2], "5", "--layer 5 does not exist: small/evil has layers 0..4"),
    ):
        with pytest.raises(UserError, match=message):
            vector_similarity.main(f"{paths[0]},{more}", layer, "no")
    assert not list(tmp_path.glob("no*"))
