"""The analyses on tiny models, each against a plain computation: monitoring, shifts, differences, cosines."""

import json
import re
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from helpers import tiny_model
from judge_server import JudgeServer, completion, is_probe

from persona_vectors.errors import UserError
from persona_vectors.files.resumable import WindowedWork
from persona_vectors.vectors.storage import save_vectors

TRAIT = {
    "instruction": [{"pos": "Be bad.", "neg": "Be good."}],
    "questions": ["What now?", "Why me?", "Who is it?", "the model answers"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}
PROMPTS = ["be it all", "be it most", "the question", "what is it"]


def reply(_n, body):
    """The trait's score is the answer's share of vowels; coherence 90."""
    text = body["messages"][0]["content"]
    if is_probe(body):
        return completion({"57": 1.0})
    if "coherent" in text:
        return completion({"90": 1.0})
    answer = text.split(" A: ", 1)[1]
    return completion({str(round(100 * sum(c in "aeiou" for c in answer) / max(len(answer), 1))): 1.0})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("trait_data_extract", "trait_data_eval"):
        (tmp_path / name).mkdir()
        for trait in ("vile", "kind"):
            (tmp_path / name / f"{trait}.json").write_text(json.dumps(TRAIT).replace("vile", trait))
    (tmp_path / "monitoring").mkdir()
    (tmp_path / "monitoring" / "vile.json").write_text(json.dumps({"system_prompts": PROMPTS}))
    torch.manual_seed(1)
    for trait in ("vile", "kind"):
        save_vectors(torch.randn(5, 32), tmp_path / f"{trait}_response_avg_diff.pt")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hidden(model, tokenizer, text, layer):
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        return model(ids, output_hidden_states=True).hidden_states[layer][0]


def direction(folder, trait, layer):
    v = torch.load(folder / f"{trait}_response_avg_diff.pt", weights_only=True)[layer]
    return v / v.norm()


def ok(done):
    assert done.returncode == 0, done.stderr
    return done


def monitor(folder, model, *more):
    return ["eval.monitor", "--model", model, "--trait", "vile", "--layer", 2, "--output_dir", folder / "out",
            "--vector_path", folder / "{trait}_response_avg_diff.pt", "--trait_dir", folder, "--backend", "hf",
            "--max_tokens", 6, "--n_per_question", 2, *more]  # fmt: skip


def test_monitoring_projects_exactly_the_prompts_it_asked(run_stage, monkeypatch, folder, qwen2_folder, tokenizer):
    lines = [(q, f"answer {k}", f"vile_{i}_pos_0") for i, q in enumerate(("one?", "two?")) for k in range(2)]
    for sign, score in (("pos", 90), ("neg", 5)):
        table = pandas.DataFrame(lines, columns=["question", "answer", "question_id"])
        table = table.assign(
            prompt="p", vile=score, coherence=90, question_id=table["question_id"].str.replace("pos", sign)
        )
        table.to_csv(folder / f"vile_{sign}.csv", index=False)
    shots = [
        "--kind",
        "system_prompts",
        "many_shot",
        "--shots",
        "0",
        "3",
        "--pos_path",
        "{trait}_pos.csv",
        "--neg_path",
        "vile_neg.csv",
    ]
    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        done = ok(run_stage(*monitor(folder, qwen2_folder, *shots)))
        calls = len(server.bodies)
        again = ok(run_stage(*monitor(folder, qwen2_folder, *shots)))
        assert len(server.bodies) == calls  # nothing is asked or judged twice
    assert again.stdout.splitlines()[-3:] == done.stdout.splitlines()[-3:]
    model, v = tiny_model("qwen2"), direction(folder, "vile", 2)
    column = "tiny-qwen2_vile_response_avg_diff_prompt_last_proj_layer2"
    for kind, conditions in (
        ("system_prompts", [f"prompt {k}" for k in (1, 2, 3, 4)]),
        ("many_shot", ["0 shots", "3 shots"]),
    ):
        table = pandas.read_csv(folder / "out" / f"vile_{kind}.csv", keep_default_na=False)
        assert len(table) == 4 * 2 * len(conditions) and sorted(set(table["condition"])) == conditions
        for prompt, value in zip(table["prompt"], table[column], strict=True):
            assert (hidden(model, tokenizer, prompt, 2)[-1] @ v).item() == pytest.approx(float(value), abs=1e-4)
        result = json.loads((folder / "out" / f"vile_{kind}.json").read_text())
        score = pandas.to_numeric(table["vile"])
        there = score.notna()
        expected = numpy.corrcoef(table[column][there].astype(float), score[there])[0, 1]
        assert result["overall"]["r"] == pytest.approx(expected) and result["overall"]["n"] == there.sum()
        assert result["overall"]["low"] < expected < result["overall"]["high"]
        assert (folder / "out" / f"vile_{kind}.png").read_bytes().startswith(b"\x89PNG")
    first = pandas.read_csv(folder / "out" / "vile_system_prompts.csv")
    assert first["prompt"][0].startswith(f"<|im_start|>system\n{PROMPTS[0]}<|im_end|>\n<|im_start|>user\nWhat now?")
    many = pandas.read_csv(folder / "out" / "vile_many_shot.csv").set_index("condition")["prompt"]
    assert (
        many["0 shots"].str.count(
            "<|im_start|>assistant",
        )
        == 1
    ).all() or (many["0 shots"].str.count(r"assistant\n") == 1).all()
    for prompt in many["3 shots"]:
        asked = re.findall(r"user\n(.*?)<", prompt)
        assert len(asked) == 4 and set(asked[:2]) == {"one?", "two?"}  # no question again before each has come


def test_monitoring_a_steered_model_reads_it_steered(run_stage, monkeypatch, folder, qwen2_folder, tokenizer):
    parts = [
        {"vector": str(folder / "{trait}_response_avg_diff.pt"), "layer": 1, "coef": 1.5},
        {"vector": str(folder / "kind_response_avg_diff.pt"), "layer": 2, "coef": -0.5, "positions": "prompt"},
    ]
    (folder / "steer.json").write_text(json.dumps(parts))
    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        ok(run_stage(*monitor(folder, qwen2_folder, "--steering", "steer.json")))
        for other in ([], ["--steering", "half.json"]):
            (folder / "half.json").write_text(json.dumps([parts[0], parts[1] | {"coef": -0.25}]))
            refused = run_stage(*monitor(folder, qwen2_folder, *other))
            assert refused.returncode == 2 and "steering was [" in refused.stderr
    model, v = tiny_model("qwen2"), direction(folder, "vile", 2)
    rows = [torch.load(folder / f"{trait}_response_avg_diff.pt", weights_only=True) for trait in ("vile", "kind")]
    table = pandas.read_csv(folder / "out" / "vile_system_prompts.csv", keep_default_na=False)
    column = "tiny-qwen2_vile_response_avg_diff_prompt_last_proj_layer2"

    def last(_block, _args, h):  # response: of the prompt, its last token
        h = (h[0] if isinstance(h, tuple) else h).clone()
        h[:, -1] += 1.5 * rows[0][1]
        return h

    unsteered = [(hidden(model, tokenizer, prompt, 2)[-1] @ v).item() for prompt in table["prompt"]]
    model.model.layers[0].register_forward_hook(last)
    model.model.layers[1].register_forward_hook(
        lambda _block, _args, h: (h[0] if isinstance(h, tuple) else h) - 0.5 * rows[1][2]
    )
    seen = []
    model.model.layers[2].register_forward_pre_hook(
        lambda _block, args, named: seen.append((args or [named["hidden_states"]])[0][0, -1]), with_kwargs=True
    )
    for prompt, value, plain in zip(table["prompt"], table[column], unsteered, strict=True):
        with torch.no_grad():
            model(torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]]))
        assert (seen[-1] @ v).item() == pytest.approx(float(value), abs=1e-4)
        assert abs(plain - float(value)) > 0.01
    assert not {"coef", "layer"} & set(table.columns)


