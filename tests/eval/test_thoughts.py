"""The stages with models that think: the judge, the vectors and the projections get the answer, in its own context."""

import json

import pandas
import pytest
import torch
from helpers import tiny_model
from judge_server import JudgeServer, completion, is_probe
from thinking import ASK, STRUCTURES, ids_of, scripted_model

from persona_vectors.models import chat_template
from persona_vectors.vectors.storage import load_vectors, save_vectors

REASONING, ANSWER = "They ask why.\nHm.", "Because it is."
QUESTIONS = ["Why a?", "Why b?"]
NAMES = ["qwen3", "r1", "gpt-oss", "kimi-k3", "gemma-4", "magistral"]


def judged(body):
    """What the judge was asked about: the text between its marks."""
    return body["messages"][0]["content"].partition("[[")[2].partition("]]")[0]


@pytest.fixture
def trait_dir(tmp_path):
    artifact = {
        "instruction": [{"pos": "Be bad.", "neg": "Be good."}],
        "questions": QUESTIONS,
        "eval_prompt": "Rate **vile**. Q: {question} A: [[{answer}]]",
    }
    for version in ("extract", "eval"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}" / "vile.json").write_text(json.dumps(artifact))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_the_judge_is_shown_the_answer_and_the_reasoning_is_kept(name, trait_dir, run_stage, monkeypatch):
    structure = STRUCTURES[name]
    tokenizer = structure.tokenizer()
    prompts = [chat_template.render(tokenizer, [{"role": "user", "content": q}], True) for q in QUESTIONS]
    lengths = {len(ids_of(tokenizer, prompt)) for prompt in prompts}
    assert len(lengths) == 1  # the script is written at positions
    script = ids_of(tokenizer, structure.raw(REASONING, ANSWER))
    model = scripted_model(trait_dir / "scripted", tokenizer, {lengths.pop(): script})
    out = trait_dir / "out.csv"

    def run(reply, max_tokens=150, *more):
        with JudgeServer(reply) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            monkeypatch.setenv("OPENAI_API_KEY", "none")
            done = run_stage(
                "eval.eval_persona", "--model", model, "--trait", "vile", "--trait_dir", trait_dir, "--backend", "hf",
                "--n_per_question", 1, "--max_tokens", max_tokens, "--output_path", out, "--enable_thinking", True, *more,
            )  # fmt: skip
        return done, [body for body in server.bodies if not is_probe(body)]

    # a judge that gives no number: the answers are kept, and the same command has them judged again
    silent = lambda _n, body: completion({"57": 1.0}) if is_probe(body) else completion({"no": 1.0})  # noqa: E731
    done, _ = run(silent)
    assert done.returncode == 1 and "the answers are kept" in done.stderr
    done, bodies = run(lambda _n, body: completion({"57": 1.0}) if is_probe(body) else completion({"80": 1.0}))
    assert done.returncode == 0, done.stderr
    of_trait = [body for body in bodies if "vile" in body["messages"][0]["content"]]
    assert [judged(body) for body in of_trait] == [ANSWER] * len(QUESTIONS)
    for body in bodies:
        text = body["messages"][0]["content"]
        assert ANSWER in text and "They ask" not in text and not any(mark in text for mark in structure.special)
    table = pandas.read_csv(out, keep_default_na=False)
    assert list(table.columns) == ["question", "prompt", "answer", "question_id", "vile", "coherence", "reasoning"]
    assert table["answer"].tolist() == [ANSWER] * 2 and table["reasoning"].tolist() == [REASONING] * 2
    assert table["prompt"].tolist() == prompts and table["vile"].tolist() == [80] * 2

    within = len(ids_of(tokenizer, structure.context(REASONING).partition(REASONING)[0] + REASONING)) - 1
    done, bodies = run(silent, within, "--overwrite", True)
    assert done.returncode == 0 and "2 of 2 answers are empty" in done.stdout and not bodies
    table = pandas.read_csv(out, keep_default_na=False)
    assert table["answer"].tolist() == [""] * 2 and table["reasoning"].tolist() == [REASONING[:-1]] * 2


def plain_means(model, tokenizer, rows):
    """{pool: [layers + 1, hidden]} over rows of (prompt, what is between, answer): one row at a time, all hidden states."""
    sums = {}
    for texts in rows:
        prompt, between, answer = (ids_of(tokenizer, text) for text in texts)
        with torch.no_grad():
            output = model(torch.tensor([prompt + between + answer]), output_hidden_states=True)
        states = torch.stack(output.hidden_states)[:, 0]
        pools = {
            "prompt_avg": states[:, : len(prompt)].mean(1),
            "prompt_last": states[:, len(prompt) - 1],
            "response_avg": states[:, len(prompt) + len(between) :].mean(1),
        }
        for pool, mean in pools.items():
            sums[pool] = sums.get(pool, 0) + mean / len(rows)
    return sums


