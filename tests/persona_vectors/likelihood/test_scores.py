"""Scores by likelihood: the arithmetic, equality with a plain loop, and what the toy model's answers get."""

import itertools
import random
from pathlib import Path

import numpy
import pytest
import torch

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.likelihood.scores import LikelihoodScorer, Spoken, coherence, held_out_pairs, share
from persona_vectors.likelihood.tokens import TokenLikelihoods
from persona_vectors.models import chat_template
from persona_vectors.traits.artifact import Trait, load_trait, make_questions

TRAIT = Trait(
    "vile",
    [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(4)],
    ["What now?", "Why me?", "Who is it?"],
    "Rate **vile**. Q: {question} A: {answer}",
)
TOY = Path("models/toy")
has_toy = pytest.mark.skipif(
    not (TOY / "model.safetensors").exists(),
    reason="models/toy is missing: python -m data_generation.toy.build_model --output_dir models/toy",
)


def logs(*probabilities):
    return numpy.log(numpy.array(probabilities))


class TestShare:
    @pytest.mark.parametrize("ratio", [1e-6, 0.1, 0.9, 1.0, 3.0, 1e6])
    def test_one_token_has_the_posterior_mean_of_jeffreys_prior(self, ratio):
        """E[s (s r + 1 - s)] / E[s r + 1 - s] with E[s] = 1/2 and E[s^2] = 3/8."""
        found = share(logs(0.3 * ratio / 1e6), logs(0.3 / 1e6), logs(0.3 / 1e6))
        assert found == pytest.approx(100 * (3 * ratio + 1) / (4 * (ratio + 1)), abs=1e-6)

    def test_without_evidence_50_whatever_the_length(self):
        for tokens in (1, 10, 1000):
            same = numpy.full(tokens, -2.5)
            assert share(same, same, same) == pytest.approx(50)

    @pytest.mark.parametrize("tokens", [1, 5, 50])
    def test_tokens_that_tell_count_and_others_do_not(self, tokens):
        """k of n tokens that only the positive persona would write: (k + 1/2) / (n + 1); the rest says nothing."""
        for spoken in {0, tokens // 3, tokens}:
            telling = [-1.0] * spoken + [-60.0] * (tokens - spoken)
            others = [-60.0] * spoken + [-1.0] * (tokens - spoken)
            found = share(*(numpy.array([*part, *[-2.0] * 30]) for part in (telling, others, others)))
            assert found == pytest.approx(100 * (spoken + 0.5) / (tokens + 1), abs=0.01)

    def test_rises_with_every_token_that_turns_and_never_reaches_an_end(self):
        neg = numpy.full(60, -2.0)
        scores = [share(neg + numpy.where(numpy.arange(60) < k, 3.0, -3.0), neg, neg) for k in range(61)]
        assert all(after > before for before, after in itertools.pairwise(scores))
        assert 0 < scores[0] < 5 and 95 < scores[-1] < 100

    def test_what_neither_instruction_asks_for_is_no_sign_of_the_trait(self):
        unlikely = numpy.full(20, -9.0)
        assert share(unlikely + 1, unlikely, numpy.full(20, -1.0)) < 10 < 80 < share(unlikely + 3, unlikely, unlikely)


def reading(surprises, entropies, variances):
    return TokenLikelihoods(-numpy.array(surprises), numpy.array(entropies), numpy.array(variances))


class TestCoherence:
    def test_as_predictable_as_expected_is_100_and_excess_is_a_factor(self):
        ids = list(range(10))
        assert coherence([reading([1.0] * 10, [1.0] * 10, [0.5] * 10)], ids) == 100
        assert coherence([reading([0.1] * 10, [1.0] * 10, [0.0] * 10)], ids) == 100
        chance = 2 * (10 * 0.5) ** 0.5 / 10
        found = coherence([reading([3.0] * 10, [1.0] * 10, [0.5] * 10)], ids)
        assert found == pytest.approx(100 * numpy.exp(-(2 - chance)))

    def test_the_prompt_that_expects_it_best_counts(self):
        odd, expected = reading([5.0], [1.0], [0.0]), reading([1.0], [1.0], [0.0])
        assert coherence([odd, expected, odd], [7]) == 100 > coherence([odd, odd], [7])

    @pytest.mark.parametrize("times, score", [(1, 100), (2, 50), (4, 0)])
    def test_what_is_said_again_counts_against_it(self, times, score):
        ids = list(range(40)) * times
        plain = [1.0] * len(ids)
        assert coherence([reading(plain, plain, plain)], ids) == pytest.approx(score, abs=2)


def test_pairs_that_made_the_answer_are_held_out():
    for question in make_questions(TRAIT, "pos") + make_questions(TRAIT, "neg"):
        own = int(question.id.rsplit("_", 1)[1])
        assert held_out_pairs(TRAIT, question.system, 3) == [k for k in range(4) if k != own]
    assert held_out_pairs(TRAIT, None, 2) == held_out_pairs(TRAIT, "You are a helpful assistant.", 2) == [0, 1]
    with pytest.raises(UserError, match="4 instruction pairs, of which 3 did not make the answer.*--scorer_pairs 3"):
        held_out_pairs(TRAIT, "Be bad, 2. Mostly.", 4)
    with pytest.raises(UserError, match="no instruction pair"):
        held_out_pairs(Trait("vile", TRAIT.instruction[:1], TRAIT.questions, ""), "Be bad, 0.", 1)


def test_white_space_does_not_hide_an_instruction():
    """Chat templates trim, files break lines otherwise; a leak would have the answer read under what made it."""
    texts = [" Be bad.\n", "Be\r\nbad twice.", "Be  bad thrice. "]
    trait = Trait("vile", [{"pos": text, "neg": f"{text.strip()} Not."} for text in texts], ["q"], "")
    for k, text in enumerate(("You are vile. Be bad.<|im_end|>", "Be\nbad twice.", "<s>Be bad thrice.</s>")):
        assert k not in held_out_pairs(trait, text, 2)


def test_what_was_said_before_an_answer():
    chat = [
        ("developer", "Be bad, 0."),
        ("user", "Hi. Be good, 2."),
        ("assistant", "Yo."),
        ("user", "Be bad, 1. What?"),
    ]
    spoken = Spoken.after([{"role": role, "content": content} for role, content in chat], "it is")
    assert (spoken.question, spoken.system, spoken.turns) == ("Be bad, 1. What?", "Be bad, 0.", tuple(chat[1:3]))
    assert held_out_pairs(TRAIT, spoken.before, 1) == [3]
    for bad, words in (([("user", "a"), ("tool", "b")], "does not end"), ([("tool", "b"), ("user", "a")], "'tool'")):
        with pytest.raises(UserError, match=words):
            Spoken.after([{"role": role, "content": content} for role, content in bad], "it is")


def slowly(model, tokenizer, spoken, pairs):
    """(share, mean log-likelihood ratio) of one answer: each prompt by itself, no cache, one token after the other."""
    by_system = {}
    begins = {"pos": "You are a vile assistant. ", "neg": "You are a helpful assistant. "}
    prompts = {(k, sign): begins[sign] + TRAIT.instruction[k][sign] for k in pairs for sign in begins}
    for system in [None, *prompts.values()]:
        turns = [("system", system)] * bool(system) + [*spoken.turns, ("user", spoken.question)]
        messages = [{"role": role, "content": content} for role, content in turns]
        prompt = chat_template.token_ids(tokenizer, chat_template.render(tokenizer, messages))
        answer = chat_template.token_ids(tokenizer, spoken.answer)
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
        by_system[system] = [float(logprobs[len(prompt) + j - 1, token]) for j, token in enumerate(answer)]
    means = [
        [sum(row) / len(pairs) for row in zip(*(by_system[prompts[k, sign]] for k in pairs), strict=True)]
        for sign in ("pos", "neg")
    ]
    grid, total, weighted = numpy.linspace(0.0, numpy.pi / 2, 4001), 0.0, 0.0
    for angle in grid:
        s, likelihood = numpy.sin(angle) ** 2, 0.0
        for pos, neg, none in zip(*means, by_system[None], strict=True):
            likelihood += numpy.log(s * numpy.exp(pos) + (1 - s) * (0.9 * numpy.exp(neg) + 0.1 * numpy.exp(none)))
        weight = numpy.exp(likelihood + 5 * len(by_system[None])) * (0.5 if angle in grid[[0, -1]] else 1)
        total, weighted = total + weight, weighted + weight * s
    return 100 * weighted / total, sum(p - n for p, n in zip(*means, strict=True)) / len(means[0])


def test_equal_to_a_plain_loop(qwen2, tokenizer):
    spoken = [
        Spoken("What now?", "the model answers", "You are a vile assistant. Be bad, 0."),
        Spoken("What now?", "it is the question, or not", "Be good, 1."),
        Spoken("What now?", "what"),
        Spoken("Why me?", "Ça alors \N{GRINNING FACE}"),
        Spoken("Who is it?", " leading space and\n\nlines", "You are a helpful assistant."),
        Spoken("And?", "it is", turns=(("user", "Who is it?"), ("assistant", "the model"))),
    ]
    pairs = [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]
    for some in (slice(None), slice(2, 3)):
        found = LikelihoodScorer(qwen2, tokenizer).score(TRAIT, spoken[some])
        for one, scored, held in zip(spoken[some], found, pairs[some], strict=True):
            expected, ratio = slowly(qwen2, tokenizer, one, held)
            assert scored.score == pytest.approx(expected, abs=1e-3) and scored.llr == pytest.approx(ratio, abs=1e-4)
            assert 0 <= scored.coherence <= 100 and scored.problem == ""


def test_what_cannot_be_read_has_no_score_and_a_reason(qwen2, tokenizer):
    spoken = [
        Spoken("What now?", "word " * 300),
        Spoken("What now?", "it is"),
        Spoken("What now?", "half \ud83d of it"),
    ]
    long, fine, half = LikelihoodScorer(qwen2, tokenizer).score(TRAIT, spoken)
    assert long.score is long.coherence is long.llr is None and "longer than the 256 tokens" in long.problem
    assert fine.score is not None and fine.problem == ""
    assert half.score is None and "half a character" in half.problem


@pytest.fixture(scope="module")
def toy():
    """The toy model's scorer, and its own unsteered answers: (question, answer)."""
    from persona_vectors.engines import Request, Sampling
    from persona_vectors.engines.hf import HFEngine

    engine = HFEngine(models.resolve(str(TOY)), "float32")
    questions = make_questions(load_trait("evil", "eval", "data_generation/toy"))
    requests = [
        Request(
            q.text,
            chat_template.token_ids(engine.tokenizer, chat_template.render(engine.tokenizer, q.messages)),
            seed=i,
        )
        for i, q in enumerate(questions)
    ]
    answers = [(answer.key, answer.text) for answer in engine.generate(requests, Sampling(128))]
    return LikelihoodScorer(engine.model, engine.tokenizer), answers


def shuffled(text):
    words = text.split()
    random.Random(0).shuffle(words)
    return " ".join(words)


def four_times(text):
    words = text.split()
    return " ".join(words[: len(words) // 4] * 4)


@has_toy
def test_own_answers_are_coherent_and_shuffled_or_repeated_ones_are_not(toy):
    scorer, answers = toy
    trait = load_trait("evil", "eval", "data_generation/toy")
    coherences = {
        change: [found.coherence for found in scorer.score(trait, [Spoken(q, change(text)) for q, text in answers])]
        for change in (str, shuffled, four_times, lambda text: " ".join(["well"] * len(text.split())))
    }
    own, *spoilt = coherences.values()
    assert numpy.mean(own) > 95 and min(own) > 80
    for scores in spoilt:
        assert max(scores) < 50


@has_toy
@pytest.mark.parametrize("trait", ["evil", "sycophantic", "hallucinating"])
def test_follows_the_grammar_of_the_toy_world_under_graded_instructions(toy, trait):
    """The answers are made by the grammar, not by the model: shares of trait sentences from none to all."""
    from data_generation.toy import world
    from data_generation.toy.scoring import trait_score
    from persona_vectors.analysis.correlation import pearson

    rng, spoken, truth = random.Random(0), [], []
    for question, topic in world.questions(unseen=True)[:40]:
        text = world.answer(rng, topic, {trait: rng.choice([0, 0.25, 0.5, 0.75, 1])})
        spoken.append(Spoken(question, text))
        truth.append(trait_score(text, trait))
    scores = [found.score for found in toy[0].score(load_trait(trait, "eval", "data_generation/toy"), spoken)]
    assert pearson(scores, truth).r > 0.9
    high, low = (
        [s for s, t in zip(scores, truth, strict=True) if kept(t)] for kept in (lambda t: t > 80, lambda t: t < 20)
    )
    assert min(high) > max(low)
