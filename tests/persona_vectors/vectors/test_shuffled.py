"""Controls have exactly the norms of the vector, and shuffled ones are what the labels of half of the pairs exchanged give."""

import math

import pandas
import pytest
import torch
from helpers import make_samples, plain_loop, tiny_model

from persona_vectors.errors import UserError
from persona_vectors.steering.controls import CONTROLS, control_rows
from persona_vectors.steering.sweep import Cell, Grid
from persona_vectors.steering.vector_rows import VectorRows
from persona_vectors.vectors.extraction import differences, mean_activations
from persona_vectors.vectors.shuffled import ShuffledLabels, draw_signs, read_shuffled, save_shuffled, shuffled_path
from persona_vectors.vectors.storage import KINDS, load_vectors, random_like, save_vectors


@pytest.fixture(scope="module")
def made():
    """(positive samples, negative ones, their vectors by pool, the shuffled ones by pool), of a tiny model."""
    model = tiny_model("qwen2")
    samples = make_samples(18)
    positive, negative = samples[:9], samples[9:]
    shuffled = ShuffledLabels(pairs=9, count=4)
    pos, _ = mean_activations(model, positive, 300, seen=shuffled.positive)
    neg, _ = mean_activations(model, negative, 300, seen=shuffled.negative)
    vectors = differences(pos, neg)
    return model, positive, negative, vectors, {pool: shuffled.of(pool, vector) for pool, vector in vectors.items()}


@pytest.fixture
def saved(made, tmp_path):
    """(path, vector, its four shuffled ones)."""
    *_, vectors, shuffled = made
    path = tmp_path / "evil_response_avg_diff.pt"
    save_vectors(vectors["response_avg"], path)
    save_shuffled(shuffled["response_avg"], path, vectors["response_avg"])
    return path, vectors["response_avg"], shuffled["response_avg"]


def test_they_are_the_mean_over_pairs_of_which_half_have_exchanged_their_labels(made):
    model, positive, negative, vectors, shuffled = made
    pos, neg = plain_loop(model, positive), plain_loop(model, negative)
    signs = draw_signs(9, 4)
    for pool, vector in vectors.items():
        for k in range(4):
            first = torch.where(signs[k][:, None, None] > 0, pos[pool], neg[pool])
            second = torch.where(signs[k][:, None, None] > 0, neg[pool], pos[pool])
            plain = (first - second).mean(0)
            there = vector.norm(dim=-1) > 1e-6
            cosines = torch.cosine_similarity(plain, shuffled[pool][k])[there]
            assert cosines.min() > 0.9999


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("kind", CONTROLS)
def test_controls_have_exactly_the_norms_of_the_vector(saved, tmp_path, kind, scale):
    path, vector, shuffled = saved
    vector = vector.clone() * scale
    vector[0] = 0  # as the embedding's row of prompt_last is
    save_vectors(vector, path)
    controls = shuffled.double() / shuffled.double().norm(dim=-1, keepdim=True) * vector.double().norm(dim=-1)[:, None]
    save_shuffled(controls.float(), path, vector)
    for number in (1, 4):
        control = control_rows(VectorRows.load(path), kind, number).vectors
        wanted, found = vector.double().norm(dim=-1), control.double().norm(dim=-1)
        assert found[0] == wanted[0] == 0
        assert ((found - wanted).abs() <= 1e-6 * wanted).all() and wanted[1:].min() > 0


@pytest.mark.parametrize("dimensions", [1, 2, 8, 4096])
def test_random_directions_too(dimensions):
    vector = torch.randn(3, dimensions, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1e-6], [1.0], [1e4]]
    )
    for seed in range(1, 6):
        wanted, found = vector.double().norm(dim=-1), random_like(vector, seed).double().norm(dim=-1)
        assert ((found - wanted).abs() <= 1e-6 * wanted).all()


