"""A dose: the steering's length relative to the activations it is added to, measured where it is added."""

import pandas
import pytest
import torch
from helpers import ARCHITECTURES, make_samples, tiny_model

from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.errors import UserError
from persona_vectors.files.tables import read_answers
from persona_vectors.models.decoder import find_blocks, find_decoder
from persona_vectors.sharing.formats import About, norms_text, read_norms, save_both, save_shared
from persona_vectors.steering.steer import steer
from persona_vectors.steering.sweep import Cell, Grid
from persona_vectors.steering.vector_rows import VectorRows
from persona_vectors.traits.artifact import Question, Trait
from persona_vectors.vectors.activations import pooled_activations
from persona_vectors.vectors.batches import Sample
from persona_vectors.vectors.extraction import mean_activations
from persona_vectors.vectors.norms import ENOUGH, MeanNorms, mean_norms
from persona_vectors.vectors.storage import save_vectors

ROWS = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
NORMS = [2.0, 4.0, 5.0, 10.0, 8.0]


@pytest.fixture
def folder(tmp_path):
    """evil.pt of which the norms are known, kind.pt of which they are not, both as response_avg_diff."""
    about = {"trait": "evil", "kind": "response_avg_diff"}
    save_both(ROWS, tmp_path, About(**about, mean_norms=norms_text(NORMS)))
    save_vectors(2 * ROWS, tmp_path / "kind_response_avg_diff.pt")
    return tmp_path


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("budget", [None, 64])
def test_mean_norms_are_those_of_a_plain_loop(kind, budget):
    model, samples, found = tiny_model(kind), make_samples(9), []
    samples[3] = Sample(samples[3].prompt_ids, samples[3].answer_ids, [7, 8, 9])  # thoughts count for neither
    blocks = find_blocks(model)
    for sample in samples:
        seen: list = []
        hooks = [blocks[0].register_forward_pre_hook(lambda _, args, kwargs, s=seen: s.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)]  # fmt: skip
        hooks += [b.register_forward_hook(lambda _, a, out, s=seen: s.append(out[0] if isinstance(out, tuple) else out)) for b in blocks]  # fmt: skip
        with torch.no_grad():
            model(torch.tensor([sample.prompt_ids + sample.written_ids]))
        for hook in hooks:
            hook.remove()
        start = len(sample.prompt_ids + sample.between_ids)
        found.append(torch.stack([h[0, start:].norm(dim=-1).mean() for h in seen]))
    assert torch.allclose(mean_norms(model, samples, budget), torch.stack(found).mean(0), rtol=1e-4)


def test_of_many_answers_a_spread_of_them_is_read(qwen2):
    samples = [Sample([5], [6 + k % 3]) for k in range(10 * ENOUGH)]
    every_tenth = [samples[k] for k in range(0, len(samples), 10)]
    assert torch.allclose(mean_norms(qwen2, samples), mean_norms(qwen2, every_tenth))


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("shared", [False, True], ids=["plain", "shared prompts"])
def test_one_pass_gives_vectors_and_norms(kind, shared):
    """The vectors' bits are those of a pass without norms, nothing is run twice, and the norms are those of a pass of their own."""
    model = tiny_model(kind)
    draw = make_samples(2 * ENOUGH + 7)
    prompts = [draw[k % 3 if shared else k].prompt_ids for k in range(len(draw))]
    samples = [Sample(prompt, own.answer_ids) for prompt, own in zip(prompts, draw, strict=True)]
    parts = [samples[:50], samples[50:]]
    runs: list = []
    counter = find_decoder(model).register_forward_pre_hook(lambda *_: runs.append(1))
    plain = [mean_activations(model, part) for part in parts]
    alone, norms = len(runs), MeanNorms(len(samples))
    both = [mean_activations(model, part, norms=norms) for part in parts]
    assert len(runs) == 2 * alone
    counter.remove()
    for (means, answers), (again, same) in zip(plain, both, strict=True):
        assert list(means) == list(again) and all(torch.equal(means[pool], again[pool]) for pool in means)
        assert torch.equal(answers, same)
    assert torch.allclose(norms.mean(model), mean_norms(model, samples), rtol=1e-5)


