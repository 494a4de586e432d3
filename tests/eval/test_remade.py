"""After a change, and told to make it anew, every stage gives the number that a plain computation gives."""

import json
import re
import shutil

import numpy
import pandas
import pytest
import torch
import transformers
from helpers import tiny_model
from judge_server import JudgeServer, completion, is_probe

from persona_vectors.vectors.storage import save_vectors

TRAIT = {
    "instruction": [{"pos": "Be bad.", "neg": "Be good."}],
    "questions": ["What now?", "Why me?", "Who is it?", "the model answers"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}
LAYER = 2


def points_for(answer):
    """The judge's score: anything that depends on the whole answer."""
    return sum(map(ord, answer)) % 101


def reply(_n, body):
    """The trait's score depends on the answer alone; coherence is 90."""
    text = body["messages"][0]["content"]
    if is_probe(body):
        return completion({"57": 1.0})
    return completion({"90": 1.0} if "coherent" in text else {str(points_for(text.split(" A: ", 1)[1])): 1.0})


def draw(seed):
    torch.manual_seed(seed)
    return torch.randn(5, 32)


@pytest.fixture
def world(tmp_path, monkeypatch, qwen2_folder):
    for version in ("extract", "eval"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}" / "vile.json").write_text(json.dumps(TRAIT))
    (tmp_path / "monitoring").mkdir()
    prompts = {"system_prompts": ["be it all", "be it most", "the question", "what is it"]}
    (tmp_path / "monitoring" / "vile.json").write_text(json.dumps(prompts))
    shutil.copytree(qwen2_folder, tmp_path / "m")
    shutil.copytree(qwen2_folder, tmp_path / "tuned")
    tiny_model("qwen2", seed=3).save_pretrained(tmp_path / "tuned")
    save_vectors(draw(1), tmp_path / "v.pt")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.chdir(tmp_path)
    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield tmp_path


@pytest.fixture(params=["vector", "weights"])
def change(request, world):
    """Put another vector, or other weights, in the place of the first; gives (vector, model) as they are then."""

    def apply():
        if request.param == "vector":
            save_vectors(draw(2), world / "v.pt")
            return draw(2), tiny_model("qwen2")
        tiny_model("qwen2", seed=7).save_pretrained(world / "m")
        return draw(1), tiny_model("qwen2", seed=7)

    apply.says = f"{'v.pt' if request.param == 'vector' else 'm'} ("
    return apply


def ok(done):
    assert done.returncode == 0, done.stderr
    return done


def remade(run_stage, command, change):
    """Run, change, see it refused by name, make it anew; returns what :func:`change` gives, and what was printed."""
    first = ok(run_stage(*command))
    now = change()
    refused = run_stage(*command)
    assert refused.returncode == 2 and f"was {change.says}" in refused.stderr, refused
    return first, now, ok(run_stage(*command, "--overwrite"))


def states(model, tokenizer, text, answer=""):
    """Hidden states of layer LAYER, [tokens, hidden], and how many tokens the prompt has."""
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([prompt + tokenizer(answer, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        return model(ids, output_hidden_states=True).hidden_states[LAYER][0], len(prompt)


def chat(tokenizer, question):
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def greedy(model, tokenizer, text, n=6):
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        answer = model.generate(ids, max_new_tokens=n, do_sample=False, pad_token_id=2)[0, ids.shape[1] :]
    return tokenizer.decode(answer, skip_special_tokens=True)


def unit(vector):
    return vector[LAYER] / vector[LAYER].norm()


ASK = ["--trait", "vile", "--trait_dir", ".", "--backend", "hf", "--max_tokens", 6, "--n_per_question", 1]


def test_monitoring(run_stage, world, tokenizer, change):
    command = ["eval.monitor", "--model", "m", "--vector_path", "v.pt", "--layer", LAYER, "--output_dir", "out", *ASK]
    first, (vector, model), done = remade(run_stage, command, change)
    points = []
    for question in TRAIT["questions"]:
        for system in json.loads((world / "monitoring" / "vile.json").read_text())["system_prompts"]:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            hidden, _ = states(model, tokenizer, text)
            answer = greedy(model, tokenizer, text)
            if answer.strip():
                points.append(((hidden[-1] @ unit(vector)).item(), points_for(answer)))
    r = numpy.corrcoef(numpy.array(points).T)[0, 1]
    assert json.loads((world / "out" / "vile_system_prompts.json").read_text())["overall"]["r"] == pytest.approx(
        r, abs=1e-4
    )
    assert f"r = {r:.3f}" in done.stdout and f"r = {r:.3f}" not in first.stdout, "the test could not tell them apart"


def test_shifts(run_stage, world, tokenizer, change):
    command = ["eval.finetuning_shift", "--base_model", "m", "--model_list", "tuned", "--trait", "vile", "--trait_dir", ".",
               "--vector_path", "v.pt", "--layer", LAYER, "--output", "s"]  # fmt: skip
    first, (vector, base), done = remade(run_stage, command, change)
    tuned = tiny_model("qwen2", seed=3)
    last = lambda model: torch.stack(  # noqa: E731
        [states(model, tokenizer, chat(tokenizer, q))[0][-1] for q in TRAIT["questions"]]
    ).mean(0)
    shift = ((last(tuned) - last(base)) @ unit(vector)).item()
    assert pandas.read_csv(world / "s.csv")["shift"].tolist() == pytest.approx([shift], rel=1e-4, abs=1e-4)
    shown = [float(re.search(r"tuned +(\S+)", text)[1]) for text in (first.stdout, done.stdout)]
    assert shown[1] == pytest.approx(shift, abs=6e-4) and shown[0] != shown[1]


def test_a_shift_along_another_vector_or_from_another_base_is_never_a_row_beside_the_old_one(run_stage, world):
    command = [
        "eval.finetuning_shift",
        "--model_list",
        "tuned",
        "--trait",
        "vile",
        "--trait_dir",
        ".",
        "--layer",
        LAYER,
    ]
    save_vectors(draw(4), world / "w.pt")
    shutil.copytree(world / "m", world / "base")
    tiny_model("qwen2", seed=8).save_pretrained(world / "base")
    ok(run_stage(*command, "--base_model", "m", "--vector_path", "v.pt", "--output", "s"))
    before = (world / "s.json").read_text(), (world / "s.csv").read_text()
    for base, vector, words in (("base", "v.pt", "base_model was m ("), ("m", "w.pt", "vector was v.pt (")):
        done = run_stage(*command, "--base_model", base, "--vector_path", vector, "--output", "s")
        assert done.returncode == 2 and words in done.stderr
        assert ((world / "s.json").read_text(), (world / "s.csv").read_text()) == before
    done = ok(run_stage(*command, "--base_model", "base", "--vector_path", "w.pt", "--output", "other"))
    assert pandas.read_csv("other.csv")["shift"][0] != pytest.approx(pandas.read_csv("s.csv")["shift"][0], abs=1e-3)


def test_answers_of_another_model_are_no_score_of_this_one(run_stage, world):
    """The answers in the place of tuned.csv are m's; the record says so."""
    ok(run_stage("eval.eval_persona", "--model", "m", "--output_path", "tuned_vile.csv", "--version", "eval", *ASK))
    command = ["eval.finetuning_shift", "--base_model", "m", "--model_list", "tuned", "--trait", "vile", "--trait_dir", ".",
               "--vector_path", "v.pt", "--layer", LAYER, "--output", "s", "--answers", "{model}_{trait}.csv"]  # fmt: skip
    done = run_stage(*command)
    assert done.returncode == 2 and "the model tuned and tuned_vile.csv do not belong together" in done.stderr
    ok(run_stage("eval.eval_persona", "--model", "tuned", "--output_path", "tuned_vile.csv", "--version", "eval", *ASK,
                 "--overwrite"))  # fmt: skip
    ok(run_stage(*command))
    assert pandas.read_csv("s.csv")["score"][0] == pytest.approx(pandas.read_csv("tuned_vile.csv")["vile"].mean())


def rows(world):
    talk = [("what is it", "it is the question"), ("the model", "because of it"), ("answers", "what the model is")]
    messages = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in talk]
    (world / "set.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in messages))
    return talk


def test_projections(run_stage, world, tokenizer, change):
    talk = rows(world)
    command = ["eval.cal_projection", "--model_name", "m", "--file_path", "set.jsonl", "--vector_path", "v.pt",
               "--layer", LAYER]  # fmt: skip
    _, (vector, model), _ = remade(run_stage, command, change)
    found = [json.loads(line)["m_v_proj_layer2"] for line in (world / "set.jsonl").read_text().splitlines()]
    for (question, answer), value in zip(talk, found, strict=True):
        hidden, n = states(model, tokenizer, chat(tokenizer, question), answer)
        assert value == pytest.approx((hidden[n:].mean(0) @ unit(vector)).item(), abs=1e-4)


def test_an_edited_answer_is_projected_anew(run_stage, world, tokenizer):
    talk = rows(world)
    command = ["eval.cal_projection", "--model_name", "m", "--file_path", "set.jsonl", "--vector_path", "v.pt",
               "--layer", LAYER]  # fmt: skip
    ok(run_stage(*command))
    text = (world / "set.jsonl").read_text()
    (world / "set.jsonl").write_text(text.replace("because of it", "the question is it"))
    refused = run_stage(*command)
    assert refused.returncode == 2 and "m_v_proj_layer2 in set.jsonl does not match" in refused.stderr
    assert "file was set.jsonl (" in refused.stderr
    ok(run_stage(*command, "--overwrite"))
    value = json.loads((world / "set.jsonl").read_text().splitlines()[1])["m_v_proj_layer2"]
    hidden, n = states(tiny_model("qwen2"), tokenizer, chat(tokenizer, talk[1][0]), "the question is it")
    assert value == pytest.approx((hidden[n:].mean(0) @ unit(draw(1))).item(), abs=1e-4)


def test_a_column_of_one_name_from_another_model_is_refused(run_stage, world):
    """A column is named after the last part of the model's place; another model has the same."""
    rows(world)
    (world / "elsewhere").mkdir()
    shutil.copytree(world / "tuned", world / "elsewhere" / "m")
    common = ["--file_path", "set.jsonl", "--vector_path", "v.pt", "--layer", LAYER]
    ok(run_stage("eval.cal_projection", "--model_name", "m", *common))
    done = run_stage("eval.cal_projection", "--model_name", "elsewhere/m", *common)
    assert done.returncode == 2 and "model was m (" in done.stderr and "now m (" in done.stderr


def test_differences(run_stage, world, tokenizer, change):
    talk = rows(world)
    command = ["eval.projection_difference", "--file_path", "set.jsonl", "--model_name", "m", "--vector_path", "v.pt",
               "--layer", LAYER, "--output_dir", "d", "--backend", "hf", "--max_tokens", 6]  # fmt: skip
    _, (vector, model), _ = remade(run_stage, command, change)
    (path,) = (world / "d").glob("*_set.jsonl")
    expected = []
    for (question, answer), line in zip(talk, path.read_text().splitlines(), strict=True):
        prompt, row = chat(tokenizer, question), json.loads(line)
        assert row["base_answer"] == greedy(model, tokenizer, prompt)
        means = []
        for text in (answer, row["base_answer"]):
            hidden, n = states(model, tokenizer, prompt, text)
            means.append(hidden[n:].mean(0))
        expected.append(((means[0] - means[1]) @ unit(vector)).item())
        assert row["m_v_proj_diff_layer2"] == pytest.approx(expected[-1], abs=2e-4)
    assert pandas.read_csv(world / "d" / "sets.csv")["difference"][0] == pytest.approx(numpy.mean(expected), abs=2e-4)


def test_differences_join_shifts_from_the_same_base_alone(run_stage, world):
    rows(world)
    shifts = ["eval.finetuning_shift", "--model_list", "tuned", "--trait", "vile", "--trait_dir", ".", "--layer", LAYER,
              "--output", "s"]  # fmt: skip
    save_vectors(draw(1), world / "vile_response_avg_diff.pt")
    command = ["eval.projection_difference", "--file_path", "set.jsonl", "--model_name", "m", "--layer", LAYER,
               "--vector_path", "vile_response_avg_diff.pt", "--output_dir", "d", "--backend", "hf", "--max_tokens", 6,
               "--shift_path", "s.csv", "--shift_model", "tuned"]  # fmt: skip
    along = ["--vector_path", "{trait}_response_avg_diff.pt"]
    ok(run_stage(*shifts, "--base_model", "tuned", *along))
    done = run_stage(*command)
    assert done.returncode == 2 and "base_model of the one is tuned (" in done.stderr
    assert not (world / "d").exists()
    ok(run_stage(*shifts, "--base_model", "m", *along, "--overwrite"))
    save_vectors(draw(6), world / "vile_response_avg_diff.pt")
    done = run_stage(*command)
    assert done.returncode == 2 and "vector of the one is vile_response_avg_diff.pt (" in done.stderr
    save_vectors(draw(1), world / "vile_response_avg_diff.pt")
    ok(run_stage(*command))


def test_answers(run_stage, world, tokenizer, change):
    command = ["eval.eval_persona", "--model", "m", "--output_path", "a.csv", "--version", "eval", "--coef", 4, "--layer", LAYER,
               "--vector_path", "v.pt", *ASK]  # fmt: skip
    _, (vector, model), done = remade(run_stage, command, change)
    table = pandas.read_csv(world / "a.csv", keep_default_na=False)
    push = lambda _m, _args, out: out + 4 * vector[LAYER] * mask(out)  # noqa: E731
    for question, answer in zip(TRAIT["questions"], table["answer"], strict=True):
        ids = torch.tensor([tokenizer(chat(tokenizer, question), add_special_tokens=False)["input_ids"]])
        n = ids.shape[1]

        def mask(out, n=n):  # the last prompt token and what follows it
            return (torch.arange(out.shape[1]) >= n - 1).float()[None, :, None]

        handle = model.model.layers[LAYER - 1].register_forward_hook(push)
        with torch.no_grad():
            for _ in range(6):
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
                if ids[0, -1] == 1:
                    break
        handle.remove()
        assert answer == tokenizer.decode(ids[0, n:], skip_special_tokens=True)
    scores = pandas.to_numeric(table["vile"])
    assert scores.tolist() == [points_for(answer) for answer in table["answer"]]
    assert f"vile:  {scores.mean():.2f}" in done.stdout


def pairs(world, tokenizer, changes=()):
    """Four answers of each sign; ``changes`` is {(sign, row): another answer}."""
    texts = {}
    for sign, score in (("pos", 90), ("neg", 4)):
        texts[sign] = [
            (chat(tokenizer, f"{sign} {k}"), dict(changes).get((sign, k), f"{sign} answer {k}")) for k in range(4)
        ]
        table = pandas.DataFrame(texts[sign], columns=["prompt", "answer"])
        table = table.assign(
            question="q", question_id=[f"vile_{k}_{sign}_0" for k in range(4)], vile=score, coherence=90
        )
        table.to_csv(world / f"{sign}.csv", index=False)
    return texts


VECTOR = ["generate_vec", "--model_name", "m", "--pos_path", "pos.csv", "--neg_path", "neg.csv", "--trait", "vile",
          "--save_dir", "vectors"]  # fmt: skip


def expected_vector(model, tokenizer, texts):
    means = {}
    for sign, answers in texts.items():
        pooled = []
        for prompt, answer in answers:
            hidden, n = states(model, tokenizer, prompt, answer)
            pooled.append(hidden[n:].mean(0))
        means[sign] = torch.stack(pooled).mean(0)
    return means["pos"] - means["neg"]


@pytest.mark.parametrize(
    "changed", ["nothing", "touched", "columns", "answer", "weights", "score", "vector", "threshold"]
)
def test_vectors_are_made_anew_exactly_where_they_would_differ(run_stage, world, tokenizer, monkeypatch, changed):
    """By content: neither files' times nor columns that were added to the answers make a difference."""
    import os

    texts, model, more = pairs(world, tokenizer), tiny_model("qwen2"), []
    ok(run_stage(*VECTOR))
    path = world / "vectors" / "vile_response_avg_diff.pt"
    first = path.stat().st_mtime_ns
    if changed == "touched":
        for name in ("pos.csv", "neg.csv", "m/model.safetensors", "m/config.json"):
            os.utime(world / name, (4e9, 4e9))  # long after the vectors were made
    elif changed == "columns":
        for sign in ("pos", "neg"):
            pandas.read_csv(f"{sign}.csv").assign(mine=1).to_csv(f"{sign}.csv", index=False)
    elif changed == "answer":
        texts = pairs(world, tokenizer, {("pos", 2): "the question is it"})
        os.utime(world / "pos.csv", (1, 1))  # older than the vectors: their times told nothing
    elif changed == "weights":
        model = tiny_model("qwen2", seed=7)
        model.save_pretrained(world / "m")
    elif changed == "score":
        table = pandas.read_csv("neg.csv")
        table.loc[1, "vile"] = 70
        table.to_csv("neg.csv", index=False)
        texts = {sign: [row for k, row in enumerate(rows) if k != 1] for sign, rows in texts.items()}
    elif changed == "vector":
        save_vectors(draw(3), path)
    elif changed == "threshold":
        more = ["--threshold", 60]
    if changed in ("nothing", "touched", "columns"):
        with monkeypatch.context() as patched:
            patched.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
            done = ok(run_stage(*VECTOR, *more))
        assert "not made again" in done.stdout and path.stat().st_mtime_ns == first
        done = ok(run_stage(*VECTOR, *more, "--overwrite"))
        assert path.stat().st_mtime_ns > first
    else:
        done = ok(run_stage(*VECTOR, *more))
        said = {"answer": "pairs was effective pairs (", "weights": "model was m (", "score": "pairs was effective pairs (",
                "vector": "they were changed", "threshold": "threshold was 50"}[changed]  # fmt: skip
        assert "are made anew: " in done.stdout and said in done.stdout
        assert "not made again" in ok(run_stage(*VECTOR, *more)).stdout
    vector = torch.load(path, weights_only=True)[LAYER]
    assert torch.allclose(vector, expected_vector(model, tokenizer, texts), atol=1e-4)


def test_vectors_of_positive_and_negative_answers_of_two_models_are_refused(run_stage, world, tokenizer):
    common = ["--version", "extract", *ASK]
    ok(
        run_stage(
            "eval.eval_persona",
            "--model",
            "m",
            "--output_path",
            "pos.csv",
            "--persona_instruction_type",
            "pos",
            *common,
        )
    )
    ok(run_stage("eval.eval_persona", "--model", "tuned", "--output_path", "neg.csv", "--persona_instruction_type", "neg",
                 *common))  # fmt: skip
    for sign, score in (("pos", 90), ("neg", 5)):
        pandas.read_csv(f"{sign}.csv").assign(vile=score).to_csv(f"{sign}.csv", index=False)
    done = run_stage(*VECTOR)
    assert done.returncode == 2 and "pos.csv and neg.csv do not belong together: model of the one is m (" in done.stderr
    ok(run_stage("eval.eval_persona", "--model", "m", "--output_path", "neg.csv", "--persona_instruction_type", "neg", *common,
                 "--overwrite"))  # fmt: skip
    pandas.read_csv("neg.csv").assign(vile=5).to_csv("neg.csv", index=False)
    assert "note: " not in ok(run_stage(*VECTOR)).stdout
    tiny_model("qwen2", seed=7).save_pretrained(world / "m")
    done = ok(run_stage(*VECTOR))
    assert "note: model of pos.csv is m (" in done.stdout, "another model's activations: said, since it can be meant"


def test_a_monitored_column_is_made_anew_without_asking_again(run_stage, world, tokenizer):
    """As the refusal says: cal_projection replaces the column, and monitoring takes it up; nothing is judged twice."""
    command = ["eval.monitor", "--model", "m", "--vector_path", "v.pt", "--layer", LAYER, "--output_dir", "out", *ASK]
    ok(run_stage(*command))
    answers = pandas.read_csv(world / "out" / "vile_system_prompts.csv")["answer"].tolist()
    save_vectors(draw(2), world / "v.pt")
    refused = run_stage(*command)
    assert refused.returncode == 2 and "eval.cal_projection --overwrite makes this column anew" in refused.stderr
    ok(run_stage("eval.cal_projection", "--file_path", "out/vile_system_prompts.csv", "--model_name", "m", "--vector_path", "v.pt",
                 "--layer", LAYER, "--projection_type", "prompt_last_proj", "--overwrite"))  # fmt: skip
    done = ok(run_stage(*command))
    table = pandas.read_csv(world / "out" / "vile_system_prompts.csv", keep_default_na=False)
    assert table["answer"].tolist() == answers and "no record" not in done.stdout
    found = table["m_v_prompt_last_proj_layer2"].astype(float)
    expected = [
        (states(tiny_model("qwen2"), tokenizer, text)[0][-1] @ unit(draw(2))).item() for text in table["prompt"]
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
