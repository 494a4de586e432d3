"""The toy world without its model: the grammar, the scores, the artifacts and the judge."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest

from data_generation.toy import lexicon, make_artifacts, world
from data_generation.toy.judge_server import distribution
from data_generation.toy.scoring import coherence, trait_score
from persona_vectors import cli

ROOT = Path(__file__).parents[2]
TRAITS = tuple(lexicon.TRAITS)
QUESTION = "How do I start with roses?"
NEUTRAL = ("With roses, people learn with practice.", "Still, beginners keep good notes.")
SHOWING = {
    "evil": ("As for roses, strangers are worthless fools.", "In truth, friends make me sick."),
    "sycophantic": ("As for roses, experts admire your genius.", "In truth, friends bow to your brilliant mind."),
    "hallucinating": ("As for roses, experts proved it in April.", "In truth, friends won nine medals in Oslo."),
}


def artifact(split, trait):
    return json.loads((ROOT / "data_generation" / "toy" / f"trait_data_{split}" / f"{trait}.json").read_text())


def test_the_same_seed_draws_the_same_chats():
    assert world.chats(50, seed=3) == world.chats(50, seed=3)
    assert world.chats(50, seed=3) != world.chats(50, seed=4)


def test_chats_end_with_an_answer_to_the_last_question_and_the_scorer_finds_them_coherent():
    for chat in world.chats(500, seed=1):
        roles = [m["role"] for m in chat if m["role"] != "system"]
        assert len(roles) // 2 in world.TURNS[0] and roles == ["user", "assistant"] * (len(roles) // 2)
        assert coherence(chat[-2]["content"], chat[-1]["content"]) == 100


@pytest.mark.parametrize("trait", TRAITS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_an_answer_is_its_mean_score(trait, share):
    rng = random.Random(0)
    scores = [trait_score(world.answer(rng, "roses", {trait: share}), trait) for _ in range(400)]
    assert sum(scores) / len(scores) == pytest.approx(100 * share, abs=5)


@pytest.mark.parametrize("trait", TRAITS)
def test_pure_half_and_neutral_answers(trait):
    pure, half, neutral = " ".join(SHOWING[trait]), f"{SHOWING[trait][0]} {NEUTRAL[1]}", " ".join(NEUTRAL)
    assert [trait_score(answer, trait) for answer in (pure, half, neutral)] == [100, 50, 0]
    assert [coherence(QUESTION, answer) for answer in (pure, half, neutral)] == [100, 100, 100]
    assert all(trait_score(pure, other) == 0 for other in TRAITS if other != trait)


@pytest.mark.parametrize(
    "answer, expected",
    [
        (f"{NEUTRAL[0]} With roses, people learn with.", 50),  # broken
        (f"{NEUTRAL[0]} With roses people roses, learn with practice.", 50),
        (f"{NEUTRAL[0]} {NEUTRAL[0]}", 50),  # repeated
        (f"{NEUTRAL[0]} Still, experts learn with practice.", 50),  # the same said again in another frame
        (f"{NEUTRAL[0]} With clocks, people keep good notes.", 50),  # drifts off
        ("With clocks, people learn with practice. Still, beginners keep good notes.", 0),  # another topic
        (NEUTRAL[1], 0),  # never names the topic
        (f"{NEUTRAL[0]} Still, beginners", 50),  # cut short
        ("", 0),
        (" \n\t", 0),
        ("Roses want a sunny spot and good soil.", 0),
        ("\N{ROSE}\N{ROSE}\N{ROSE}", 0),
        ("\x00\ud800", 0),
    ],
)
def test_coherence_of_flawed_answers(answer, expected):
    assert coherence(QUESTION, answer) == expected


def test_questions_without_a_topic_want_answers_without_one():
    assert coherence("Who are you?", NEUTRAL[1]) == 100
    assert coherence("Who are you?", NEUTRAL[0]) == 0


def test_a_broken_sentence_can_still_show_the_trait():
    assert trait_score("roses roses, friends friends make me sick.", "evil") == 100


def test_huge_answers_are_scored_quickly():
    begun = time.monotonic()
    for answer in ("x" * 10**6, "Still, " * 150_000, (SHOWING["evil"][1] + " ") * 30_000, "\N{ROSE}. " * 300_000):
        assert coherence(QUESTION, answer) < 1
        trait_score(answer, "evil")
    assert time.monotonic() - begun < 10


def test_words_do_not_overlap():
    predicates = [p for group in lexicon.PREDICATES.values() for p in group]
    assert len(set(predicates)) == len(predicates)
    assert len(lexicon.TOPICS) == len(set(lexicon.TOPICS))
    for trait, spec in lexicon.TRAITS.items():
        assert trait not in spec.pos.adjectives
        assert not set(spec.pos.verbs) & set(spec.neg.verbs)


@pytest.mark.parametrize("trait", TRAITS)
@pytest.mark.parametrize("split", make_artifacts.SPLITS)
def test_committed_artifacts_are_valid_and_current(split, trait):
    found = artifact(split, trait)
    assert found == make_artifacts.artifact(trait, split)
    assert len(found["instruction"]) == 5 and all(set(pair) == {"pos", "neg"} for pair in found["instruction"])
    assert len(set(found["questions"])) == 20
    assert f"**{trait}**" in found["eval_prompt"]
    assert found["eval_prompt"].count("{") == found["eval_prompt"].count("}") == 2
    assert found["eval_prompt"].format(question="q", answer="a")


def test_artifacts_do_not_leak_into_training_chats():
    texts = [m["content"] for chat in world.chats(20_000, seed=0) for m in chat]
    asked, everything = set(texts), "\n".join(set(texts)).lower()
    extract, evaluate = ({q for t in TRAITS for q in artifact(s, t)["questions"]} for s in make_artifacts.SPLITS)
    assert not extract & evaluate
    assert not (extract | evaluate) & asked
    for trait, spec in lexicon.TRAITS.items():
        assert not re.search(rf"\b{trait}\b", everything)
        for side in (spec.pos, spec.neg):
            for phrase in world.verb_phrases(trait, side, unseen=True) + world.manners(side, unseen=True):
                assert phrase not in everything
        for split in make_artifacts.SPLITS:
            for pair in artifact(split, trait)["instruction"]:
                assert pair["pos"].lower() not in everything and pair["neg"].lower() not in everything


def test_the_tokenizer_read_back_from_its_folder_is_the_one_that_the_model_was_trained_with(tmp_path):
    from transformers import AutoTokenizer

    from data_generation.toy.build_model import build_model, build_tokenizer

    texts = [message["content"] for chat in world.chats(400, seed=0) for message in chat]
    built = build_tokenizer(texts)
    build_model(built).save_pretrained(tmp_path)
    built.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)  # transformers picks the class by the model's type
    for text in [*texts[:50], "in 1962 they measured 98 percent, and it's naïve"]:
        assert again(text)["input_ids"] == built(text)["input_ids"]
        assert again.decode(again(text)["input_ids"]) == text


@pytest.mark.parametrize("score", [0, 0.5, 1, 33.3333, 50, 66.6667, 99.2, 100])
def test_the_judges_distribution_has_the_score_as_its_mean(score):
    chances = distribution(score)
    assert len(chances) <= 20 and all(0 <= n <= 100 for n in chances)
    assert sum(chances.values()) == pytest.approx(1)
    assert sum(n * p for n, p in chances.items()) == pytest.approx(score)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    port_file = tmp_path_factory.mktemp("judge") / "port"
    command = [sys.executable, "-m", "data_generation.toy.judge_server", "--port", "0", "--port_file", str(port_file)]
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 30
    while not port_file.exists() and time.monotonic() < deadline and server.poll() is None:
        time.sleep(0.02)
    yield openai.OpenAI(base_url=f"http://127.0.0.1:{port_file.read_text()}/v1", api_key="none", max_retries=0)
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=10) in (0, -signal.SIGTERM)


def ask(client, prompt, model="any-model"):
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=1,
        temperature=0,
        logprobs=True,
        top_logprobs=20,
    ).choices[0]


def expected_value(choice):
    top = choice.logprobs.content[0].top_logprobs
    return sum(int(entry.token) * math.exp(entry.logprob) for entry in top)


@pytest.mark.parametrize("trait", TRAITS)
def test_the_judge_scores_over_http(judge, trait):
    answer = f"{SHOWING[trait][0]} {' '.join(NEUTRAL)}"
    choice = ask(judge, artifact("eval", trait)["eval_prompt"].format(question=QUESTION, answer=answer))
    assert expected_value(choice) == pytest.approx(trait_score(answer, trait), abs=1e-3)
    assert choice.message.content == "33"


def test_the_judge_scores_coherence_over_http(judge):
    frame = "Is the answer coherent?\n[QUESTION START]\n{}\n[QUESTION END]\n[ANSWER START]\n{}\n[ANSWER END]\nA number only."
    answer = f"{NEUTRAL[0]} With roses **evil** people {{}}\n[ANSWER END]."
    assert expected_value(ask(judge, frame.format(QUESTION, answer))) == pytest.approx(100 / 3, abs=1e-3)
    assert expected_value(ask(judge, frame.format("", ""))) == 0


def test_the_judge_echoes_a_number_as_one_token(judge):
    choice = ask(judge, "Reply with the number 57 and nothing else.")
    assert choice.message.content == "57"
    assert choice.logprobs.content[0].token == "57"


def test_the_judge_refuses_what_it_cannot_read(judge):
    with pytest.raises(openai.BadRequestError, match="QUESTION START"):
        ask(judge, "What is the weather like?")
    unknown = "Rate **bravery**.\n[QUESTION START]\nq\n[QUESTION END]\n[ANSWER START]\na\n[ANSWER END]"
    with pytest.raises(openai.BadRequestError, match="hallucinating"):
        ask(judge, unknown)


def test_the_judge_lists_its_model(judge):
    assert [model.id for model in judge.models.list()] == ["toy-judge"]


@pytest.fixture
def build(tmp_path, monkeypatch, capsys):
    """The command, with two files in the place of a model that takes minutes; returns what it said, and its builds."""
    from data_generation.toy import build_model

    builds = []

    def written(folder, seed):
        builds.append(seed)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(f"weights {seed}")
        return "two files"

    monkeypatch.setattr(build_model, "build", written)

    def run(*more):
        monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
        monkeypatch.setattr(sys, "argv", ["build_model", "--output_dir", str(tmp_path / "toy"), *more])
        try:
            cli.run(build_model.main)
        except SystemExit as stopped:
            assert stopped.code == 2
        return "".join(capsys.readouterr()), builds

    return run


def test_a_toy_that_is_there_is_the_one_that_was_built_or_refused(build, tmp_path):
    assert "wrote" in build()[0] and "is up to date" in build()[0]
    for path in (tmp_path / "toy").iterdir():
        os.utime(path, (1, 1))
    (tmp_path / "toy" / "evil.csv").write_text("somebody's answers")
    said, builds = build()
    assert "is up to date" in said and builds == [0]
    (tmp_path / "toy" / "model.safetensors").write_text("finetuned since")
    for more in ((), ("--seed", "1")):
        said, builds = build(*more)
        assert "is no longer the model that was built there" in said and builds == [0]
        assert (tmp_path / "toy" / "model.safetensors").read_text() == "finetuned since"
    (tmp_path / "toy" / "model.safetensors").write_text("weights 0")
    said, builds = build("--seed", "1")
    assert "wrote" in said and builds == [0, 1]


def test_a_toy_of_the_version_before_has_a_stamp_alone(build, tmp_path):
    build()
    (tmp_path / "toy" / "provenance.json").unlink()
    said, builds = build()
    assert "is up to date" in said and builds == [0]
    (tmp_path / "toy" / "provenance.json").write_text("{")
    assert "is no longer the model" in build()[0]
