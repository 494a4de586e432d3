"""What a run costs, said before it is made: the counts are those of the run that follows; a limit stops it and it goes on."""

import json
import re
from pathlib import Path

import pandas
import pytest
import torch
from batch_server import BatchServer
from judge_server import JudgeServer, completion, is_probe

from persona_vectors.models import chat_template

TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(2)],
    "questions": ["What now?", "Why me?", "Who is it?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return with_trait(tmp_path, monkeypatch, TRAIT)


def with_trait(folder, monkeypatch, trait):
    """The folder with an artifact, a key, and no encoding of tiktoken's."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder / "tiktoken"))
    for version in ("extract", "eval"):
        (folder / f"trait_data_{version}").mkdir()
        (folder / f"trait_data_{version}" / "vile.json").write_text(json.dumps(trait))
    return folder


class Counting:
    """A judge that says what it used: by the tokenizer of a model that it serves, times ``factor``."""

    def __init__(self, tokenizer, factor=1):
        self.tokenizer, self.factor = tokenizer, factor

    def used(self, body):
        return len(chat_template.token_ids(self.tokenizer, chat_template.render(self.tokenizer, body["messages"])))

    def __call__(self, _n, body):
        status, headers, reply = completion({"57": 1.0} if is_probe(body) else {"80": 1.0})
        usage = {"prompt_tokens": self.factor * self.used(body), "completion_tokens": self.factor}
        return status, headers, {**reply, "usage": usage}


def numbers(text):
    """{what: number} of a dry run: answers, calls, scores, and the largest numbers of tokens."""
    found = {"answers": r"answers: ([\d,]+) to make", "prompts": r"([\d,]+) tokens of prompts"}
    found |= {"most answer tokens": r"([\d,]+) tokens of answers", "calls": r"judge: ([\d,]+) calls"}
    found |= {"scores": r"([\d,]+) scores", "judge tokens": r"judge tokens: .*?([\d,]+) in,"}
    return {name: int(re.search(pattern, text)[1].replace(",", "")) for name, pattern in found.items()}


def stage(run_stage, folder, model, *more):
    base = ["--model", model, "--trait", "vile", "--trait_dir", folder, "--backend", "hf", "--max_tokens", 8]
    return run_stage("eval.eval_persona", *base, "--output_path", folder / "out.csv", *more)


def prices(folder, **models):
    path = folder / "prices.json"
    path.write_text(
        json.dumps({"date": "today", "models": {n: {"input": i, "output": o} for n, (i, o) in models.items()}})
    )
    return path


def edit_journal(folder, change):
    """Rewrite the records of an unfinished run, as if it had gone otherwise."""
    path = folder / "out.csv.journal.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in change(records)))


def unfinished(run_stage, folder, model, url, monkeypatch, change):
    """Leave the journal of a run that had all answers and scores; ``change`` takes some of its records away."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    kept = {}
    journal = folder / "out.csv.journal.jsonl"
    remove = Path.unlink

    def keep(self, missing_ok=False):
        if self == journal:
            kept["text"] = journal.read_text()
        remove(self, missing_ok=missing_ok)

    with monkeypatch.context() as watching:
        watching.setattr(Path, "unlink", keep)
        assert stage(run_stage, folder, model, "--judge_model", model).returncode == 0
    (folder / "out.csv").unlink()
    journal.write_text(kept["text"])
    edit_journal(folder, change)


def answers_of(records):
    return [record for record in records if "answer" in record]


CHANGES = {
    "nothing there": lambda records: records[:1],
    "half of the answers": lambda records: [r for r in records if "metric" not in r][: 1 + 15],
    "answers without scores": lambda records: [r for r in records if "metric" not in r],
    "some scores": lambda records: (
        [r for r in records if "metric" not in r] + [r for r in records if "metric" in r][:9]
    ),
    "empty answers": lambda records: [
        {**r, "answer": " "} if "answer" in r and r["key"].endswith("|0") else r for r in records if "metric" not in r
    ],
    "all there": lambda records: records,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_dry_run_counts_what_the_run_then_makes(run_stage, folder, qwen2_folder, tokenizer, monkeypatch, change):
    judge = Counting(tokenizer)
    with JudgeServer(judge) as server:
        unfinished(run_stage, folder, qwen2_folder, server.url, monkeypatch, CHANGES[change])
        before, listing = len(server.bodies), {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        flags = ["--judge_model", qwen2_folder]
        dry = stage(run_stage, folder, qwen2_folder, *flags, "--dry_run")
        assert dry.returncode == 0, dry.stderr
        assert len(server.bodies) == before and listing == {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        there = sum(b'"answer":' in line for line in listing[folder / "out.csv.journal.jsonl"].splitlines())
        done = stage(run_stage, folder, qwen2_folder, *flags)
        assert done.returncode == 0, done.stderr
        made = server.bodies[before:]
    said, table = numbers(dry.stdout), pandas.read_csv(folder / "out.csv", keep_default_na=False)
    assert said["calls"] == len(made) == said["scores"] + 1
    assert said["answers"] == len(table) - there
    used = sum(map(judge.used, made))
    if said["answers"]:
        assert f"at most {said['judge tokens']:,} in" in dry.stdout and used <= 1.02 * said["judge tokens"]
        rest = table.iloc[there:]["prompt"]
        assert said["prompts"] == sum(len(chat_template.token_ids(tokenizer, prompt)) for prompt in rest)
        assert said["most answer tokens"] == 8 * len(rest)
    else:  # every prompt is there: the count is the judge's own
        assert said["judge tokens"] == used
    assert f"no price of {qwen2_folder}" in dry.stdout and "counted by the tokenizer of" in dry.stdout


def test_answers_to_come_are_estimated_by_the_mean_of_those_there(
    run_stage, folder, qwen2_folder, tokenizer, monkeypatch
):
    judge = Counting(tokenizer)
    with JudgeServer(judge) as server:
        unfinished(run_stage, folder, qwen2_folder, server.url, monkeypatch, CHANGES["half of the answers"])
        edit_journal(folder, lambda records: [{k: v for k, v in r.items() if k != "pace"} for r in records])
        file = prices(folder, **{str(qwen2_folder): (1.0, 2.0)})
        before = len(server.bodies)
        flags = ["--judge_model", qwen2_folder, "--prices", file]
        dry = stage(run_stage, folder, qwen2_folder, *flags, "--dry_run")
        assert stage(run_stage, folder, qwen2_folder, *flags).returncode == 0
        used = sum(map(judge.used, server.bodies[before:]))
        calls = len(server.bodies) - before
    about = int(re.search(r"judge tokens: about ([\d,]+), at most", dry.stdout)[1].replace(",", ""))
    assert about == pytest.approx(used, rel=0.02)
    cost = float(re.search(r"cost: about \$([\d.]+), at most \$[\d.]+ \(by prices.json of today", dry.stdout)[1])
    assert cost == pytest.approx((used + 2 * calls) / 1e6, rel=0.02, abs=1.1e-4)


def test_a_limit_stops_before_a_run_and_in_its_middle_and_the_same_command_goes_on(
    run_stage, folder, qwen2_folder, tokenizer, monkeypatch
):
    judge = Counting(tokenizer, factor=2)  # uses twice what was counted
    file = prices(folder, **{str(qwen2_folder): (1e6, 0)})  # a dollar a token
    flags = ["--judge_model", qwen2_folder, "--prices", file, "--n_per_question", 1, "--max_concurrent_judges", 1]
    with JudgeServer(judge) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        dry = stage(run_stage, folder, qwen2_folder, *flags, "--dry_run")
        assert numbers(dry.stdout)["calls"] == 1 + 6
        most = numbers(dry.stdout)["judge tokens"]
        refused = stage(run_stage, folder, qwen2_folder, *flags, "--max_cost", 100)
        assert (refused.returncode, server.bodies) == (3, []) and not list(folder.glob("out*"))
        assert re.search(
            r"error: this run costs at least \$[\d,.]+, more than --max_cost 100: nothing was asked", refused.stderr
        )
        limit = 1.1 * most
        stopped = stage(run_stage, folder, qwen2_folder, *flags, "--max_cost", limit)
        assert (
            stopped.returncode == 3
            and "the same command goes on" in stopped.stderr
            and "Traceback" not in stopped.stderr
        )
        paid = sum(2 * judge.used(body) for body in server.bodies)
        assert 0.3 * limit < paid <= limit
        first = len(server.bodies)
        dry = stage(run_stage, folder, qwen2_folder, *flags, "--dry_run")
        missing = numbers(dry.stdout)["scores"]
        assert missing == 6 - (first - 1) > 0 and "minutes, at the pace of the unfinished run" in dry.stdout
        runs = 1
        while stopped.returncode == 3 and runs < 4:
            stopped, runs = stage(run_stage, folder, qwen2_folder, *flags, "--max_cost", limit), runs + 1
        assert stopped.returncode == 0, stopped.stderr
        assert len(server.bodies) == runs + 6  # probes, and each score once
    assert pandas.read_csv(folder / "out.csv")["vile"].tolist() == [80.0] * 3


def test_batches_cost_half_and_are_counted_once(run_stage, folder, qwen2_folder, tokenizer, monkeypatch):
    file = prices(folder, **{str(qwen2_folder): (2.0, 0)})
    flags = ["--judge_model", qwen2_folder, "--prices", file, "--judge_batch"]
    with BatchServer(Counting(tokenizer)) as server:
        unfinished(run_stage, folder, qwen2_folder, server.url, monkeypatch, CHANGES["answers without scores"])
        chats = len(server.chats)
        dry = stage(run_stage, folder, qwen2_folder, *flags, "--dry_run")
        done = stage(run_stage, folder, qwen2_folder, *flags)
        assert done.returncode == 0, done.stderr
        sent = sum(len(entry["content"]) for entry in server.batches.values())
        said = numbers(dry.stdout)
        assert said["calls"] == sent + len(server.chats) - chats and f"{sent} to be sent in batches" in dry.stdout
        cost = float(re.search(r"cost: \$([\d.]+) \(by prices.json of today, batch", dry.stdout)[1])
        assert cost == pytest.approx(said["judge tokens"] / 1e6, abs=1.1e-4)
        assert not server.wrong and pandas.read_csv(folder / "out.csv")["vile"].tolist() == [80.0] * 30


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max_cost", "1"], "--max_cost needs the price of "),
        (["--max_cost", "-1"], "--max_cost must be at least 0"),
        (["--prices", "nowhere.json"], "no file at nowhere.json"),
        (["--judge_model", "likelihood", "--judge_batch"], "--judge_batch goes with a judge behind an endpoint"),
    ],
)
def test_what_is_refused(run_stage, folder, flags, said):
    flags = flags if "--judge_model" in flags else [*flags, "--judge_model", "unheard-of"]
    done = stage(run_stage, folder, "no-such-model", *flags)
    assert done.returncode == 2 and said in done.stderr


def test_a_likelihood_judge_costs_no_calls(run_stage, folder, qwen2_folder):
    done = stage(run_stage, folder, qwen2_folder, "--judge_model", "likelihood", "--dry_run", "--max_cost", 1)
    assert done.returncode == 0 and "answers: 30 to make" in done.stdout and "judge: no calls" in done.stdout


def test_monitor_counts_as_well(run_stage, folder, qwen2_folder, tokenizer, monkeypatch):
    torch.save(torch.randn(5, 32), folder / "v.pt")
    (folder / "monitoring").mkdir()
    (folder / "monitoring" / "vile.json").write_text(
        json.dumps({"system_prompts": [f"Be {'very ' * k}bad." for k in range(8)]})
    )
    flags = ["--model", qwen2_folder, "--trait", "vile", "--trait_dir", folder, "--vector_path", folder / "v.pt"]
    flags += ["--layer", 2, "--backend", "hf", "--max_tokens", 4, "--n_per_question", 1, "--output_dir", folder / "m"]
    flags += ["--judge_model", qwen2_folder]
    with JudgeServer(Counting(tokenizer)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        dry = run_stage("eval.monitor", *flags, "--dry_run")
        assert dry.returncode == 0 and not server.bodies and not (folder / "m").exists(), dry.stderr
        done = run_stage("eval.monitor", *flags)
        assert done.returncode == 0, done.stderr
        assert numbers(dry.stdout)["calls"] == len(server.bodies) and numbers(dry.stdout)["answers"] == 24
        assert "answers: 0 to make" in run_stage("eval.monitor", *flags, "--dry_run").stdout


TO_COME = {
    "a vector": (["--coef", "0,1,2", "--vector_path", "none/{trait}.pt", "--layer", "2,3"], 3 * 5),  # 0 counts once
    "of a dict of tensors": (["--coef", 1, "--vector_path", "none.pt:evil", "--layer", "all"], 3),
    "doses": (["--dose", "0.1,0.2", "--vector_path", "none/{trait}.pt", "--layer", 2], 3 * 2),
    "its controls": (
        ["--coef", 1, "--vector_path", "none/v.pt", "--layer", 2, "--controls", 2, "--control", "shuffled"],
        3 * 3,
    ),
    "a list of them": (["--coef", "0,1", "--steering", "list.json"], 3 * 2),
}


@pytest.mark.parametrize("case", TO_COME)
def test_a_vector_that_is_not_there_yet_does_not_stop_a_dry_run_and_does_stop_the_run(
    run_stage, folder, qwen2_folder, monkeypatch, case
):
    monkeypatch.chdir(folder)
    Path("list.json").write_text(json.dumps([{"vector": "none/{trait}.pt", "layer": 2}]))
    flags, answers = TO_COME[case]
    flags = [*flags, "--n_per_question", 1, "--judge_model", "none", "--version", "eval"]
    dry = stage(run_stage, folder, qwen2_folder, *flags, "--dry_run")
    assert dry.returncode == 0, dry.stderr
    assert f"answers: {answers:,} to make" in dry.stdout and "not there yet: none" in dry.stdout
    run = stage(run_stage, folder, qwen2_folder, *flags)
    assert run.returncode == 2 and "no vector file at none" in run.stderr and not list(folder.glob("out*"))


def test_monitoring_is_foreseen_before_vectors_layer_and_answers_are_there(
    run_stage, folder, qwen2_folder, monkeypatch
):
    monkeypatch.chdir(folder)
    Path("monitoring").mkdir()
    Path("monitoring/vile.json").write_text(json.dumps({"system_prompts": ["Be bad.", "Be good."]}))
    asked = ["--model", qwen2_folder, "--trait", "vile", "--trait_dir", ".", "--backend", "hf", "--max_tokens", 8]
    asked += ["--vector_path", "none.pt", "--layer", "best.json", "--output_dir", "out", "--n_per_question", 1]
    asked += ["--kind", "system_prompts,many_shot", "--shots", "0,2", "--judge_model", "gpt-4.1-mini"]
    asked += ["--pos_path", "pos.csv", "--neg_path", "neg.csv"]
    dry = run_stage("eval.monitor", *asked, "--dry_run")
    assert dry.returncode == 0, dry.stderr
    assert numbers(dry.stdout)["answers"] == 3 * 2 + 3 * 2 and numbers(dry.stdout)["calls"] == 1 + 2 * 12
    assert "whether there will be 2 effective pairs" in dry.stdout and not Path("out").exists()
    assert run_stage("eval.monitor", *asked).returncode == 2
