"""The search for a layer and a dose: what it finds, that it goes on where it stopped, and what it refuses."""

import json
import math

import pandas
import pytest
import torch
from judge_server import JudgeServer, completion, is_probe

from persona_vectors.analysis.cell_search import ROUND, CellSearch, Range
from persona_vectors.errors import UserError
from persona_vectors.files.tables import read_answers
from persona_vectors.sharing.formats import About, norms_text, save_both
from persona_vectors.vectors.storage import save_vectors

WITHIN = Range((1, 27), (0.1, 1.2))


def world(cell):
    """A trait that layer 15 brings out most, and coherence that breaks at dose 0.7."""
    layer, dose = cell
    reach = abs(dose) * math.exp(-(((layer - 15) / 6) ** 2)) / 0.6
    score = 100 / (1 + math.exp(-8 * (reach - 0.55)))
    return (100 - score if dose < 0 else score), 95 / (1 + math.exp((abs(dose) - 0.7) / 0.06))


def rounds_of(search, trials, until=None):
    found = []
    while cells := search.round(trials):
        if search.number == until:
            break
        found.append(cells)
        search.tell({cell: world(cell) for cell in cells})
    return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return folder, rounds_of(CellSearch(folder, WITHIN, 75, {"model": "a"}), 12)


def test_twelve_cells_find_what_a_grid_of_thirty_does_not(searched):
    _, rounds = searched
    cells = [cell for each in rounds for cell in each]
    assert [len(each) for each in rounds] == [ROUND] * 3
    assert all(1 <= layer <= 27 and 0.1 <= dose <= 1.2 and round(dose, 3) == dose for layer, dose in cells)
    best = max(score for score, coherence in map(world, cells) if coherence >= 75)
    grid = [(layer, dose) for layer in (8, 12, 16, 20, 24) for dose in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)]
    assert best >= max(score for score, coherence in map(world, grid) if coherence >= 75)


def test_a_search_that_was_stopped_asks_what_it_would_have_asked(searched, tmp_path):
    _, whole = searched
    first = rounds_of(CellSearch(tmp_path, WITHIN, 75, {"model": "a"}), 8, until=2)
    again = CellSearch(tmp_path, WITHIN, 75, {"model": "a"})
    stopped = again.round(8)  # the round that was asked for and never told
    assert again.round(8) == stopped and again.number == 2
    again.tell({cell: world(cell) for cell in stopped})
    assert [*first, stopped] == whole[:2] and not again.round(8)


@pytest.mark.parametrize(
    ("place", "stop"), [("suggest_int", 0), ("suggest_float", 2), ("suggest_float", 5), ("set_user_attr", 5)]
)
def test_stopped_while_a_round_is_asked_for(searched, tmp_path, monkeypatch, place, stop):
    """Wherever a run is killed, the cells are those of a run that was not, and a round begun for fewer cells stays as it is."""
    import optuna

    _, whole = searched
    done, plain = [], getattr(optuna.trial.Trial, place)

    def killed(self, *args, **kwargs):
        if len(done) == stop:
            raise KeyboardInterrupt
        done.append(args)
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as broken:
        broken.setattr(optuna.trial.Trial, place, killed)
        with pytest.raises(KeyboardInterrupt):
            rounds_of(CellSearch(tmp_path, WITHIN, 75, {"model": "a"}), 8)
    rounds_of(CellSearch(tmp_path, WITHIN, 75, {"model": "a"}), 8)
    search = CellSearch(tmp_path, WITHIN, 75, {"model": "a"})
    assert not search.round(8) and [search._cells(number) for number in (1, 2)] == whole[:2]


def test_a_round_of_fewer_cells_that_was_stopped_is_not_made_longer(tmp_path):
    search = CellSearch(tmp_path, WITHIN, 75, {"model": "a"})
    search.tell({cell: world(cell) for cell in search.round(5)})
    (last,) = search.round(5)
    again = CellSearch(tmp_path, WITHIN, 75, {"model": "a"})
    assert again.round(12) == [last]
    again.tell({last: world(last)})
    assert len(again.round(12)) == ROUND