def test_norms_are_of_answers_at_all_layers(qwen2):
    for more in ({"layers": [1, 2]}, {"pools": ("prompt_last",)}):
        with pytest.raises(ValueError, match="norms are those of answers"):
            next(pooled_activations(qwen2, make_samples(2), norms=True, **more))
    with pytest.raises(UserError, match="overflow"):
        norms = MeanNorms(1)
        norms.add([0], torch.tensor([[1.0, float("inf")]]))
        norms.mean(qwen2)


def test_what_is_added_has_the_length_that_was_asked_for(qwen2):
    """Steered at a dose, a block's output moves by that part of its own mean norm: measured in the model itself."""
    sample = make_samples(1)[0]
    ids, start = torch.tensor([sample.prompt_ids + sample.answer_ids]), len(sample.prompt_ids)
    grid = Grid.of([0.0], [2, 4], "v.pt", "all", doses=[0.3])
    rows = VectorRows("v.pt", ROWS)
    grid.vectors, rows.norms = {"evil": rows}, mean_norms(qwen2, [sample]).tolist()
    for cell in grid.cells_of("evil"):
        outputs = []
        hook = find_blocks(qwen2)[cell.layer - 1].register_forward_hook(lambda _, args, out, o=outputs: o.append(out))  # fmt: skip
        with torch.no_grad():
            qwen2(ids)
            with steer(qwen2, list(grid.interventions("evil", cell))):
                hook.remove()
                last = find_blocks(qwen2)[cell.layer - 1].register_forward_hook(lambda _, args, out, o=outputs: o.append(out))  # fmt: skip
                qwen2(ids)
                last.remove()
        plain, steered = (out[0] if isinstance(out, tuple) else out for out in outputs)
        moved = (steered - plain)[0, start:].norm(dim=-1).mean() / plain[0, start:].norm(dim=-1).mean()
        assert float(moved) == pytest.approx(0.3, rel=1e-3) and cell.dose == 0.3


def test_a_file_tells_how_long_activations_are(folder):
    assert read_norms(folder / "evil_response_avg_diff.pt") == NORMS
    assert read_norms(folder / "evil_response_avg_diff.safetensors") == NORMS
    assert read_norms(folder / "kind_response_avg_diff.pt") is None
    save_vectors(3 * ROWS, folder / "evil_response_avg_diff.pt")  # the file beside it speaks for another vector
    assert read_norms(folder / "evil_response_avg_diff.pt") is None
    for text in ("1,2", "1,2,3,4,x", "1,2,3,4,nan", "1,2,3,4,-5", "1,2,3,4,0", "1,2,3,4,inf", ""):
        about = About(trait="odd", kind="response_avg_diff", mean_norms=text)
        save_shared(ROWS, folder / "odd_response_avg_diff.safetensors", about)
        assert read_norms(folder / "odd_response_avg_diff.safetensors") is None, text


def test_doses_become_coefficients_of_each_layer_and_trait(folder):
    save_both(2 * ROWS, folder, About(trait="cruel", kind="response_avg_diff", mean_norms=norms_text(NORMS)))
    grid = Grid.of([0.0], [1, 3], str(folder / "{trait}_response_avg_diff.pt"), "all", controls=1, doses=[0, 0.4, -0.1])
    grid.load(["evil", "cruel"])
    evil, cruel = grid.cells_of("evil"), grid.cells_of("cruel")
    for one, other in zip(evil, cruel, strict=True):
        assert one.dose == other.dose and one.coef == pytest.approx(2 * other.coef, rel=1e-4)
        assert one.coef * float(ROWS[one.layer].norm()) / NORMS[one.layer] == pytest.approx(one.dose, rel=1e-4)
    assert [cell.dose for cell in evil] == [0, 0.4, -0.1, 0, 0.4, -0.1, 0.4, -0.1, 0.4, -0.1]
    (added,) = grid.interventions("evil", evil[1])
    assert added.coef == evil[1].coef
    (from_asked,) = grid.interventions("cruel", grid.cells[1])  # a cell as it was asked for is understood too
    assert from_asked.coef == cruel[1].coef
    assert [0.4] not in [key[1:] for key in grid.settings("evil")["cells"]]
    grid.check(4, 32)