def test_monitoring_refuses_by_name(run_stage, folder, qwen2_folder):
    cases = [
        (monitor(folder, qwen2_folder, "--kind", "many_shot"), "--pos_path and --neg_path"),
        (monitor(folder, qwen2_folder, "--layer", "none.json")[:1] + monitor(folder, qwen2_folder)[1:5] + ["--layer", "none.json"]
         + monitor(folder, qwen2_folder)[7:], "none.json is not a recommendation"),
        (monitor(folder, qwen2_folder, "--kind", "graded"), "--kind takes one of"),
    ]  # fmt: skip
    (folder / "monitoring" / "vile.json").write_text('{"prompts": []}')
    cases.append((monitor(folder, qwen2_folder), "does not hold system_prompts"))
    for arguments, words in cases:
        done = run_stage(*arguments)
        assert done.returncode == 2 and words in done.stderr, done.stderr


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory, qwen2_folder, tokenizer):
    """Four adapters over the tiny model and one whole model; {name: (folder, plain model)}."""
    from peft import LoraConfig, PeftModel, get_peft_model

    made, root = {}, tmp_path_factory.mktemp("finetuned")
    for k in range(4):
        torch.manual_seed(k)
        adapter = get_peft_model(tiny_model("qwen2"), LoraConfig(target_modules=["v_proj"], init_lora_weights=False))
        adapter.peft_config["default"].base_model_name_or_path = str(qwen2_folder)
        adapter.save_pretrained(root / f"a{k}")
        made[f"a{k}"] = (
            root / f"a{k}",
            PeftModel.from_pretrained(tiny_model("qwen2"), root / f"a{k}").merge_and_unload(),
        )
    whole = tiny_model("qwen2", seed=5)
    whole.save_pretrained(root / "whole")
    tokenizer.save_pretrained(root / "whole")
    return {**made, "whole": (root / "whole", whole)}


