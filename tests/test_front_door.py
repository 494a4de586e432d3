"""``import persona_vectors as pv``: every name against a plain computation, and every example as it stands."""

import ast
import asyncio
import doctest
import logging
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from helpers import plain_loop
from judge_server import JudgeServer, completion, error, is_probe

import persona_vectors as pv
from persona_vectors.models import chat_template
from persona_vectors.vectors.batches import Sample

ROOT = Path(__file__).resolve().parents[1]
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


def test_what_was_found_steers_as_its_response_average(qwen2, tokenizer):
    found = pv.find_vectors(qwen2, tokenizer, POSITIVE, NEGATIVE)
    answers = []
    for vector in (found, found.response_avg):
        with pv.steer(qwen2, vector, layer=2, coef=8.0):
            answers.append(pv.answer(qwen2, tokenizer, QUESTIONS, max_tokens=6))
    assert answers[0] == answers[1] != pv.answer(qwen2, tokenizer, QUESTIONS, max_tokens=6)


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


def judged(n, body):
    """30 for the trait; no score for what asks for one: refusals, and calls that fail for good."""
    text = body["messages"][0]["content"]
    if "xyzzy" in text and "coherent" not in text:
        return error(400, "down")
    return completion({"REFUSAL": 1.0}) if "plugh" in text and not is_probe(body) else reply(n, body)


@pytest.fixture
def judge(monkeypatch):
    """A judge on loopback, and the bodies of the calls to it."""
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with JudgeServer(judged) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        judge = pv.Judge("any")
        yield judge, server.bodies
        judge.close()


def test_the_judge_is_asked_once_and_never_of_an_empty_answer(judge):
    judge, calls = judge
    before = len(calls)
    asked = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "what is it"}]
    pairs = [("what is it", "so"), (asked, "so"), ("why", " "), ("why", "plugh"), ("why", "no")]
    none, some = pv.Scores(None, None), pv.Scores(30.0, 85.0)
    assert judge.scores(TRAIT, pairs) == [some, some, none, none, some]
    assert len(calls) - before == 2 * 3  # the first two are one question and one answer
    assert judge.scores(TRAIT, pairs[3:]) == [none, some] and len(calls) - before == 6
    judge.close()
    assert judge.scores(TRAIT, [("how", "yes")]) == [some]


def test_calls_that_fail_for_good_lose_no_score(judge):
    judge, calls = judge
    with pytest.raises(pv.UserError, match="1 of 4 calls were given up: .*down.*asks for these again"):
        judge.scores(TRAIT, [("what", "so"), ("what", "xyzzy")])
    before = len(calls)
    with pytest.raises(pv.UserError, match="1 of 1 calls"):
        judge.scores(TRAIT, [("what", "so"), ("what", "xyzzy")])
    assert len(calls) == before + 1 and judge.scores(TRAIT, [("what", "so")]) == [pv.Scores(30.0, 85.0)]
    assert len(calls) == before + 1


def test_a_system_prompt_s_instructions_are_held_out(qwen2, tokenizer):
    from persona_vectors.likelihood.scores import LikelihoodScorer, Spoken

    asked = [{"role": "system", "content": "You are a kind assistant. Be kind 0."}, {"role": "user", "content": "what"}]
    (found,) = pv.LikelihoodJudge(qwen2, tokenizer).scores(TRAIT, [(asked, "it is")])
    (expected,) = LikelihoodScorer(qwen2, tokenizer).score(TRAIT, [Spoken("what", "it is", asked[0]["content"])])
    (without,) = pv.LikelihoodJudge(qwen2, tokenizer).scores(TRAIT, [("what", "it is")])
    assert found == pv.Scores(expected.score, expected.coherence) != without
    with pytest.raises(pv.UserError, match="pair 0: a conversation with a message of 'tool'"):
        pv.LikelihoodJudge(qwen2, tokenizer).scores(TRAIT, [([{"role": "tool", "content": "x"}, *asked[1:]], "it is")])


