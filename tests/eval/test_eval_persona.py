"""eval_persona and generate_vec as users run them: processes, a model folder, a judge over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas
import pytest
import torch
from helpers import tiny_model
from judge_server import JudgeServer, completion, error, is_probe

from persona_vectors.files import provenance
from persona_vectors.sharing.formats import About, norms_text, read_norms, read_shared, save_both
from persona_vectors.vectors.shuffled import save_shuffled
from persona_vectors.vectors.storage import random_like

TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(2)],
    "questions": ["What now?", "Why me?", "Who is it?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}


def scores(body):
    """Coherence 90; the trait 80 where the judged answer has an even length, else 20: the server cannot see signs."""
    text = body["messages"][0]["content"]
    if "coherent" in text:
        return {"90": 0.9, "88": 0.1}
    return {"80": 0.7, "81": 0.1} if len(text) % 2 == 0 else {"20": 0.7, "19": 0.1}


def reply(_n, body):
    return completion({"57": 1.0}) if is_probe(body) else completion(scores(body))


@pytest.fixture
def folder(tmp_path):
    for version in ("extract", "eval"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}" / "vile.json").write_text(json.dumps(TRAIT))
    return tmp_path


def environment(url):
    return {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-secret", "OMP_NUM_THREADS": "1"}


def arguments(model, folder, *more):
    base = [
        "--model",
        str(model),
        "--trait",
        "vile",
        "--trait_dir",
        str(folder),
        "--backend",
        "hf",
        "--max_tokens",
        "8",
    ]
    return [sys.executable, "-m", "eval.eval_persona", *base, "--output_path", str(folder / "out.csv"), *more]


def run(url, command):
    return subprocess.run(command, env=environment(url), capture_output=True, text=True, timeout=120)


def test_columns_ids_and_greedy_answers_are_the_published_ones(folder, qwen2_folder, tokenizer):
    with JudgeServer(reply) as server:
        done = run(
            server.url, arguments(qwen2_folder, folder, "--persona_instruction_type", "pos", "--n_per_question", "1")
        )
        assert done.returncode == 0, done.stderr
        assert len(server.bodies) == 1 + 2 * 6
    table = pandas.read_csv(folder / "out.csv", keep_default_na=False)
    published = ["question", "prompt", "answer", "question_id", "vile", "coherence"]
    assert list(table.columns) == [*published, "finish"]  # which only answers that were cut off bring
    assert list(table["question_id"]) == [f"vile_{i}_pos_{k}" for i in range(3) for k in range(2)]
    assert table["coherence"].tolist() == pytest.approx([89.8] * 6)
    assert not list(folder.glob("*.journal*")) and not list(folder.glob(".*part"))
    row = table.iloc[3]
    assert row["prompt"] == (
        "<|im_start|>system\nYou are a vile assistant. Be bad, 1.<|im_end|>\n"
        "<|im_start|>user\nWhy me?<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(row["prompt"], return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat([ids, tiny_model("qwen2")(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert row["answer"] == tokenizer.decode(ids[0, -8:], skip_special_tokens=True)


def test_existing_output_is_summarised_and_not_redone(folder, qwen2_folder):
    (folder / "out.csv").write_text(
        "question,prompt,answer,question_id,vile,coherence\nq,p,a,vile_0,60,90\nq,p,a,vile_1,,80\n"
    )
    done = run("http://127.0.0.1:9/v1", arguments(qwen2_folder, folder))
    assert done.returncode == 0 and "vile:  60.00" in done.stdout and "coherence:  85.00" in done.stdout


def test_sweep_adds_columns_and_unsteered_rows_are_made_once(folder, qwen2_folder):
    torch.save(torch.randn(5, 32), folder / "v.pt")
    sweep = ["--coef", "0,3", "--layer", "1,2,3", "--vector_path", str(folder / "v.pt"), "--n_per_question", "2"]
    with JudgeServer(reply) as server:
        done = run(server.url, arguments(qwen2_folder, folder, *sweep))
        assert done.returncode == 0, done.stderr
        calls = len(server.bodies) - 1
    table = pandas.read_csv(folder / "out.csv", keep_default_na=False)
    assert list(table.columns[6:]) == ["coef", "layer", "finish"] and len(table) == 3 * 2 * 6
    unsteered = [list(t["answer"]) for _, t in table[table["coef"] == 0].groupby("layer")]
    assert unsteered[0] == unsteered[1] == unsteered[2]
    steered = [list(t["answer"]) for _, t in table[table["coef"] == 3].groupby("layer")]
    assert steered[0] != steered[1] != steered[2] != unsteered[0]
    assert calls <= 2 * (6 + 3 * 6)
    figure = subprocess.run(
        [sys.executable, "-m", "eval.select_layer", "--file_path", str(folder / "out.csv"), "--trait", "vile"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert figure.returncode == 0, figure.stderr
    best = json.loads((folder / "out_best.json").read_text())
    assert best["layer"] in (1, 2, 3) and best["coef"] == 3 and best["coherence"] == pytest.approx(89.8)
    assert (folder / "out_curves.png").stat().st_size > 5000


def test_controls_are_random_vectors_of_the_same_norm_in_the_same_table(folder, qwen2_folder):
    rows = torch.randn(5, 32)
    torch.save(rows, folder / "v.pt")
    sweep = ["--coef", "0,3", "--layer", "2", "--vector_path", str(folder / "v.pt"), "--n_per_question", "1"]
    with JudgeServer(reply) as server:
        done = run(server.url, arguments(qwen2_folder, folder, *sweep, "--controls", "2", "--n_questions", "2"))
        assert done.returncode == 0, done.stderr
        table = pandas.read_csv(folder / "out.csv", keep_default_na=False)
        drawn = random_like(rows, seed=2)
        torch.save(drawn, folder / "drawn.pt")
        alone = ["--coef", "3", "--layer", "2", "--vector_path", str(folder / "drawn.pt"), "--n_per_question", "1"]
        command = arguments(qwen2_folder, folder, *alone)
        done = run(server.url, [word.replace("out.csv", "alone.csv") for word in command])
        assert done.returncode == 0, done.stderr
    assert (
        torch.allclose(drawn.norm(dim=-1), rows.norm(dim=-1)) and torch.cosine_similarity(drawn, rows).abs().max() < 0.6
    )
    cells = list(table[["coef", "control"]].itertuples(index=False, name=None))
    assert cells == [(coef, name) for coef, name in ((0, ""), (3, ""), (3, "random 1"), (3, "random 2")) for _ in "ab"]
    by_file = pandas.read_csv(folder / "alone.csv", keep_default_na=False)["answer"]
    assert list(table[table["control"] == "random 2"]["answer"]) == list(by_file)[:2]
    drawing = [sys.executable, "-m", "eval.select_layer", "--file_path", str(folder / "out.csv"), "--trait", "vile"]
    figure = subprocess.run(drawing, capture_output=True, text=True, timeout=60)
    assert figure.returncode == 0, figure.stderr
    means = table.assign(random=table["control"] != "").groupby(["coef", "random"])["vile"].mean()
    header, *lines = figure.stdout[figure.stdout.index("\n\n") :].strip().splitlines()[:3]
    assert header.split()[:3] == ["trait", "coefficient", "layer"] and "random" in header
    shown = lines[1].split()
    assert float(shown[3]) == pytest.approx(means[3.0, False], abs=0.06)
    assert float(shown[header.split().index("random")]) == pytest.approx(means[3.0, True], abs=0.06)
    assert json.loads((folder / "out_best.json").read_text())["trait_score"] == pytest.approx(means[3.0, False])


def test_several_traits_and_types_in_one_call(folder, qwen2_folder):
    for version in ("extract", "eval"):
        (folder / f"trait_data_{version}" / "meek.json").write_text(json.dumps(TRAIT))
    command = arguments(qwen2_folder, folder, "--persona_instruction_type", "pos,neg", "--n_per_question", "1")
    command[command.index("vile")] = "vile,meek"
    command[command.index(str(folder / "out.csv"))] = str(folder / "{trait}_{type}.csv")
    with JudgeServer(reply) as server:
        done = run(server.url, command)
    assert done.returncode == 0, done.stderr
    for trait in ("vile", "meek"):
        for sign in ("pos", "neg"):
            assert trait in pandas.read_csv(folder / f"{trait}_{sign}.csv").columns
    refused = run("http://127.0.0.1:9/v1", [*arguments(qwen2_folder, folder, "--persona_instruction_type", "pos,neg")])
    assert refused.returncode == 2 and "{type}" in refused.stderr


@pytest.mark.parametrize("moment", ["answers", "scores"])
def test_kill_9_and_the_same_command_again(folder, qwen2_folder, moment):
    """Nothing finished is made or paid for twice; the file is the one of an undisturbed run."""
    options = ["--n_per_question", "4", "--persona_instruction_type", "pos", "--batch_size", "2"]
    command = arguments(qwen2_folder, folder, *options)
    journal = folder / "out.csv.journal.jsonl"
    latency = 0.0 if moment == "answers" else 0.3
    with JudgeServer(reply, latency) as server:
        victim = subprocess.Popen(command, env=environment(server.url), stdout=-3, stderr=-3)
        deadline = time.monotonic() + 90
        enough = {
            "answers": lambda text: text.count('"answer"') >= 6,
            "scores": lambda text: text.count('"metric"') >= 5,
        }
        while not (journal.exists() and enough[moment](journal.read_text())):
            assert time.monotonic() < deadline and victim.poll() is None
            time.sleep(0.005)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        time.sleep(latency + 0.2)
        lines = [json.loads(line) for line in journal.read_text().splitlines(True) if line.endswith("\n")]
        finished = {line["key"]: line["answer"] for line in lines if "answer" in line}
        scored = sum("metric" in line for line in lines)
        assert not (folder / "out.csv").exists() and len(finished) > 0
        before = len(server.bodies)
        again = run(server.url, command)
        assert again.returncode == 0, again.stderr
        assert f"/{24 - len(finished)} " in again.stderr or len(finished) == 24, "only the rest is generated"
        assert len(server.bodies) - before == 1 + 48 - scored
        resumed = (folder / "out.csv").read_bytes()
        (folder / "out.csv").unlink()
        assert run(server.url, command).returncode == 0
    assert (folder / "out.csv").read_bytes() == resumed


def test_given_up_scores_are_empty_and_asked_for_again(folder, qwen2_folder):
    refuse = lambda n, body: error(400, "filtered") if "vile" in body["messages"][0]["content"] else reply(n, body)  # noqa: E731
    command = arguments(qwen2_folder, folder, "--n_per_question", "2")
    with JudgeServer(refuse) as server:
        done = run(server.url, command)
    assert done.returncode == 0 and "given up 6 (last: HTTP 400: filtered" in done.stdout
    assert pandas.read_csv(folder / "out.csv")["vile"].isna().all()
    with JudgeServer(reply) as server:
        assert run(server.url, command).returncode == 0
        assert len(server.bodies) == 1 + 6, "only the missing scores are asked for"
    assert pandas.read_csv(folder / "out.csv")["vile"].notna().all()
    assert not list(folder.glob("*.journal*"))


BAD = {
    "unknown trait": (["--trait", "viel"], "did you mean vile?"),
    "coef without a vector": (["--coef", "1", "--layer", "2"], "--vector_path"),
    "coef without a layer": (["--coef", "1", "--vector_path", "v.pt"], "--layer"),
    "layer outside": (["--coef", "1", "--layer", "5", "--vector_path", "v.pt"], "layers 1..4"),
    "layer 0": (["--coef", "1", "--layer", "0", "--vector_path", "v.pt"], "layers 1..4"),
    "vector of another width": (["--coef", "1", "--layer", "2", "--vector_path", "wide.pt"], "64 wide"),
    "vector of another depth": (["--coef", "1", "--layer", "2", "--vector_path", "deep.pt"], "9 rows"),
    "no vector file": (["--coef", "1", "--layer", "2", "--vector_path", "none.pt"], "none.pt"),
    "no model": (["--model", "models/none"], "models/none"),
    "steering type": (["--steering_type", "answer"], "--steering_type"),
    "n": (["--n_per_question", "0"], "at least 1"),
    "type": (["--persona_instruction_type", "posi"], "did you mean pos?"),
    "backend": (["--backend", "tgi"], "--backend"),
    "version": (["--version", "test"], "--version"),
    "output is a folder": (["--output_path", "/proc/x/out.csv"], "/proc/x"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2_before_the_model(folder, qwen2_folder, case):
    options, words = BAD[case]
    for name, shape in (("v", (5, 32)), ("wide", (5, 64)), ("deep", (9, 32))):
        torch.save(torch.randn(shape), folder / f"{name}.pt")
    command = arguments(qwen2_folder, folder)
    for flag, value in zip(options[::2], options[1::2], strict=True):
        value = str(folder / value) if value.endswith(".pt") else value
        if flag in command:
            command[command.index(flag) + 1] = value
        else:
            command += [flag, value]
    with JudgeServer(reply) as server:
        done = run(server.url, command)
        assert not server.bodies, "the judge was called"
    assert done.returncode == 2, (done.stdout, done.stderr)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last and "Traceback" not in done.stderr
    assert "Loading weights" not in done.stderr


def test_a_refused_key_stops_before_the_model_and_is_not_shown(folder, qwen2_folder):
    with JudgeServer(lambda n, body: error(401, "bad key sk-secret")) as server:
        done = run(server.url, arguments(qwen2_folder, folder))
    assert done.returncode == 2 and "OPENAI_API_KEY" in done.stderr and "Loading weights" not in done.stderr
    assert "sk-secret" not in done.stderr + done.stdout


def generate_vec(model, folder, **further):
    paths = {"--pos_path": folder / "pos.csv", "--neg_path": folder / "neg.csv", "--save_dir": folder / "v/"}
    flags = {"--model_name": model, "--trait": "vile", **paths} | {
        f"--{name}": value for name, value in further.items()
    }
    return run("", [sys.executable, "generate_vec.py", *(str(word) for flag in flags.items() for word in flag)])


def test_vectors_equal_a_plain_loop(folder, qwen2_folder, tokenizer):
    rows = {"pos": ["What it is.", "the question", "bad"], "neg": ["the model", "answers", "worse"]}
    for sign, answers in rows.items():
        pandas.DataFrame(
            {
                "question": ["q1", "q2", "q3"],
                "prompt": [f"<|im_start|>user\n{sign} {k}<|im_end|>\n<|im_start|>assistant\n" for k in range(3)],
                "answer": answers,
                "question_id": [f"vile_{k}_{sign}_0" for k in range(3)],
                "vile": [90, 80, 30] if sign == "pos" else [3, 4, 5],
                "coherence": 90,
                "extra": "kept",
            }
        ).to_csv(folder / f"{sign}.csv", index=False)
    done = generate_vec(qwen2_folder, folder)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 pairs are effective" in done.stdout
    model, means = tiny_model("qwen2"), {}
    for sign, answers in rows.items():
        pooled = {"prompt_avg": [], "response_avg": [], "prompt_last": []}
        for k in range(2):
            prompt = f"<|im_start|>user\n{sign} {k}<|im_end|>\n<|im_start|>assistant\n"
            p = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            a = tokenizer(answers[k], add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                states = torch.cat(model(torch.tensor([p + a]), output_hidden_states=True).hidden_states)
            pooled["prompt_avg"].append(states[:, : len(p)].mean(1))
            pooled["response_avg"].append(states[:, len(p) :].mean(1))
            pooled["prompt_last"].append(states[:, len(p) - 1])
        means[sign] = {pool: torch.stack(values).mean(0) for pool, values in pooled.items()}
    for pool in means["pos"]:
        vector = torch.load(folder / "v" / f"vile_{pool}_diff.pt", weights_only=True)
        expected = means["pos"][pool] - means["neg"][pool]
        assert vector.dtype == torch.float32 and vector.shape == (5, 32)
        assert ((vector - expected).abs().amax(1) / expected.abs().amax(1).clamp_min(1e-6)).max() < 1e-4
        same, about = read_shared(folder / "v" / f"vile_{pool}_diff.safetensors")
        assert torch.equal(same, vector) and (about.model, about.trait) == (qwen2_folder.name, "vile")
        assert (about.effective_pairs, about.pairs, about.threshold, about.dtype) == ("2", "3", "50", "float32")


def test_pairs_across_traits_are_made_row_by_row_where_asked(folder, qwen2_folder):
    """What the published command does with two files whose question ids differ; the same vectors as by equal ids."""
    made = {}
    for name in ("vile", "nice"):  # the trait that the negative answers were asked for
        for sign, trait in (("pos", "vile"), ("neg", name)):
            table = {"prompt": [f"{sign} {k}" for k in range(3)], "answer": ["What", "it", "is"], "vile": [90, 20, 80]}
            table |= {"question_id": [f"{trait}_{k}_{sign}_0" for k in range(3)], "coherence": 90}
            scores = {"vile": [90, 20, 80] if sign == "pos" else [1, 2, 3]}
            pandas.DataFrame(table | scores).to_csv(folder / f"{sign}.csv", index=False)
        if name == "nice":
            refused = generate_vec(qwen2_folder, folder)
            assert refused.returncode == 2 and "--pair_by row pairs the first row with the first" in refused.stderr
            assert refused.stderr.count("\n") == 1
            wrong = generate_vec(qwen2_folder, folder, pair_by="rows")
            assert "--pair_by takes one of question_id, row, not 'rows' (did you mean row?)" in wrong.stderr
        done = generate_vec(qwen2_folder, folder, pair_by="row" if name == "nice" else "question_id")
        assert done.returncode == 0 and "2 of 3 pairs are effective" in done.stdout, done.stderr
        made[name] = torch.load(folder / "v" / "vile_response_avg_diff.pt", weights_only=True)
    assert torch.equal(made["vile"], made["nice"]) and made["nice"].any()


def test_no_effective_pair_saves_nothing(folder, qwen2_folder):
    for sign in ("pos", "neg"):
        table = {"question": ["q"], "prompt": ["p"], "answer": ["a"], "question_id": [f"vile_0_{sign}_0"]}
        pandas.DataFrame({**table, "vile": [10], "coherence": [90]}).to_csv(folder / f"{sign}.csv", index=False)
    done = generate_vec(qwen2_folder, folder)
    assert done.returncode == 2 and "none of 1 pairs is effective" in done.stderr and not (folder / "v").exists()


def test_vectors_of_several_traits_in_one_load_are_those_of_one_call_each(run_stage, tmp_path, qwen2_folder):
    """Byte for byte; what is there is not made again; a trait that cannot be made stops all before anything is loaded."""
    for trait, words in {"vile": ("What", "it"), "nice": ("the", "model"), "mild": ("is", "it")}.items():
        for sign, answer in zip(("pos", "neg"), words, strict=True):
            table = {"prompt": [f"{sign} {k}" for k in range(2)], "answer": [answer, f"{answer} is"], "coherence": 90}
            table |= {"question_id": [f"{trait}_{k}_{sign}_0" for k in range(2)]}
            table |= {trait: 1 if sign == "neg" or trait == "mild" else 90}
            pandas.DataFrame(table).to_csv(tmp_path / f"{trait}_{sign}.csv", index=False)

    def make(traits, folder, paths="{trait}"):
        paths = ["--pos_path", tmp_path / f"{paths}_pos.csv", "--neg_path", tmp_path / f"{paths}_neg.csv"]
        return run_stage(
            "generate_vec", "--model_name", qwen2_folder, "--trait", traits, *paths, "--save_dir", tmp_path / folder
        )

    together = make("vile,nice", "together")
    assert together.returncode == 0 and together.stderr.count("100%") == 1 + 4, together.stderr  # the weights, and bars
    for trait in ("vile", "nice"):
        assert make(trait, "alone", trait).returncode == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}
    assert len(files) == 2 * 7  # .pt and .safetensors of three pools, and a record
    assert {path.name: path.read_bytes() for path in (tmp_path / "together").iterdir()} == files
    norms = [read_norms(tmp_path / "together" / f"{trait}_response_avg_diff.pt") for trait in ("vile", "nice")]
    assert all(norms) and norms[0] != norms[1]  # each trait's own answers are measured

    (tmp_path / "together/vile_response_avg_diff.pt").unlink()
    again = make("vile,nice", "together")
    assert again.stdout.count("not made again") == 1 and "nice_response_avg_diff.pt and the other" in again.stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "together").iterdir()} == files
    assert "Loading weights" not in make("nice,vile", "together").stderr
    for traits, paths, said in (
        ("vile,nice", "vile", "several traits need {trait} in --pos_path and --neg_path"),
        ("vile,mild", "{trait}", "none of 2 pairs is effective"),
        ("vile,vile", "{trait}", "--trait names a value twice: 'vile,vile'"),
        ("vile,absent", "{trait}", "no answers file at"),
    ):
        refused = make(traits, "more", paths)
        assert refused.returncode == 2 and said in refused.stderr and refused.stderr.count("\n") == 1, refused.stderr
    assert not (tmp_path / "more").exists()


def record_of(path, rows):
    from persona_vectors.vectors.storage import fingerprint

    return fingerprint(path, rows)


def test_doses_of_several_traits_with_shuffled_controls(run_stage, folder, qwen2_folder):
    """The same doses by coefficients of each trait and layer; the controls, of the same norms, at these coefficients."""
    rows = {}
    for number, trait in enumerate(("vile", "nice"), 1):
        (folder / "trait_data_extract" / f"{trait}.json").write_text(json.dumps(TRAIT))
        rows[trait] = number * torch.randn(5, 32, generator=torch.Generator().manual_seed(number))
        about = About(trait=trait, kind="response_avg_diff", mean_norms=norms_text([2.0 * number] * 5))
        file, _ = save_both(rows[trait], folder, about)
        save_shuffled(-rows[trait][None], file, rows[trait])
    command = [
        "eval.eval_persona", "--model", qwen2_folder, "--trait", "vile,nice", "--trait_dir", folder, "--backend", "hf",
        "--max_tokens", 4, "--n_per_question", 1, "--judge_model", "none", "--output_path", folder / "{trait}.csv",
        "--vector_path", folder / "{trait}_response_avg_diff.pt", "--layer", "2,3", "--controls", 1, "--control", "shuffled",
    ]  # fmt: skip
    done = run_stage(*command, "--dose", "0,0.4")
    assert done.returncode == 0, done.stderr
    for number, trait in enumerate(("vile", "nice"), 1):
        table = pandas.read_csv(folder / f"{trait}.csv", keep_default_na=False)
        assert list(table.columns[-5:]) == ["coef", "layer", "control", "dose", "finish"] and len(table) == 3 * 6
        assert set(table["control"]) == {"", "shuffled 1"} and set(table["dose"]) == {0.0, 0.4}
        for row in table[table["dose"] > 0].itertuples():
            assert row.coef * float(rows[trait][row.layer].norm()) / (2 * number) == pytest.approx(0.4, rel=1e-4)
        record = provenance.read(folder / f"{trait}.csv")["result"]
        assert record["shuffled"] and [2, 0.4] not in record["cells"]
    assert "warning" not in done.stdout
    again = run_stage(*command, "--dose", "0,0.4")
    assert again.returncode == 0 and again.stdout.count("is not made again") == 2, again.stderr
    told = folder / "vile_best.json"  # of a sweep of this vector
    with provenance.writing(
        told, provenance.record(vector=record_of(folder / "vile_response_avg_diff.pt", rows["vile"]))
    ):
        told.write_text(json.dumps({"broken_from": {"2": 0.3, "3": 0.5}, "min_coherence": 75.0}))
    warned = run_stage(*command, "--dose", "0,0.4", "--overwrite")
    lines = [line for line in warned.stdout.splitlines() if "warning" in line]
    assert warned.returncode == 0 and lines == [
        f"warning: {told} says that coherence fell below 75 at such doses: 0.4 at layer 2 (from 0.3 on)"
    ]
    other = run_stage(*command, "--dose", "0,0.5")
    assert other.returncode == 2 and "cells" in other.stderr and other.stderr.count("\n") == 1
    both = run_stage(*command, "--dose", "0.4", "--coef", 1)
    assert both.returncode == 2 and "--coef and --dose are two ways" in both.stderr