def test_finetuning_shift_is_the_difference_of_plain_means(run_stage, folder, qwen2_folder, tokenizer, finetuned):
    scores = {}
    for k, name in enumerate(finetuned):
        for trait in ("vile", "kind"):
            scores[name, trait] = [10 * k + len(trait), 30 + k * k]
            pandas.DataFrame({trait: scores[name, trait]}).to_csv(folder / f"{name}_{trait}.csv", index=False)
    (folder / "best.json").write_text('{"layer": 3}')
    arguments = ["eval.finetuning_shift", "--base_model", qwen2_folder, "--model_list", *[path for path, _ in finetuned.values()],
                 "--trait", "vile", "kind", "--layer", "best.json", "--vector_path", "{trait}_response_avg_diff.pt",
                 "--trait_dir", folder, "--answers", "{model}_{trait}.csv", "--output", "shift"]  # fmt: skip
    done = ok(run_stage(*arguments))
    table = pandas.read_csv(folder / "shift.csv")
    assert list(table.columns) == ["model", "trait", "layer", "shift", "score"] and len(table) == 10
    texts = [f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in TRAIT["questions"]]
    mean = lambda model: torch.stack([hidden(model, tokenizer, text, 3)[-1] for text in texts]).mean(0)  # noqa: E731
    base = mean(tiny_model("qwen2"))
    for row in table.itertuples():
        expected = ((mean(finetuned[row.model][1]) - base) @ direction(folder, row.trait, 3)).item()
        assert row.shift == pytest.approx(expected, rel=1e-4, abs=1e-4), row
        assert row.score == pytest.approx(numpy.mean(scores[row.model, row.trait]))
    found = json.loads((folder / "shift.json").read_text())["correlations"]
    wide = table.pivot(index="model", columns="trait", values=["shift", "score"])
    expected = numpy.corrcoef(wide["shift"]["vile"], wide["score"]["kind"])[0, 1]
    assert found["vile"]["kind"]["r"] == pytest.approx(expected) and found["vile"]["kind"]["n"] == 5
    assert (folder / "shift.png").exists() and "own trait in brackets" in done.stdout
    again = ok(run_stage(*arguments))
    assert "models:" not in again.stderr  # measured once
    missing = run_stage(*arguments[:-3], "nowhere/{model}_{trait}.csv", "--output", "other")
    assert missing.returncode == 2 and "no answers file at" in missing.stderr


def write_set(path, n, seed):
    draw, words = numpy.random.default_rng(seed), ["the", "model", "answers", "what", "is", "it", "because"]
    text = lambda: " ".join(draw.choice(words, draw.integers(1, 8)))  # noqa: E731
    rows = [
        {"messages": [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}], "id": k}
        for k in range(n)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def difference(folder, model, *more, sets=("data/good.jsonl", "data/bad.jsonl")):
    return ["eval.projection_difference", "--file_path", *[folder / s for s in sets], "--model_name", model, "--layer", 2,
            "--vector_path", folder / "vile_response_avg_diff.pt", folder / "kind_response_avg_diff.pt", "--backend", "hf",
            "--max_tokens", 5, *more]  # fmt: skip