def test_coefficients_are_told_as_doses_where_they_are_known(folder):
    grid = Grid.of([0.0, 1.5], [2, "all"], str(folder / "{trait}_response_avg_diff.pt"))
    grid.load(["evil", "kind"])
    assert [cell.coef for cell in grid.cells_of("evil")] == [0, 1.5, 0, 1.5]
    assert grid.cells_of("evil")[1].dose == pytest.approx(1.5 * float(ROWS[2].norm()) / 5, rel=1e-3)
    assert grid.cells_of("evil")[3].dose is None  # every layer at once has no one dose
    assert {cell.dose for cell in grid.cells_of("kind")} == {None}
    same_keys = [cell.key for cell in grid.cells_of("evil")]
    assert same_keys == [[2, 0.0], [2, 1.5], ["all", 0.0], ["all", 1.5]]  # as journals have always named them


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (([1.0], [2], "evil", [0.5]), "--coef and --dose are two ways to say how much"),
        (([0.0], ["all"], "evil", [0.5]), "--dose is of one layer"),
        (([0.0], [2], None, [0.5]), "--dose 0.5 needs --vector_path"),
        (([0.0], [], "evil", [0.5]), "--dose 0.5 needs --layer"),
        (([0.0], [2], "kind", [0.5]), "kind_response_avg_diff.pt does not tell how long the model's activations are"),
        (([0.0], [2], "evil", [0.5, 0.50000001]), "--dose 0.5 and 0.50000001 are both coefficient .* at layer 2"),
        (([0.0], [1, 2], "evil", [0.0, -0.3, -0.30000001]), "--dose -0.3 and -0.30000001 are both coefficient -"),
        (([0.0], [9], "evil", [0.5]), "--layer 9 does not exist"),
        (([0.0], [0], "zero", [0.5]), "row 0 of .* is zero"),
    ],
)
def test_half_a_dose_is_refused_in_a_line(folder, arguments, refusal):
    zero = ROWS.clone()
    zero[0] = 0
    save_both(zero, folder, About(trait="zero", kind="response_avg_diff", mean_norms=norms_text(NORMS)))
    coefs, layers, name, doses = arguments
    path = name and str(folder / f"{name}_response_avg_diff.pt")
    with pytest.raises(UserError, match=refusal) as refused:
        Grid.of(coefs, layers, path, doses=doses).load(["evil"])
    assert "\n" not in str(refused.value)


def test_answers_of_a_sweep_have_the_dose_beside_the_coefficient(folder, tmp_path):
    trait = Trait("evil", [{"pos": "p", "neg": "n"}], ["q?"], "{question} {answer}")
    question = Question("evil_0", "q?", None)
    for name, known in (("evil", True), ("kind", False)):
        grid = Grid.of([0.0, 1.5], [2, 3], str(folder / f"{name}_response_avg_diff.pt"))
        grid.load(["evil"])
        sheet = AnswerSheet(str(tmp_path / f"{name}.csv"), trait, [question], 1, grid.cells_of("evil"), {"evil": "{question}{answer}"}, {})  # fmt: skip
        sheet.open()
        sheet.judged_by("test")
        for planned in sheet.planned:
            sheet.add_answer(planned, "p", "a")
            sheet.add_score(planned.key, "evil", 50.0)
        sheet.write()
        table = read_answers(tmp_path / f"{name}.csv")
        assert list(table.columns[-3:] if known else table.columns[-2:]) == ["coef", "layer", "dose"][: 2 + known]
        if known:
            doses = pandas.to_numeric(table["dose"])
            assert doses.tolist() == pytest.approx([0, 1.5 * float(ROWS[2].norm()) / 5, 0, 1.5 * float(ROWS[3].norm()) / 10], rel=1e-3)  # fmt: skip


def test_one_cell_is_told_in_a_line(folder):
    grid = Grid.of([2.0], [2], str(folder / "{trait}_response_avg_diff.pt"))
    grid.load(["evil", "kind"])
    assert grid.in_words("evil").startswith(": coefficient 2 at layer 2, dose ")
    assert grid.in_words("kind") == "" and Grid.of([0.0]).in_words("evil") == ""
    assert Cell(2, 1.0) == Cell(2, 1.0, dose=0.4)  # a dose is what a cell is known by, not another cell
