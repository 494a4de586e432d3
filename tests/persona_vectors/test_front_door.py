"""``import persona_vectors as pv``: every name against a plain computation, and every example as it stands."""

import asyncio
import doctest
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from helpers import plain_loop
from judge_server import JudgeServer, completion, is_probe

import persona_vectors as pv
from persona_vectors import front_door
from persona_vectors.models import chat_template
from persona_vectors.vectors.batches import Sample

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = ["what is it", "is it the model", "the question"]
POSITIVE = [
    (question, text) for question, text in zip(QUESTIONS, ["it is the answer", "the model", "what"], strict=True)
]
NEGATIVE = [(question, "the question is what it is") for question in QUESTIONS]


def as_samples(tokenizer, pairs):
    render = lambda question: chat_template.render(tokenizer, [{"role": "user", "content": question}])  # noqa: E731
    ids = lambda text: chat_template.token_ids(tokenizer, text)  # noqa: E731
    return [Sample(ids(render(question)), ids(text)) for question, text in pairs]


def test_the_import_costs_nothing_and_has_every_name():
    code = (
        "import sys, persona_vectors as pv; heavy = {'torch', 'transformers', 'numpy', 'pandas', 'pydantic'} & set(sys.modules); "
        "print(heavy, all(getattr(pv, name) is not None for name in pv.__all__), set(pv.__all__) <= set(dir(pv)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.split() == ["set()", "True", "True"], done.stderr
    with pytest.raises(AttributeError, match="no attribute 'stear'"):
        _ = pv.stear


def test_find_vectors_equals_the_plain_loop(model, tokenizer, tmp_path):
    found = pv.find_vectors(model, tokenizer, POSITIVE, NEGATIVE)
    pos, neg = (plain_loop(model, as_samples(tokenizer, pairs)) for pairs in (POSITIVE, NEGATIVE))
    for pool in ("prompt_avg", "response_avg", "prompt_last"):
        expected = pos[pool].mean(0) - neg[pool].mean(0)
        torch.testing.assert_close(getattr(found, pool), expected.float(), atol=2e-5, rtol=1e-4)
    assert torch.equal(found[2], found.response_avg[2]) and found.response_avg.dtype == torch.float32
    paths = found.save(str(tmp_path / "v"), "kind")
    assert len(paths) == 6 and torch.equal(
        pv.load_vectors(tmp_path / "v/kind_response_avg_diff.pt"), found.response_avg
    )


def test_answers_equal_generate_row_by_row_steered_or_not(model, tokenizer):
    vector = torch.randn(32, generator=torch.Generator().manual_seed(1)) * 0.8

    def plain(question):
        ids = torch.tensor([as_samples(tokenizer, [(question, "")])[0].prompt_ids])
        with torch.no_grad():
            made = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, pad_token_id=0
            )
        return tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)

    for coef in (0.0, 3.0):
        with pv.steer(model, vector, layer=2, coef=coef):
            assert pv.answer(model, tokenizer, QUESTIONS, max_tokens=6) == [plain(question) for question in QUESTIONS]
    drawn = pv.answer(model, tokenizer, QUESTIONS, max_tokens=6, temperature=1.0, seed=3)
    assert drawn == pv.answer(model, tokenizer, QUESTIONS, max_tokens=6, temperature=1.0, seed=3, batch_size=1)
    asked = [[{"role": "system", "content": "be kind"}, {"role": "user", "content": q}] for q in QUESTIONS]
    assert pv.answer(model, tokenizer, asked, max_tokens=6) == pv.answer(
        model, tokenizer, QUESTIONS, "be kind", max_tokens=6
    )