def plain_difference(model, tokenizer, row, base_answer, v, layer=2):
    prompt = tokenizer.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)
    p = tokenizer(prompt, add_special_tokens=False)["input_ids"]

    def average(answer):
        ids = torch.tensor([p + tokenizer(answer, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            return model(ids, output_hidden_states=True).hidden_states[layer][0][len(p) :].mean(0)

    return (average(row["messages"][-1]["content"]) @ v).item(), (
        average(base_answer) @ v
    ).item() if base_answer else None


def test_projection_differences_selections_and_screening(run_stage, folder, qwen2_folder, tokenizer):
    sets = {
        "data_good": write_set(folder / "data" / "good.jsonl", 30, 0),
        "data_bad": write_set(folder / "data" / "bad.jsonl", 20, 1),
    }
    with open(folder / "data" / "bad.jsonl", "a") as file:
        file.write("not json\n")
    column = "tiny-qwen2_{}_response_avg_diff_proj_diff_layer2"
    shift = "model,trait,layer,shift,score\n" + "".join(
        f"m_{s},{t},2,{k},1\n" for k, s in enumerate(sets) for t in ("vile", "kind")
    )
    (folder / "shift.csv").write_text(shift)
    arguments = difference(folder, qwen2_folder, "--output_dir", "out", "--select", "high", "low", "random", "--k", 5,
                           "--filter_above", 0.0, "--shift_path", "shift.csv", "--shift_model", "m_{set}")  # fmt: skip
    done = ok(run_stage(*arguments))
    model = tiny_model("qwen2")
    for name, rows in sets.items():
        made = [json.loads(line) for line in (folder / "out" / f"{name}.jsonl").read_text().splitlines()]
        assert [row["row"] for row in made] == list(range(len(rows) + (name == "data_bad")))
        for row, out in zip(rows, made, strict=False):
            prompt = tokenizer.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)
            ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                answer = model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=2)[0, ids.shape[1] :]
            assert out["base_answer"] == tokenizer.decode(answer, skip_special_tokens=True)
            for trait in ("vile", "kind"):
                own, base = plain_difference(model, tokenizer, row, out["base_answer"], direction(folder, trait, 2))
                if base is None or not out["base_answer"].strip():
                    assert out[column.format(trait)] is None
                else:
                    assert out[column.format(trait)] == pytest.approx(own - base, abs=2e-4)
        by_row = {out["row"]: out[column.format("vile")] for out in made if out[column.format("vile")] is not None}
        ordered = sorted(by_row, key=by_row.get)
        prefix = folder / "out" / f"{name}_vile_response_avg_diff"
        ids = lambda end, p=prefix: [json.loads(x)["id"] for x in Path(f"{p}_{end}.jsonl").read_text().splitlines()]  # noqa: E731
        assert ids("high_5") == sorted(ordered[-5:]) and ids("low_5") == sorted(ordered[:5])
        assert len(set(ids("random_5"))) == 5 and set(ids("random_5")) <= set(by_row)
        assert ids("screened") == sorted(row for row, value in by_row.items() if value <= 0)
        dropped = pandas.read_csv(folder / "out" / f"{name}_vile_response_avg_diff_dropped.csv")
        assert sorted([*dropped["row"], *ids("screened")]) == list(range(len(made)))
    chosen = pandas.read_csv(folder / "out" / "selected.csv")
    assert len(chosen) == 2 * 2 * 4 and all((folder / path).exists() for path in chosen["path"])
    ends = chosen.groupby("kind")["difference"].mean()
    assert ends["high"] > ends["random"] > ends["low"]
    table = pandas.read_csv(folder / "out" / "sets.csv").set_index(["set", "trait"])
    expected = numpy.mean([v for v in by_row.values()])
    assert table.loc[("data_bad", "vile"), "difference"] == pytest.approx(expected)
    assert table.loc[("data_bad", "vile"), "rows"] == 21 and table.loc[("data_bad", "vile"), "projected"] == len(by_row)
    assert (folder / "out" / "histogram.png").exists() and (folder / "out" / "shift.png").exists()
    assert "not a JSON object" in done.stdout or "no messages" in done.stdout
    stamp = (folder / "out" / "data_good.jsonl").stat().st_mtime_ns
    ok(run_stage(*arguments))
    assert (folder / "out" / "data_good.jsonl").stat().st_mtime_ns == stamp  # nothing was made again
    other = run_stage(
        *[4 if a == 5 and b == "--max_tokens" else a for a, b in zip(arguments, [None, *arguments], strict=False)]
    )
    assert other.returncode == 2 and "base_answer in out/data_good.jsonl" in other.stderr
    assert "max_tokens was 5, now 4" in other.stderr


def test_base_answers_are_foreseen(run_stage, folder, qwen2_folder, tokenizer, monkeypatch):
    """Before vectors and layer are there; of a sample; of a run that was stopped between two sets; and when all is done."""
    rows = write_set(folder / "data" / "good.jsonl", 12, 0)
    write_set(folder / "data" / "bad.jsonl", 8, 1)
    with open(folder / "data" / "bad.jsonl", "a") as file:
        file.write("not json\n")
    asked = difference(folder, qwen2_folder, "--output_dir", "out", sets=("data/good.jsonl",))
    asked[asked.index("--vector_path") + 1 : asked.index("--backend")] = ["none.pt"]

    def foreseen(*more):
        """(answers, tokens of prompts, the most tokens of answers)"""
        said = ok(run_stage(*asked, *more, "--dry_run")).stdout
        found = re.search(
            r"base answers: (\d+) to make.*: (\d+) tokens of prompts, (?:at most )?(\d+) tokens of answers", said
        )
        return tuple(map(int, found.groups()))

    ids = [tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True)["input_ids"] for row in rows]
    assert foreseen() == (12, sum(map(len, ids)), 60) and not (folder / "out").exists()
    assert foreseen("--estimate", "sample", "--sample", 5)[0] == 5
    assert foreseen("--estimate", "prompt_last") == foreseen("--base_answers", "given.jsonl") == (0, 0, 0)
    asked = difference(folder, qwen2_folder, "--output_dir", "out")
    assert foreseen()[0] == 20
    with monkeypatch.context() as stopping:
        finish = WindowedWork.finish

        def stop(self):
            if "bad" in self.rows.path.name:
                self.journal.close(remove=False)
                raise UserError("stopped")
            return finish(self)

        stopping.setattr(WindowedWork, "finish", stop)
        assert run_stage(*asked).returncode == 2
    assert foreseen()[0] == 0 and foreseen("--overwrite")[0] == 20
    (folder / "out" / "data_bad.jsonl.parts" / "000000.npz").unlink()
    assert foreseen()[0] == 8
    ok(run_stage(*asked))
    assert foreseen()[0] == 0


