"""Costs where scores were paid for before, where several judges score, and at endpoints with names: all counts are the run's."""

import re
from pathlib import Path

import pandas
import pytest
from batch_server import BatchServer
from judge_server import JudgeServer
from test_costs import CHANGES, TRAIT, Counting, edit_journal, numbers, prices, with_trait

FOUR_PAIRS = [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(4)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return with_trait(tmp_path, monkeypatch, {**TRAIT, "instruction": FOUR_PAIRS})


@pytest.fixture
def persona(folder, run_stage, qwen2_folder):
    def run(*more, model=qwen2_folder, output="out.csv", stage="eval.eval_persona"):
        flags = ["--trait", "vile", "--trait_dir", folder, "--backend", "hf", "--max_tokens", 8, "--n_per_question", 2]
        return run_stage(stage, "--model", model, *flags, "--output_path", output, *map(str, more))

    return run


def leave_unfinished(persona, monkeypatch, change, *flags):
    """The journal of a run that had everything; ``change`` takes some of its records away."""
    journal, kept, remove = Path("out.csv.journal.jsonl"), {}, Path.unlink

    def keep(self, missing_ok=False):
        if self == journal:
            kept["text"] = journal.read_text()
        remove(self, missing_ok=missing_ok)

    with monkeypatch.context() as watching:
        watching.setattr(Path, "unlink", keep)
        done = persona(*flags)
        assert done.returncode == 0, done.stderr
    Path("out.csv").unlink()
    journal.write_text(kept["text"])
    edit_journal(Path(), change)


def forget(cache, part):
    """Take every ``part``-th score out of the cache of scores."""
    import sqlite3

    base = sqlite3.connect(cache)
    with base:
        scores = [
            key for key, value in base.execute("SELECT * FROM kept ORDER BY key") if re.fullmatch(r"[\d.]+", value)
        ]
        base.executemany("DELETE FROM kept WHERE key = ?", [(key,) for key in scores[::part]])
    base.close()
    return len(scores[::part])


@pytest.mark.parametrize("lost", ["none", "some", "the judge"])
def test_scores_in_the_cache_are_counted_as_free(
    persona, folder, tokenizer, qwen2_folder, monkeypatch, score_cache, lost
):
    file = prices(folder, **{str(qwen2_folder): (1.0, 2.0)})
    flags = ["--judge_model", qwen2_folder, "--prices", file]
    judge = Counting(tokenizer)
    with JudgeServer(judge) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        leave_unfinished(persona, monkeypatch, CHANGES["answers without scores"], *flags)
        if lost == "the judge":
            score_cache.unlink()
        gone = forget(score_cache, 3) if lost == "some" else 0
        before, content = len(server.bodies), score_cache.read_bytes() if score_cache.exists() else None
        dry = persona(*flags, "--dry_run")
        assert dry.returncode == 0 and len(server.bodies) == before, dry.stderr
        assert (score_cache.read_bytes() if score_cache.exists() else None) == content, "the cache was changed"
        least = 0 if lost == "none" else 1e-9
        assert persona(*flags, "--max_cost", least).returncode == (0 if lost == "none" else 3)
        assert len(server.bodies) == before
        done = persona(*flags)
        assert done.returncode == 0, done.stderr
        made = server.bodies[before:]
    said = numbers(dry.stdout)
    assert (said["calls"], said["scores"]) == (len(made), 12)
    assert said["judge tokens"] == sum(map(judge.used, made))
    if lost == "none":
        assert not made and "12 of them free" in dry.stdout and "cost: $0.00" in dry.stdout
    if lost == "some":
        assert len(made) == 1 + gone and f"{12 - gone} of them free" in dry.stdout
    if lost == "the judge":
        assert len({body["messages"][0]["content"] for body in made}) == len(made) > 2


def test_a_limit_does_not_count_what_the_cache_gives(
    persona, folder, tokenizer, qwen2_folder, monkeypatch, score_cache
):
    """All of it again to another output: the same answers come, and nothing may be spent. Without the cache it may not begin."""
    flags = ["--judge_model", qwen2_folder, "--prices", prices(folder, **{str(qwen2_folder): (1e6, 0)})]
    with JudgeServer(Counting(tokenizer)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert persona(*flags).returncode == 0
        calls = len(server.bodies)
        done = persona(*flags, "--max_cost", 0, output="again.csv")
        assert done.returncode == 0 and "12 scores came from the cache" in done.stdout, done.stderr
        assert "cost: at most $" in persona(*flags, "--dry_run", output="third.csv").stdout
        assert persona(*flags, "--max_cost", 0, "--no_cache", output="third.csv").returncode == 3
        new = persona(*flags, "--max_cost", 1, "--seed", 5, output="third.csv")
        assert (
            new.returncode == 3 and "(unless scores of the answers to come are in the cache), more than" in new.stderr
        )
        assert len(server.bodies) == calls
    assert Path("out.csv").read_bytes() == Path("again.csv").read_bytes() and not Path("third.csv").exists()


def test_batches_take_from_the_cache_and_give_to_it(persona, tokenizer, qwen2_folder, monkeypatch, score_cache):
    flags = ["--judge_model", qwen2_folder]
    with BatchServer(Counting(tokenizer)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        leave_unfinished(persona, monkeypatch, CHANGES["answers without scores"], *flags)
        gone, chats = forget(score_cache, 3), len(server.chats)
        dry = persona(*flags, "--judge_batch", "--dry_run")
        done = persona(*flags, "--judge_batch")
        assert done.returncode == 0, done.stderr
        sent = sum(len(entry["content"]) for entry in server.batches.values())
        assert (sent, len(server.chats) - chats) == (gone, 1) and f"{gone} to be sent in batches" in dry.stdout
        assert numbers(dry.stdout)["calls"] == gone + 1
        assert f"{12 - gone} of them in the cache of scores" in dry.stdout
        # What the batch has brought is what single calls find, and the other way round.
        for more in ([], ["--judge_batch"]):
            again = persona(*flags, *more, output=f"again{len(more)}.csv")
            assert again.returncode == 0 and "judge calls: 0," in again.stdout, again.stderr
            assert "12 scores came from the cache" in again.stdout
        assert len(server.batches) == 1 and len(server.chats) == chats + 1 and not server.wrong


def test_several_judges_are_summed_and_each_endpoint_has_its_own_price(
    persona, folder, tokenizer, qwen2_folder, monkeypatch, score_cache
):
    monkeypatch.setenv("LAB_API_KEY", "key-of-lab")
    monkeypatch.delenv("OPENAI_API_KEY")
    judges = f"{qwen2_folder},lab:y"
    file = prices(folder, **{str(qwen2_folder): (1.0, 0), "y": (10.0, 0)})
    flags = ["--judge_model", judges, "--prices", file]
    with JudgeServer(Counting(tokenizer)) as server, JudgeServer(Counting(tokenizer)) as lab:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("LAB_BASE_URL", lab.url)
        leave_unfinished(persona, monkeypatch, CHANGES["answers without scores"], *flags)
        score_cache.unlink()
        before = len(server.bodies), len(lab.bodies)
        dry = persona(*flags, "--dry_run")
        assert persona(*flags).returncode == 0
        made = len(server.bodies) - before[0], len(lab.bodies) - before[1]
    assert dry.returncode == 0, dry.stderr
    assert [int(n) for n in re.findall(r"judge: (\d+) calls to ", dry.stdout)] == list(made)
    costs = [float(cost) for cost in re.findall(r"\ncost: \$([\d.]+) \(by prices.json", dry.stdout)]
    both = float(re.search(rf"judges together: {sum(made)} calls; cost \$([\d.]+)", dry.stdout)[1])
    assert len(costs) == 2 and costs[0] > 0 and both == pytest.approx(sum(costs), abs=2e-4)
    assert costs[1] == pytest.approx(10 * costs[0], rel=0.5) and "although the endpoint is" in dry.stdout


def test_an_endpoint_with_a_name_takes_batches(persona, folder, tokenizer, qwen2_folder, monkeypatch):
    monkeypatch.setenv("LAB_API_KEY", "key-of-lab")
    file = prices(folder, m=(1.0, 0))
    with BatchServer(Counting(tokenizer)) as server:
        monkeypatch.setenv("LAB_BASE_URL", server.url)
        flags = ["--judge_model", "lab:m", "--judge_batch", "--prices", file]
        done = persona(*flags, "--max_cost", 1)
        assert done.returncode == 0, done.stderr
        sent = [line["body"]["model"] for entry in server.batches.values() for line in entry["content"]]
        assert set(sent) == {"m"} and len(server.chats) == 1 and not server.wrong
    assert pandas.read_csv("out.csv")["vile"].tolist() == [80.0] * 6


def test_answers_alone_and_several_models_cost_nothing(persona, qwen2_folder, folder):
    done = persona("--judge_model", "none", "--dry_run")
    assert done.returncode == 0 and "answers: 6 to make" in done.stdout and "judge: no calls" in done.stdout
    for name in ("a", "b"):
        Path(f"model_{name}").symlink_to(qwen2_folder)
    done = persona("--judge_model", "none", "--dry_run", model="model_*", output="{model}.csv")
    assert done.returncode == 0 and done.stdout.count("answers: 6 to make") == 2, done.stderr
    assert not list(Path().glob("*.csv*"))
    refused = persona("--max_cost", 1, model="model_*", output="{model}.csv")
    assert refused.returncode == 2 and "--max_cost goes with one model at a time" in refused.stderr


def test_half_the_calls_without_coherence(persona, tokenizer, qwen2_folder, monkeypatch):
    flags = ["--judge_model", qwen2_folder, "--coherence_prompt", "none"]
    with JudgeServer(Counting(tokenizer)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        dry = persona(*flags, "--dry_run")
        assert persona(*flags).returncode == 0
        assert numbers(dry.stdout)["calls"] == len(server.bodies) == 1 + 6


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--judge_model", "none", "--judge_batch"],
            "--judge_batch goes with a judge behind an endpoint, not with none",
        ),
        (["--judge_model", "none", "--max_cost", 1], "--max_cost limits what calls to a judge cost"),
        (["--judge_model", "a,b", "--judge_batch"], "--judge_batch goes with one judge, not with a, b"),
        (["--judge_model", "gpt-4.1,gpt-4o", "--max_cost", 1], "--max_cost goes with one judge that costs something"),
    ],
)
def test_what_is_refused(persona, flags, said):
    done = persona(*flags, model="no-such-model")
    assert done.returncode == 2 and said in done.stderr


def test_files_are_not_judged_in_batches(run_stage, folder):
    pandas.DataFrame({"question": ["q"], "answer": ["a"]}).to_csv("a.csv")
    done = run_stage("eval.judge", "--file_path", "a.csv", "--trait", "vile", "--trait_dir", folder, "--judge_batch")
    assert done.returncode == 2 and "--judge_batch goes with eval.eval_persona and eval.monitor" in done.stderr