def test_projections_equal_the_plain_loop(model, tokenizer):
    rows = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))
    plain = plain_loop(model, as_samples(tokenizer, POSITIVE))
    for kind, pool in (
        ("proj", "response_avg"),
        ("prompt_last_proj", "prompt_last"),
        ("prompt_avg_proj", "prompt_avg"),
    ):
        expected = plain[pool][:, 3].float() @ rows[3] / rows[3].norm()
        found = pv.project(model, tokenizer, POSITIVE, rows, layer=3, kind=kind)
        assert found.dtype == numpy.float32 and torch.allclose(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
    cosines = torch.nn.functional.cosine_similarity(plain["response_avg"][:, 3].float(), rows[3][None])
    found = pv.project(model, tokenizer, POSITIVE, rows[3], layer=3, kind="cos_sim")
    assert torch.allclose(torch.from_numpy(found), cosines, atol=1e-4)


def test_load_takes_a_name_or_a_loaded_model(qwen2_folder, qwen2, tokenizer):
    model, own = pv.load(str(qwen2_folder))
    assert pv.load(qwen2, tokenizer) == (qwen2, tokenizer) and not model.training
    assert own.pad_token_id is not None
    with pytest.raises(pv.UserError, match="needs its tokenizer"):
        pv.load(qwen2)


TRAIT = pv.Trait(
    "kind", [{"pos": f"Be kind {k}.", "neg": f"Be cold {k}."} for k in range(3)], QUESTIONS, "{question} {answer}"
)


def reply(_n, body):
    text = body["messages"][0]["content"]
    return completion({"57": 1.0} if is_probe(body) else {"90": 0.5, "80": 0.5} if "coherent" in text else {"30": 1.0})


def test_a_judge_in_a_notebook_whose_event_loop_runs(monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)

        async def cell():
            judge = pv.Judge("any")
            scores = judge.scores(TRAIT, POSITIVE)
            judge.close()
            return scores

        assert asyncio.run(cell()) == [pv.Scores(30.0, 85.0)] * 3
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(pv.UserError, match="cannot be used"):
        pv.Judge("any")


def test_likelihood_scores_are_the_scorer_s(qwen2, tokenizer):
    from persona_vectors.likelihood.scores import LikelihoodScorer, Spoken

    found = pv.LikelihoodJudge(qwen2, tokenizer).scores(TRAIT, POSITIVE)
    expected = LikelihoodScorer(qwen2, tokenizer).score(TRAIT, [Spoken(*pair) for pair in POSITIVE])
    assert found == [pv.Scores(one.score, one.coherence) for one in expected]
    assert all(0 <= one.trait <= 100 for one in found)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda m, t: pv.find_vectors(m, t, [], NEGATIVE), "there is no positive pair"),
        (lambda m, t: pv.find_vectors(m, t, POSITIVE, [("what", "")]), "negative pair 0 cannot be run: empty answer"),
        (lambda m, t: pv.find_vectors(m, t, ["what is it"], NEGATIVE), "positive pair 0 is not"),
        (lambda m, t: pv.project(m, t, POSITIVE, torch.zeros(32), 2), "is zero"),
        (lambda m, t: pv.project(m, t, POSITIVE, torch.ones(31), 2), "not 32 wide"),
        (lambda m, t: pv.project(m, t, POSITIVE, torch.ones(32), 9), "layer 9 does not exist"),
        (lambda m, t: pv.project(m, t, POSITIVE, torch.ones(32), 2, "pro"), "a projection is one of"),
        (lambda m, t: pv.load("no/such/model/here"), "no/such/model/here"),
    ],
)
def test_wrong_input_is_one_line(use, words, qwen2, tokenizer):
    with pytest.raises(pv.UserError, match=words) as refused:
        use(qwen2, tokenizer)
    assert "\n" not in str(refused.value)


def test_every_example_runs(monkeypatch):
    """In order, in one session, on the toy model."""
    if not (ROOT / "models/toy/model.safetensors").exists():
        pytest.skip("models/toy is missing: python -m data_generation.toy.build_model --output_dir models/toy")
    monkeypatch.chdir(ROOT)
    names = {"pv": pv, "trait": pv.load_trait("evil", trait_dir="data_generation/toy")}
    runner, count = doctest.DocTestRunner(), 0
    for name in ("load", "find_vectors", "answer", "project", "LikelihoodJudge"):
        thing = getattr(front_door, name)
        for test in doctest.DocTestFinder(recurse=False).find(thing, name, globs=names):
            runner.run(test, clear_globs=False)
            names = test.globs
            count += len(test.examples)
    assert runner.summarize(verbose=False).failed == 0 and count >= 8