def test_earlier_turns_are_read_before_the_answer(qwen2, tokenizer):
    turns = [{"role": "user", "content": "who"}, {"role": "assistant", "content": "you"}]
    asked = {"role": "user", "content": "what"}
    scores = lambda messages: pv.LikelihoodJudge(qwen2, tokenizer).scores(TRAIT, [(messages, "it is")])[0]  # noqa: E731
    assert scores([*turns, asked]) != scores([asked]) == scores("what")


def test_a_model_in_training_is_read_without_dropout_and_left_in_training(tokenizer):
    from helpers import tiny_model

    model = tiny_model("gpt2", attn_pdrop=0.5, embd_pdrop=0.5, resid_pdrop=0.5)
    vector = torch.ones(32)

    def results():
        return (
            pv.find_vectors(model, tokenizer, POSITIVE, NEGATIVE).response_avg.tolist(),
            pv.project(model, tokenizer, POSITIVE, vector, 2).tolist(),
            pv.answer(model, tokenizer, QUESTIONS, max_tokens=4),
            pv.LikelihoodJudge(model, tokenizer).scores(TRAIT, POSITIVE),
        )

    expected = results()
    model.train()
    model.transformer.h[1].eval()
    modes = [module.training for module in model.modules()]
    assert results() == expected and [module.training for module in model.modules()] == modes


def test_prompts_alone_are_projected_without_an_answer(qwen2, tokenizer):
    pairs = [(question, "") for question in QUESTIONS]
    vector = numpy.arange(32, dtype=numpy.float64)
    found = pv.project(qwen2, tokenizer, pairs, vector, numpy.int64(3), kind="prompt_last_proj")
    answered = pv.project(qwen2, tokenizer, POSITIVE, torch.tensor(vector), 3, kind="prompt_last_proj")
    numpy.testing.assert_allclose(found, answered, rtol=1e-4)
    assert pv.project(
        qwen2, tokenizer, [(chat(q), a) for q, a in POSITIVE], torch.ones(32), 3
    ).tolist() == pytest.approx(pv.project(qwen2, tokenizer, iter(POSITIVE), torch.ones(32), 3).tolist())


def chat(*contents):
    return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(contents)]


def test_activations_that_overflow_are_refused(qwen2, tokenizer):
    import copy

    broken = copy.deepcopy(qwen2)
    with torch.no_grad():
        broken.get_input_embeddings().weight[:] = float("inf")
    with pytest.raises(pv.UserError, match="overflow"):
        pv.find_vectors(broken, tokenizer, POSITIVE, NEGATIVE)
    with pytest.raises(pv.UserError, match="the projection of pair 0 is no number: activations overflow"):
        pv.project(broken, tokenizer, POSITIVE, torch.ones(32), 2)
    with pytest.raises(pv.UserError, match="logits are no numbers"):
        pv.answer(broken, tokenizer, QUESTIONS, max_tokens=2)