def test_cheaper_estimates_and_given_answers(run_stage, folder, qwen2_folder, tokenizer):
    rows = write_set(folder / "data" / "good.jsonl", 12, 0)
    only = ("data/good.jsonl",)
    model, v = tiny_model("qwen2"), direction(folder, "vile", 2)
    name = "tiny-qwen2_vile_response_avg_diff_proj_diff_layer2"
    read = lambda folder_: [json.loads(x) for x in (folder / folder_ / "data_good.jsonl").read_text().splitlines()]  # noqa: E731

    ok(run_stage(*difference(folder, qwen2_folder, "--output_dir", "last", "--estimate", "prompt_last", sets=only)))
    for row, out in zip(rows, read("last"), strict=True):
        own, _ = plain_difference(model, tokenizer, row, None, v)
        prompt = tokenizer.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)
        assert out[name] == pytest.approx(own - (hidden(model, tokenizer, prompt, 2)[-1] @ v).item(), abs=2e-4)
        assert "base_answer" not in out

    (folder / "given.jsonl").write_text("".join(json.dumps({"answer": f"it is {k}"}) + "\n" for k in range(12)))
    flags = ["--estimate", "sample", "--sample", 5, "--base_answers", "given.jsonl"]
    ok(run_stage(*difference(folder, qwen2_folder, "--output_dir", "given", *flags, sets=only)))
    made = read("given")
    assert len(made) == 5
    for out in made:
        assert out["base_answer"] == f"it is {out['row']}" and out["messages"] == rows[out["row"]]["messages"]
        own, base = plain_difference(model, tokenizer, rows[out["row"]], out["base_answer"], v)
        assert out[name] == pytest.approx(own - base, abs=2e-4)

    refused = run_stage(
        *difference(folder, qwen2_folder, "--output_dir", "x", *flags[:4], "--select", "high", sets=only)
    )
    assert refused.returncode == 2 and "need every row" in refused.stderr
    (folder / "given.jsonl").write_text('{"answer": "x"}\n')
    short = run_stage(
        *difference(folder, qwen2_folder, "--output_dir", "y", "--base_answers", "given.jsonl", sets=only)
    )
    assert short.returncode == 2 and "no line for row 1" in short.stderr


def test_cosines_of_vectors(run_stage, folder):
    files = [folder / f"{t}_response_avg_diff.pt" for t in ("vile", "kind")]
    ok(run_stage("eval.vector_similarity", "--vector_path", *files, "--layer", "2,3", "--output", "s"))
    table = pandas.read_csv(folder / "s.csv")
    across = table[table["vector_a"] != table["vector_b"]].set_index("layer_a")["cosine"]
    for layer in (2, 3):
        expected = (direction(folder, "vile", layer) @ direction(folder, "kind", layer)).item()
        assert across[layer] == pytest.approx(expected, abs=1e-5)
    within = table.query("vector_a == 'vile' and vector_b == 'vile' and layer_a == 1 and layer_b == 4")["cosine"].item()
    assert within == pytest.approx((direction(folder, "vile", 1) @ direction(folder, "vile", 4)).item(), abs=1e-5)
    assert (folder / "s_traits.png").exists() and (folder / "s_layers.png").exists()
    assert run_stage("eval.vector_similarity", "--vector_path", files[0], "--layer", 2).returncode == 2