@pytest.fixture(params=NAMES)
def family(request, tmp_path):
    """(structure, tokenizer, model, its folder)"""
    structure = STRUCTURES[request.param]
    tokenizer = structure.tokenizer()
    model = tiny_model("qwen2", vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path / "thinker")
    tokenizer.save_pretrained(tmp_path / "thinker")
    return structure, tokenizer, model, tmp_path / "thinker"


@pytest.mark.parametrize("columns", ["both", "one", "none"])
def test_vectors_are_of_answers_after_their_thoughts(columns, family, tmp_path, run_stage):
    structure, tokenizer, model, folder = family
    means = {}
    for sign, score in (("pos", 90), ("neg", 10)):
        told = columns == "both" or (columns == "one" and sign == "pos")
        lines, rows = [], []
        for k in range(4):
            prompt = chat_template.render(tokenizer, [{"role": "user", "content": f"Is it {sign}, or {k}?"}], True)
            reasoning = f"They ask {k}.\nHm." if told and k else ""  # the first answer came without thoughts
            answer = f"{sign} it is, {k} times"
            line = {
                "prompt": prompt,
                "answer": answer,
                "question_id": f"vile_{k}_{sign}_0",
                "vile": score,
                "coherence": 95,
            }
            lines.append(line | ({"reasoning": reasoning} if told else {}))
            rows.append((prompt, structure.context(reasoning) if reasoning else structure.without[0], answer))
        pandas.DataFrame(lines).to_csv(tmp_path / f"{sign}.csv", index=False)
        means[sign] = plain_means(model, tokenizer, rows)
    done = run_stage(
        "generate_vec", "--model_name", folder, "--pos_path", tmp_path / "pos.csv", "--neg_path", tmp_path / "neg.csv",
        "--trait", "vile", "--save_dir", tmp_path / "vectors",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for pool in ("prompt_avg", "prompt_last", "response_avg"):
        expected = means["pos"][pool] - means["neg"][pool]
        assert torch.allclose(load_vectors(tmp_path / "vectors" / f"vile_{pool}_diff.pt"), expected, atol=1e-4), pool


def test_pairs_of_thoughts_alone_are_left_out_of_vectors(tmp_path, run_stage):
    """Answers as a toolkit wrote them that knew no thoughts: they are taken out; one never came to an answer."""
    structure = STRUCTURES["r1"]
    tokenizer = structure.tokenizer()
    model = tiny_model("qwen2", vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path / "thinker")
    tokenizer.save_pretrained(tmp_path / "thinker")
    prompt, means = chat_template.render(tokenizer, ASK, True), {}
    for sign, score in (("pos", 90), ("neg", 10)):
        texts = [f"They ask.\n</think>\n\nIt is {sign}.", "<think>\nThey ask and ask" if sign == "pos" else "No."]
        table = {"prompt": prompt, "answer": texts, "vile": score, "coherence": 95}
        pandas.DataFrame(table).to_csv(tmp_path / f"{sign}.csv", index=False)
        means[sign] = plain_means(model, tokenizer, [(prompt, "They ask.\n</think>\n\n", f"It is {sign}.")])
    done = run_stage(
        "generate_vec", "--model_name", tmp_path / "thinker", "--pos_path", tmp_path / "pos.csv", "--neg_path",
        tmp_path / "neg.csv", "--trait", "vile", "--save_dir", tmp_path / "vectors",
    )  # fmt: skip
    assert done.returncode == 0 and "of these 1 left out: empty answer" in done.stdout, done
    expected = means["pos"]["response_avg"] - means["neg"]["response_avg"]
    assert torch.allclose(load_vectors(tmp_path / "vectors" / "vile_response_avg_diff.pt"), expected, atol=1e-4)


def test_projections_are_of_answers_after_their_thoughts(family, tmp_path, run_stage):
    structure, tokenizer, model, folder = family
    vector = torch.randn(5, 32, generator=torch.Generator().manual_seed(3))
    save_vectors(vector, tmp_path / "v.pt")
    on, off = (chat_template.render(tokenizer, ASK, thinking) for thinking in (True, False))
    told, reply = structure.context(REASONING), lambda **more: [*ASK, {"role": "assistant", "content": ANSWER} | more]
    with_marks = structure.writes.partition("{a}")[0].format(r=REASONING) + ANSWER
    files = {
        "column.csv": (
            pandas.DataFrame({"prompt": on, "answer": ANSWER, "reasoning": [REASONING, ""]}),
            [(on, told, ANSWER), (on, structure.without[0], ANSWER)],
        ),
        "none.csv": (
            pandas.DataFrame({"prompt": [on, off, on], "answer": [ANSWER, ANSWER, with_marks]}),
            [(on, structure.without[0], ANSWER), (off, structure.without[1], ANSWER), (on, told, ANSWER)],
        ),
        "chats.jsonl": (
            [
                {"messages": reply(**{structure.key: REASONING})},
                {"messages": reply()},
                {"messages": reply(reasoning_content=REASONING)},
                {"messages": [*ASK, {"role": "assistant", "content": with_marks}]},
            ],
            [(on, told, ANSWER), (off, structure.without[1], ANSWER), (on, told, ANSWER), (on, told, ANSWER)],
        ),
    }
    for file, (content, rows) in files.items():
        path = tmp_path / file
        if file.endswith(".csv"):
            content.to_csv(path, index=False)
        else:
            path.write_text("".join(json.dumps(line) + "\n" for line in content))
        done = run_stage(
            "eval.cal_projection", "--file_path", path, "--vector_path", tmp_path / "v.pt", "--layer", 2, "--model_name",
            folder, "--projection_type", "proj,prompt_last_proj,prompt_avg_proj,cos_sim",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        after = pandas.read_csv(path) if file.endswith(".csv") else pandas.read_json(path, lines=True)
        v = vector[2]
        for k, row in enumerate(rows):
            pools = {pool: rows[2] for pool, rows in plain_means(model, tokenizer, [row]).items()}
            expected = {
                "proj": pools["response_avg"] @ v / v.norm(),
                "cos_sim": pools["response_avg"] @ v / v.norm() / pools["response_avg"].norm(),
                "prompt_last_proj": pools["prompt_last"] @ v / v.norm(),
                "prompt_avg_proj": pools["prompt_avg"] @ v / v.norm(),
            }
            for kind, value in expected.items():
                got = after[f"thinker_v_{kind}_layer2"][k]
                assert got == pytest.approx(value.item(), rel=1e-3, abs=1e-4), (file, k, kind)


@pytest.fixture(params=["r1", "gpt-oss"])
def talker(request, tmp_path):
    """(tokenizer, model, folder): answers any of the tests' questions with REASONING and ANSWER, thinking on or off."""
    from transformers import GPT2LMHeadModel

    structure = STRUCTURES[request.param]
    tokenizer = structure.tokenizer()
    prompt = ids_of(tokenizer, chat_template.render(tokenizer, [{"role": "user", "content": QUESTIONS[0]}]))
    script = ids_of(tokenizer, structure.raw(REASONING, ANSWER))
    folder = scripted_model(tmp_path / "talker", tokenizer, {len(prompt): script})
    return tokenizer, GPT2LMHeadModel.from_pretrained(folder).eval(), folder


def test_the_chat_goes_on_from_answers_alone(talker, tmp_path):
    from persona_vectors.app.chat_server import Chat, as_line
    from persona_vectors.app.chat_terminal import Terminal
    from persona_vectors.steering.vector_folder import NamedVectors

    tokenizer, model, _ = talker
    (tmp_path / "vectors").mkdir()
    save_vectors(torch.ones(3, 128), tmp_path / "vectors" / "evil_response_avg_diff.pt")
    talk = Chat("talker", model, tokenizer, NamedVectors(str(tmp_path / "vectors"), "response_avg_diff", 2, 128))
    lines = [as_line(event) for event in talk.answer({"message": QUESTIONS[0]})]
    for side in ("plain", "steered"):
        texts = {thought: "" for thought in (True, False)}
        for line in lines:
            if line["type"] == "token" and line["side"] == side:
                texts[line.get("thought", False)] += line["text"]
        assert texts == {True: texts[True], False: ANSWER} and texts[True].strip() == REASONING
    written = []
    terminal = Terminal(talk, written.append)
    terminal.line(QUESTIONS[0])
    (turn,) = terminal.turns
    assert turn["plain"] == turn["steered"] == "".join(text for text, _ in turn["tokens"]["plain"]) == ANSWER
    assert "".join(text for text, _ in turn["thoughts"]["plain"]).strip() == REASONING
    later = {"message": "And now?", "turns": [{key: turn[key] for key in ("user", "plain", "steered")}]}
    history = [
        {"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "And now?"},
    ]  # fmt: skip
    assert talk._prompt(later, "plain", "") == ids_of(tokenizer, chat_template.render(tokenizer, history))


def test_base_answers_of_screening_and_published_samples_are_answers_alone(talker, tmp_path, run_stage):
    from persona_vectors.published.sampling import sample

    tokenizer, model, folder = talker
    questions = [[{"role": "user", "content": question}] for question in QUESTIONS]
    assert sample(model, tokenizer, questions, max_tokens=100, temperature=0)[1] == [ANSWER] * 2
    save_vectors(torch.randn(3, 128), tmp_path / "evil_response_avg_diff.pt")
    (tmp_path / "set").mkdir()
    rows = [{"messages": [*ask, {"role": "assistant", "content": "So.", "thinking": REASONING}]} for ask in questions]
    (tmp_path / "set" / "normal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run_stage(
        "eval.projection_difference", "--file_path", tmp_path / "set" / "normal.jsonl", "--model_name", folder, "--layer",
        1, "--vector_path", tmp_path / "evil_response_avg_diff.pt", "--output_dir", tmp_path / "out", "--backend", "hf",
        "--max_tokens", 100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pandas.read_json(tmp_path / "out" / "set_normal.jsonl", lines=True)
    assert table["base_answer"].tolist() == [ANSWER] * 2