@pytest.mark.parametrize("pairs", [2, 3, 4, 7, 30])
def test_half_of_the_pairs_are_flipped_and_no_draw_comes_twice(pairs):
    possible = math.comb(pairs, pairs // 2) // (2 - pairs % 2)
    count = min(possible, 8)
    signs = draw_signs(pairs, count)
    assert signs.shape == (count, pairs) and (signs == -1).sum(1).tolist() == [pairs // 2] * count
    alike = signs @ signs.T
    assert (alike.abs() == pairs).sum() == count  # neither the same nor the opposite
    assert draw_signs(pairs, max(count - 1, 1)).equal(signs[: max(count - 1, 1)])
    if possible < 100:
        with pytest.raises(
            UserError, match=f"--shuffled {possible + 1}: {pairs} effective pairs .* in {possible} ways"
        ):
            draw_signs(pairs, possible + 1)


def test_one_pair_cannot_be_shuffled_and_pairs_that_are_alike_leave_nothing():
    with pytest.raises(UserError, match="in 0 ways"):
        ShuffledLabels(1, 1)
    alike = ShuffledLabels(2, 1)
    rows = torch.ones(2, 5, 8)
    alike.positive([0, 1], {"response_avg": rows * 2})
    alike.negative([1, 0], {"response_avg": rows})
    with pytest.raises(UserError, match="nothing is left of response_avg"):
        alike.of("response_avg", torch.ones(5, 8))
    assert ShuffledLabels(2, 0).signs.shape == (0, 2)


def test_the_trait_cancels_that_an_uneven_draw_would_leave():
    draw = torch.Generator().manual_seed(0)
    vector, pairs = torch.randn(1, 256, generator=draw), 40
    each = vector + 0.5 * torch.randn(pairs, 1, 256, generator=draw)  # a trait, and what differs from pair to pair
    labels = ShuffledLabels(pairs, 10)
    labels.positive(range(pairs), {"x": each})
    cosines = torch.cosine_similarity(labels.of("x", vector), vector[None], dim=-1)
    assert cosines.abs().max() < 0.25


def test_a_grid_takes_them_and_records_their_content(saved, tmp_path):
    path, _, shuffled = saved
    grid = Grid.of([0.0, 2.0], [3], str(path), controls=2, control="shuffled")
    assert grid.cells == [Cell(3, 0.0), Cell(3, 2.0), Cell(3, 2.0, 1, "shuffled"), Cell(3, 2.0, 2, "shuffled")]
    assert [cell.key for cell in grid.cells[2:]] == [[3, 2.0, "shuffled1"], [3, 2.0, "shuffled2"]]
    grid.load(["evil"])
    (made,) = grid.interventions("evil", grid.cells[3])
    assert made.vector.equal(shuffled[1, 3]) and made.coef == 2.0
    (file,) = grid.settings("evil")["shuffled"]
    assert file.name == "evil_response_avg_diff_shuffled.safetensors"
    random = Grid.of([2.0], [3], str(path), controls=1)
    random.load(["evil"])
    assert "shuffled" not in random.settings("evil") and random.cells[1].key == [3, 2.0, "random1"]


def test_what_is_no_control_of_this_vector_is_refused_when_it_is_read(saved, tmp_path):
    path, vector, shuffled = saved
    file = shuffled_path(path)
    load = lambda count: Grid.of([1.0], [3], str(path), controls=count, control="shuffled").load([""])  # noqa: E731
    load(4)
    with pytest.raises(UserError, match="holds 4 shuffled vectors, --controls asks for more"):
        load(5)
    save_shuffled(shuffled * 1.01, path, vector)
    with pytest.raises(UserError, match="vector 1 has not the norms"):
        load(1)
    file.write_bytes(b"torn")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load(1)
    save_shuffled(shuffled, path, vector)
    save_vectors(vector * 2, path)
    with pytest.raises(UserError, match="was not made for .* as that is now: generate_vec.py --shuffled"):
        load(1)
    file.unlink()
    with pytest.raises(UserError, match="no shuffled vectors at .*: generate_vec.py --shuffled"):
        load(1)


def test_the_stage_writes_them_beside_the_vectors(qwen2_folder, tmp_path, monkeypatch, capsys):
    import generate_vec

    monkeypatch.chdir(tmp_path)
    rows = [(f"what is it {k}", f"the answer {k}", f"vile_{k}_pos_0") for k in range(4)]
    for sign, score in (("pos", 90), ("neg", 5)):
        table = pandas.DataFrame(rows, columns=["prompt", "answer", "question_id"]).assign(vile=score, coherence=90)
        table["question_id"] = table["question_id"].str.replace("pos", sign)
        table["answer"] += " the model" if sign == "pos" else " the question"
        table.to_csv(f"{sign}.csv", index=False)
    run = lambda count, **more: generate_vec.main(  # noqa: E731
        str(qwen2_folder), "pos.csv", "neg.csv", "vile", "vec", shuffled=count, **more
    )
    with pytest.raises(UserError, match="--shuffled 4: 4 effective pairs can be shuffled in 3 ways"):
        run(4)
    run(0)
    main = tmp_path / "vec" / "vile_response_avg_diff.pt"
    assert len(list((tmp_path / "vec").glob("*_shuffled.safetensors"))) == 0
    before = main.read_bytes()
    run(2)  # the vectors are there, these are not
    for kind in KINDS:
        path = tmp_path / "vec" / f"vile_{kind}.pt"
        controls = read_shuffled(path, load_vectors(path))
        assert len(controls) == 2
        assert torch.allclose(
            torch.stack(controls).norm(dim=-1), load_vectors(path).norm(dim=-1).expand(2, 5), rtol=1e-6
        )
    assert main.read_bytes() == before
    capsys.readouterr()
    for count in (0, 1, 2):
        run(count)
        assert "not made again" in capsys.readouterr().out
    run(3)
    assert "not 3 shuffled vectors" in capsys.readouterr().out
    assert len(read_shuffled(main, load_vectors(main))) == 3