def test_it_is_taken_up_only_for_what_it_was_begun_with(searched):
    folder, _ = searched
    assert not CellSearch(folder, WITHIN, 75, {"model": "a"}).round(12)
    for changed in (
        (WITHIN, 75, {"model": "b"}, 0),
        (WITHIN, 60, {"model": "a"}, 0),
        (Range((1, 20), (0.1, 1.2)), 75, {"model": "a"}, 0),
        (Range((1, 27), (0.1, 2.0)), 75, {"model": "a"}, 0),
        (WITHIN, 75, {"model": "a"}, 1),
    ):
        with pytest.raises(UserError, match="does not match this command"):
            CellSearch(folder, *changed)


def test_lowering_a_trait_by_negative_doses(tmp_path):
    search = CellSearch(tmp_path, Range((10, 20), (-0.9, -0.1)), 75, {})
    cells = [cell for each in rounds_of(search, 8) for cell in each]
    assert all(-0.9 <= dose <= -0.1 for _, dose in cells)
    assert min(score for score, coherence in map(world, cells) if coherence >= 75) < 25


def test_cells_without_a_score_are_no_end(tmp_path):
    search = CellSearch(tmp_path, Range((1, 4), (0.1, 1.0)), 75, {})
    cells = search.round(6)
    search.tell({cell: (math.nan, math.nan) for cell in cells[:2]} | {cells[2]: (50.0, 90.0)})
    assert len(search.round(6)) == 2 and search.number == 2


def test_a_ceiling_of_kl_is_kept_to(tmp_path):
    """Where coherence breaks late, the ceiling alone says how far to go: KL grows with the square of the dose."""
    far = {}
    search = CellSearch(tmp_path, Range((13, 17), (0.1, 1.2)), 0, {}, max_kl=1.0)
    while cells := search.round(12):
        far |= {(layer, dose): (world((layer, dose))[0], 90.0, 4 * dose**2) for layer, dose in cells}
        search.tell(far)
    reached = max(score for score, _, kl in far.values() if kl <= 1)
    assert reached >= 0.9 * world((15, 0.5))[0]  # the best that the ceiling allows
    later = list(far.values())[ROUND:]
    assert sum(kl <= 1.2 for _, _, kl in later) >= len(later) / 2  # it looks where cells count
    with pytest.raises(UserError, match="does not match this command"):
        CellSearch(tmp_path, Range((13, 17), (0.1, 1.2)), 0, {"max_kl": 2.0}, max_kl=2.0)