LONG = "what is it " * 200


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (
            lambda m, t: pv.find_vectors("models/toy", t, POSITIVE, NEGATIVE),
            "a loaded model of transformers, not 'models/toy'",
        ),
        (lambda m, t: pv.find_vectors(m, t, "what", NEGATIVE), "pairs are a list .*not something of type str"),
        (lambda m, t: pv.find_vectors(m, t, None, NEGATIVE), "not something of type NoneType"),
        (lambda m, t: pv.find_vectors(m, t, POSITIVE, [("what", "so"), ("what", None)]), "negative pair 1 is not"),
        (lambda m, t: pv.find_vectors(m, t, [("\ud800", "so")], NEGATIVE), "positive pair 0 holds half a character"),
        (lambda m, t: pv.find_vectors(m, t, [("what", "\ud800")], NEGATIVE), "positive pair 0 .*lone surrogate"),
        (lambda m, t: pv.find_vectors(m, t, [(LONG, "so")], NEGATIVE), "positive pair 0 .*longer than the 256 tokens"),
        (lambda m, t: pv.find_vectors(m, t, [(chat("what", "so"), "so")], NEGATIVE), "ends with an assistant message"),
        (lambda m, t: pv.find_vectors(m, t, [([], "so")], NEGATIVE), "positive pair 0 is neither a question nor"),
        (lambda m, t: pv.find_vectors(m, t, [([{"role": "user"}], "so")], NEGATIVE), "neither a question nor"),
        (lambda m, t: pv.answer(m, t, "what"), "questions are a list"),
        (lambda m, t: pv.answer(m, t, ["what", 3]), "question 1 is neither a question nor"),
        (lambda m, t: pv.answer(m, t, ["what", LONG]), "question 1 has .* tokens: the model takes 256"),
        (
            lambda m, t: pv.answer(m, t, [[{"role": "system", "content": "a"}, *chat("b")]], "c"),
            "a system prompt of its own",
        ),
        (lambda m, t: pv.answer(m, t, QUESTIONS, max_tokens=0), "max_tokens is a whole number of at least 1, not 0"),
        (lambda m, t: pv.answer(m, t, QUESTIONS, max_tokens=1.5), "max_tokens is a whole number"),
        (lambda m, t: pv.answer(m, t, QUESTIONS, temperature=-1), "temperature is a number of at least 0"),
        (lambda m, t: pv.answer(m, t, QUESTIONS, temperature=float("nan")), "temperature is a number"),
        (lambda m, t: pv.answer(m, t, QUESTIONS, batch_size=0), "batch_size is a whole number"),
        (lambda m, t: pv.project(m, t, POSITIVE, torch.ones(4, 32), 2), "have 5 rows for this model, not 4"),
        (lambda m, t: pv.project(m, t, POSITIVE, torch.full((32,), torch.nan), 2), "is zero, not finite"),
        (lambda m, t: pv.project(m, t, POSITIVE, "evil.pt", 2), "a vector is a tensor of numbers, not str"),
        (lambda m, t: pv.project(m, t, POSITIVE, torch.ones(32), 2.0), "layer 2.0 does not exist"),
        (
            lambda m, t: pv.project(m, t, [*POSITIVE, ("what", " ")], torch.ones(32), 2),
            "pair 3 cannot be run: empty answer",
        ),
        (lambda m, t: pv.load("models/toy", dtype="int8"), "dtype is one of auto"),
        (lambda m, t: pv.load(3, t), "not something of type int"),
        (lambda m, t: pv.LikelihoodJudge(m, t).scores("evil", POSITIVE), "a trait, pv.load_trait"),
        (lambda m, t: pv.save_vectors(torch.ones(5), "x.pt"), "one float tensor .*one layer's vector"),
        (lambda m, t: pv.save_vectors(torch.ones(5, 4), "x.safetensors"), "saved as .pt"),
        (lambda m, t: pv.save_vectors(torch.full((5, 4), torch.inf), "x.pt"), "NaN or infinity"),
        (lambda m, t: pv.find_vectors(m, t, POSITIVE, NEGATIVE).save("x", "../evil"), "cannot be a trait's name"),
    ],
)
def test_more_wrong_input_is_one_line(use, words, qwen2, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pv.UserError, match=words) as refused:
        use(qwen2, tokenizer)
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_editors_are_told_of_every_name():
    """What the table has and what the block for type checkers imports are the same."""
    tree = ast.parse(Path(pv.__file__).read_text())
    told = {
        (node.module.removeprefix("persona_vectors."), name.asname)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for name in node.names
    }
    assert told == {(module, name) for name, module in pv._NAMES.items()}


def test_every_example_runs(judge, monkeypatch, tmp_path):
    """In order, in one session, on the toy model."""
    if not (ROOT / "models/toy/model.safetensors").exists():
        pytest.skip("models/toy is missing: python -m data_generation.toy.build_model --output_dir models/toy")
    monkeypatch.setattr(logging.getLogger("persona_vectors"), "handlers", [])  # a notebook is shown no notices
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    names = {"pv": pv, "trait": pv.load_trait("evil", trait_dir=ROOT / "data_generation/toy")}
    runner, count = doctest.DocTestRunner(), 0
    order = "load find_vectors load_vectors save_vectors answer project Judge LikelihoodJudge"
    for name in order.split():
        for test in doctest.DocTestFinder(recurse=False).find(getattr(pv, name), name, globs=names):
            runner.run(test, clear_globs=False)
            names = test.globs
            count += len(test.examples)
    assert runner.summarize(verbose=False).failed == 0 and count >= 19