TRAIT = {
    "instruction": [{"pos": "Be bad.", "neg": "Be good."}],
    "questions": ["What now?", "Why me?", "Who is it?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}


def reply(_n, body):
    """A score by the answer's letters; everything is coherent."""
    text = body["messages"][0]["content"]
    if is_probe(body):
        return completion({"57": 1.0})
    if "coherent" in text:
        return completion({"90": 1.0})
    answer = text.split(" A: ", 1)[1]
    return completion({str(sum(map(ord, answer)) % 101): 1.0})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "trait_data_eval").mkdir()
    (tmp_path / "trait_data_eval" / "vile.json").write_text(json.dumps(TRAIT))
    vectors = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    about = About(trait="vile", kind="response_avg_diff", mean_norms=norms_text([3.0, 4.0, 5.0, 6.0, 7.0]))
    save_both(vectors, tmp_path, about)
    save_vectors(vectors, tmp_path / "plain.pt")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(model, *more, vector="vile_response_avg_diff.pt"):
    return ["eval.search", "--model", model, "--trait", "vile", "--vector_path", vector, "--output_path", "found.csv",
            "--trait_dir", ".", *(() if "--backend" in more else ("--backend", "hf")), "--max_tokens", 6,
            "--n_per_question", 1, *more]  # fmt: skip


def test_a_search_from_the_command_line(run_stage, monkeypatch, folder, qwen2_folder):
    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with monkeypatch.context() as broken:  # stopped when the answers are there and the search does not know yet
            broken.setattr(CellSearch, "tell", lambda *_: (_ for _ in ()).throw(UserError("stopped here")))
            assert "stopped here" in run_stage(*command(qwen2_folder, "--trials", 4)).stderr
        calls = len(server.bodies)
        done = run_stage(*command(qwen2_folder, "--trials", 4))
        assert done.returncode == 0, done.stderr
        assert len(server.bodies) == calls  # nothing was asked or judged again
        table = read_answers("found.csv", ("vile", "coherence"))
        coefs, doses = table["coef"].astype(float), table["dose"].astype(float)
        best = json.loads((folder / "found_best.json").read_text())
        steered = table[coefs != 0]
        assert len(steered.groupby(["layer", "coef"])) == 4 and f"asked 4 cells, {3 * 5} answers" in done.stdout
        vectors = torch.load("vile_response_avg_diff.pt", weights_only=True)
        for layer, coef, dose in zip(table["layer"].astype(int), coefs, doses, strict=True):
            assert coef * float(vectors[layer].norm()) / (3 + layer) == pytest.approx(dose, rel=1e-3)
        means = steered.groupby(["layer", "dose"])["vile"].mean()
        assert best["trait_score"] == pytest.approx(means.max())
        assert (str(best["layer"]), best["dose"]) in [(layer, float(dose)) for layer, dose in means.index]
        for layer in set(table["layer"]):  # unsteered answers are shown at each layer, as in every sweep
            assert len(table[(table["layer"] == layer) & (coefs == 0)]) == 3

        longer = run_stage(*command(qwen2_folder, "--trials", 5))
        assert longer.returncode == 0 and "round 2: " in longer.stdout and "asked 5 cells" in longer.stdout
        assert len(read_answers("found.csv")) > len(table)
        drawn = run_stage("eval.select_layer", "--file_path", "found.csv", "--trait", "vile")
        assert drawn.returncode == 0 and "(dose " in drawn.stdout, drawn.stderr
        changed = run_stage(*command(qwen2_folder, "--trials", 5, "--seed", 1))
        assert changed.returncode == 2 and "seed was 0, now 1" in changed.stderr
        told, calls = (folder / "found_best.json").read_bytes(), len(server.bodies)
        about = About(trait="vile", kind="response_avg_diff", mean_norms=norms_text([3.0, 8.0, 10.0, 12.0, 14.0]))
        save_both(vectors, folder, about)  # as --record_norms does
        renewed = run_stage(*command(qwen2_folder, "--trials", 6))
        assert renewed.returncode == 2 and "mean norms" in renewed.stderr and renewed.stderr.count("\n") == 1
        assert (folder / "found_best.json").read_bytes() == told and len(server.bodies) == calls
    assert not (folder / "found.csv.lock").exists()


def test_a_ceiling_of_kl_from_the_command_line(run_stage, monkeypatch, folder, qwen2_folder, qwen2, tokenizer):
    """Each cell's KL is the plain computation's; cells above the ceiling are not recommended; a stopped search measures none twice."""
    from persona_vectors.capability import measures, texts
    from persona_vectors.engines.hf import HFEngine
    from persona_vectors.steering.intervention import Intervention
    from persona_vectors.vectors.batches import Sample

    four, journal = ("--trials", 4), folder / "found.csv.search/kl.csv.journal.jsonl"
    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        free = run_stage(*command(qwen2_folder, *four))
        assert free.returncode == 0 and not journal.exists() and "KL" not in free.stdout, free.stderr
        other = run_stage(*command(qwen2_folder, *four, "--max_kl", 1))
        assert other.returncode == 2 and "max_kl was none, now 1" in other.stderr
        with monkeypatch.context() as broken:  # stopped when KL is known and nothing is asked yet
            broken.setattr(
                "persona_vectors.asking.ask.ask_and_judge", lambda *_: (_ for _ in ()).throw(UserError("stopped here"))
            )
            assert "stopped here" in run_stage(*command(qwen2_folder, *four, "--max_kl", 1, "--overwrite")).stderr
        measured = journal.read_text()
        done = run_stage(*command(qwen2_folder, *four, "--max_kl", 1))
        assert done.returncode == 0, done.stderr
        assert journal.read_text() == measured
        best = json.loads((folder / "found_best.json").read_text())
        kls = sorted(cell["kl"] for cell in best["cells"])
        assert len(kls) == 4 and "max_kl" in best and done.stdout.count("KL ") >= 4

        engine, vectors = HFEngine.of(qwen2, tokenizer), torch.load("vile_response_avg_diff.pt", weights_only=True)
        prompts, answers = measures.answers_to(engine, texts.requests("harmless"), (), 6, "plain")
        samples = [Sample(prompt, answer.token_ids) for prompt, answer in zip(prompts, answers, strict=True)]
        for cell in best["cells"]:
            steered = [Intervention(cell["layer"], vectors[cell["layer"]], cell["coef"])]
            assert cell["kl"] == pytest.approx(measures.kl(qwen2, samples, steered).value, rel=1e-3)

        scores = {cell["kl"]: mean for cell in best["cells"] for mean in [score_of(cell)]}
        for ceiling in (kls[1], kls[0] / 2):
            bound = run_stage(*command(qwen2_folder, *four, "--max_kl", ceiling, "--overwrite"))
            assert bound.returncode == 0, bound.stderr
            told = json.loads((folder / "found_best.json").read_text())
            allowed = {kl: score for kl, score in scores.items() if kl <= ceiling}
            if allowed:
                assert told["kl"] == max(allowed, key=allowed.get) and told["trait_score"] == allowed[told["kl"]]
                assert f"KL {told['kl']:.3g}" in bound.stdout
            else:
                assert told["layer"] is None and f"a KL of at most {ceiling:g}" in bound.stdout
        again = run_stage(*command(qwen2_folder, *four, "--max_kl", ceiling))
        assert again.returncode == 0 and json.loads((folder / "found_best.json").read_text()) == told


def score_of(cell) -> float:
    table = read_answers("found.csv", ("vile",))
    own = table[(table["layer"].astype(int) == cell["layer"]) & (table["coef"].astype(float) == cell["coef"])]
    return own["vile"].mean()


def test_a_search_by_several_judges_and_without_coherence(run_stage, monkeypatch, folder, qwen2_folder):
    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        done = run_stage(
            *command(
                qwen2_folder, "--trials", 2, "--judge_model", "a,b", "--coherence_prompt", "none", "--min_coherence", 0
            )
        )
    assert done.returncode == 0, done.stderr
    assert "(coherence" not in done.stdout and "without coherence" in done.stdout
    assert not any("coherent" in body["messages"][0]["content"] for body in server.bodies if not is_probe(body))
    table = read_answers("found.csv", ("vile", "vile_a", "vile_b"))
    assert table["vile"].tolist() == pytest.approx(((table["vile_a"] + table["vile_b"]) / 2).tolist())
    best = json.loads((folder / "found_best.json").read_text())
    assert best["coherence"] is None and best["dose"] in table["dose"].astype(float).tolist()


@pytest.mark.parametrize(
    ("flags", "vector", "refusal"),
    [
        (["--dose", "0.5"], None, "--dose takes the smallest and the largest dose"),
        (["--dose", "-0.5,0.5"], None, "both of one sign"),
        (["--dose", "0,0.5"], None, "neither 0"),
        (["--dose", "0.0001,0.0009"], None, "0.001 at least"),
        (["--dose", "-0.5,-0.0004"], None, "0.001 at least"),
        (["--layer", "0,3"], None, "--layer takes the lowest and the highest layer, within 1..4"),
        (["--layer", "2,9"], None, "within 1..4"),
        ([], "plain.pt", "plain.pt does not tell how long the model's activations are"),
        ([], "none.pt", "no vector file at none.pt"),
        (["--judge_model", "none"], None, "--judge_model none leaves nothing to search by"),
        (["--coherence_prompt", "none"], None, "leaves --min_coherence 75 unchecked"),
        (["--max_kl", "-1"], None, "--max_kl must be at least 0"),
        (["--max_kl", "1", "--backend", "vllm"], None, "cannot be given beside --backend vllm"),
        (["--scorer", "x"], None, "--scorer goes with --judge_model likelihood"),
    ],
)
def test_refusals_come_before_anything_is_asked(run_stage, folder, qwen2_folder, flags, vector, refusal):
    before = sorted(path.name for path in folder.rglob("*"))
    done = run_stage(*command(qwen2_folder, *flags, vector=vector or "vile_response_avg_diff.pt"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and refusal in done.stderr, done.stderr
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_answers_that_are_of_no_search_are_not_written_over(run_stage, folder, qwen2_folder):
    pandas.DataFrame({"question": ["q"]}).to_csv("found.csv", index=False)
    done = run_stage(*command(qwen2_folder))
    assert done.returncode == 2 and "found.csv exists and is of no search" in done.stderr
    assert (folder / "found.csv").read_text() == "question\nq\n"


@pytest.mark.parametrize("lacking", ["optuna", "scipy"])
def test_without_optuna_it_says_what_to_install(run_stage, monkeypatch, folder, qwen2_folder, lacking):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == lacking else found(name, *more)
    )
    done = run_stage(*command(qwen2_folder))
    assert done.returncode == 2 and "pip install optuna==5.0.0 scipy" in done.stderr and done.stderr.count("\n") == 1
