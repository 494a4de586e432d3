"""eval_persona with several models in one call: the answers of one call each, one base loaded, a table over the steps."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import pandas
import pytest
import torch
from helpers import tiny_model
from judge_server import JudgeServer, completion, error, is_probe

from persona_vectors import models
from persona_vectors.asking.each_model import several_models
from persona_vectors.engines import Request, Sampling, open_engine
from persona_vectors.engines.kept import kept_loaded
from persona_vectors.errors import UserError

TRAIT = {
    "instruction": [{"pos": "Be bad.", "neg": "Be good."}],
    "questions": ["What now?", "Why me?", "Who is it?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}
STEPS = (5, 10, 100)


def reply(_n, body):
    """A score that depends on the answer."""
    text = body["messages"][0]["content"]
    return completion({"57": 1.0} if is_probe(body) else {str(len(text) % 100): 1.0})


@pytest.fixture
def judge(monkeypatch):
    how = [reply]
    with JudgeServer(lambda n, body: how[0](n, body)) as server:
        server.how = how  # what a test may change while the server runs
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield server


@pytest.fixture(scope="module")
def world(tmp_path_factory, tokenizer):
    """A base, a run with LoRA checkpoints over it (one of which brings a bias, so that it changes its base), a trait."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("many")
    for version in ("extract", "eval"):
        (folder / f"trait_data_{version}").mkdir()
        (folder / f"trait_data_{version}/vile.json").write_text(json.dumps(TRAIT))
    tiny_model("qwen2").save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    for step in STEPS:
        bias = "lora_only" if step == 10 else "none"
        config = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False, bias=bias)
        plain = tiny_model("qwen2")
        torch.manual_seed(step)
        model = get_peft_model(plain, config)
        model.peft_config["default"].base_model_name_or_path = str(folder / "base")
        if step == 10:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name.endswith("v_proj.base_layer.bias"):
                        parameter += 1
        model.save_pretrained(folder / "run" / f"checkpoint-{step}")
    return folder


def arguments(world, model, output, *more):
    flags = {"--model": model, "--trait": "vile", "--trait_dir": world, "--backend": "hf", "--max_tokens": 8,
             "--n_per_question": 1, "--output_path": output}  # fmt: skip
    return ["eval.eval_persona", *(word for flag in flags.items() for word in flag), *more]


def test_checkpoints_answer_as_in_calls_of_their_own(run_stage, world, judge, tmp_path):
    """Byte for byte, in both spellings; a steered sweep as well; what is there is not asked again; the table over steps."""
    torch.save(torch.randn(5, 32), tmp_path / "v.pt")
    steered = ["--coef", "0,2", "--layer", "2", "--vector_path", tmp_path / "v.pt"]
    for more in ([], steered):
        single = {}
        for step in STEPS:
            done = run_stage(*arguments(world, world / f"run/checkpoint-{step}", tmp_path / f"one/{step}.csv", *more))
            assert done.returncode == 0, done.stderr
            single[step] = (tmp_path / f"one/{step}.csv").read_bytes()
            (tmp_path / f"one/{step}.csv").unlink()
        assert len(set(single.values())) == 3  # checkpoints that answered alike would prove nothing
        for where, model, words in (
            ("pattern", world / "run/checkpoint-*", []),
            ("folder", world / "run", ["--all_checkpoints"]),
        ):
            output = tmp_path / f"{where}{len(more)}/{{model}}.csv"
            done = run_stage(*arguments(world, model, output, *more, *words))
            assert done.returncode == 0, done.stderr
            # the base for the first, and once more after the one that changes it
            assert done.stderr.count("Loading weights: 100%") == 2
            files = {step: output.parent / f"checkpoint-{step}.csv" for step in STEPS}
            assert {step: path.read_bytes() for step, path in files.items()} == single
            said = [line for line in done.stdout.splitlines() if " of 3)" in line]
            assert [line.split("/")[-1] for line in said] == [
                f"checkpoint-{s} ({k + 1} of 3)" for k, s in enumerate(STEPS)
            ]
        table = pandas.read_csv(output.parent / "run_by_step.csv")
        assert (
            output.parent / "run_by_step.png"
        ).stat().st_size > 5000 and f"wrote {output.parent}/run_by_step.csv" in done.stdout
        assert list(table["step"]) == ([s for s in STEPS for _ in range(2)] if more else list(STEPS))
        for _, row in table.iterrows():
            answers = pandas.read_csv(files[row["step"]])
            answers = answers[answers["coef"] == row["coef"]] if more else answers
            assert row["n"] == len(answers) == 3
            assert row["trait_mean"] == pytest.approx(answers["vile"].mean())
            assert row["coherence_mean"] == pytest.approx(answers["coherence"].mean())

    calls = len(judge.bodies)
    files[10].unlink()
    again = run_stage(*arguments(world, world / "run", output, *steered, "--all_checkpoints"))
    assert again.returncode == 0 and again.stdout.count("not made again") == 2
    assert files[10].read_bytes() == single[10] and len(judge.bodies) - calls == 1 + 2 * 6  # the probe, and one model
    calls = len(judge.bodies)
    nothing = run_stage(*arguments(world, world / "run", output, *steered, "--all_checkpoints"))
    assert nothing.returncode == 0 and "Loading weights" not in nothing.stderr and len(judge.bodies) == calls


def test_an_interrupted_call_is_resumed_model_by_model(run_stage, world, judge, tmp_path, monkeypatch):
    """The judge's key is refused in the middle of the second model; the same command goes on there, nothing is paid twice."""
    output = tmp_path / "{model}_{type}.csv"
    asked = arguments(world, world / "run", output, "--all_checkpoints", "--persona_instruction_type", "neg")
    whole = run_stage(*arguments(world, world / "run", tmp_path / "whole/{model}_{type}.csv", *asked[-3:]))
    assert whole.returncode == 0, whole.stderr
    paid = []

    def refuse_after_a_while(n, body):
        paid.append(body)
        return error(401, "no more") if len(paid) > 1 + 6 + 1 + 3 else reply(n, body)

    judge.how[0] = refuse_after_a_while
    assert run_stage(*asked).returncode == 2
    assert (tmp_path / "checkpoint-5_neg.csv").exists() and not (tmp_path / "checkpoint-10_neg.csv").exists()
    assert not (tmp_path / "run_by_step_neg.csv").exists()
    judge.how[0] = reply
    done = run_stage(*asked)
    assert done.returncode == 0 and done.stdout.count("not made again") == 1, done.stderr
    for path in (tmp_path / "whole").glob("*.csv"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in (tmp_path / "whole").glob("*.csv")} >= {
        "run_by_step_neg.csv",
        "checkpoint-100_neg.csv",
    }


def test_models_that_are_no_checkpoints_have_no_table(run_stage, world, judge, tmp_path):
    """A base and an adapter over it; {model} is filled in for a single model too."""
    os.symlink(world / "base", tmp_path / "a")
    os.symlink(world / "run/checkpoint-5", tmp_path / "b")
    done = run_stage(*arguments(world, tmp_path / "[ab]", tmp_path / "{model}.csv"))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["a.csv", "b.csv"]
    assert not list(tmp_path.glob("*.png")) and "by_step" not in done.stdout
    done = run_stage(*arguments(world, world / "run/checkpoint-5", tmp_path / "{model}.csv"))
    assert done.returncode == 0 and (tmp_path / "checkpoint-5.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_what_cannot_be_is_refused_before_anything_is_loaded(run_stage, world, tmp_path):
    (tmp_path / "x/checkpoint-5").mkdir(parents=True)
    (tmp_path / "x/other").mkdir()
    for name in ("p", "q"):
        (tmp_path / name).mkdir()
        os.symlink(world / "run/checkpoint-5", tmp_path / name / "checkpoint-5")
    (tmp_path / "file").write_text("")
    run, out = str(world / "run"), str(tmp_path / "{model}.csv")
    for model, more, output, said in (
        (f"{run}/checkpoint-*", [], str(tmp_path / "a.csv"), "several models need {model} in --output_path"),
        (run, ["--all_checkpoints"], str(tmp_path / "a.csv"), "several models need {model} in --output_path"),
        (f"{run}/step-*", [], out, f"no model is called {run}/step-*"),
        (str(world / "base"), ["--all_checkpoints"], out, "base holds no checkpoint-N folder"),
        (f"{run}/*", ["--all_checkpoints"], out, "--all_checkpoints takes one folder, not the pattern"),
        (str(tmp_path / "x/*"), [], out, "holds no model"),
        (str(tmp_path / "x"), ["--all_checkpoints"], out, "holds no model"),
        (str(tmp_path / "[pq]/*"), [], out, "two models are called checkpoint-5: "),
        (str(tmp_path / "fil?"), [], out, "is a file: a model is a folder"),
        (str(tmp_path / "absent"), ["--all_checkpoints"], out, "holds no checkpoint-N folder"),
    ):
        refused = run_stage(*arguments(world, model, output, *more))
        assert refused.returncode == 2 and said in refused.stderr, (model, refused.stderr)
        assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.csv"))
    with pytest.raises(UserError, match="two models"):
        several_models(str(tmp_path / "[pq]/*"), False, "{model}")


def test_an_engine_is_kept_only_within_the_block(world):
    path = models.resolve(str(world / "base"))
    with kept_loaded():
        first = open_engine("hf", path, "float32", False, batch_size=4)
        first.close()
        second = open_engine("hf", path, "float32", False, batch_size=4)
        assert second.model is first.model is not None
        assert open_engine("hf", path, "float32", False, batch_size=2).batch_size == 2  # other settings, another engine
    assert second.model is None
    assert open_engine("hf", path, "float32", False).model is not None


def test_vllm_swaps_adapters_on_one_loaded_base(run_stage, world, judge, tmp_path, monkeypatch):
    """The same on the real vLLM: one engine for adapters of one base, whose answers are those of an engine each."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
    from vllm_models import HIDDEN, make_adapter, make_model, spare_inspection, without_vllm

    if reason := without_vllm():
        pytest.skip(f"the vLLM engine is not tested here: {reason}")
    from persona_vectors.engines.vllm.engine import VLLMEngine
    from persona_vectors.steering.intervention import Intervention

    spare_inspection("Qwen2ForCausalLM")
    base = make_model(tmp_path / "base", "Qwen2")
    paths = [models.ModelPath("base", base)]
    for seed in (1, 2):  # both are called the same
        paths.append(models.ModelPath("adapter", base, make_adapter(tmp_path / str(seed) / "adapter", base, seed)))
    started, start = [], VLLMEngine._start
    monkeypatch.setattr(VLLMEngine, "_start", lambda *arguments: started.append(1) or start(*arguments))
    steering = (Intervention(2, torch.randn(HIDDEN, generator=torch.Generator().manual_seed(0)), 1.5, "all"),)
    prompt = [1, *range(10, 60)]  # longer than a block of the prefix cache
    requests = [Request(f"{k}", prompt, steering * k) for k in range(2)]
    options = {"max_model_len": 160, "block_size": 32, "kv_cache_memory_bytes": 32 << 20}

    def ask(path, **changes):
        engine = open_engine("vllm", path, "float32", False, **options | changes)
        try:
            return {answer.key: answer.token_ids for answer in engine.generate(requests, Sampling(10, temperature=0.0))}
        finally:
            engine.close()

    alone = [ask(path) for path in paths]
    assert len(started) == 3 and len({str(answers) for answers in alone}) == 3
    with kept_loaded():
        order = [1, 2, 1, 0, 2]  # two adapters to and fro, and the base alone
        assert [ask(paths[k]) for k in order] == [alone[k] for k in order]
        assert len(started) == 4
        assert ask(paths[2], max_model_len=100) == alone[2] and len(started) == 4
        assert ask(paths[1], max_model_len=200) == alone[1] and len(started) == 5  # longer sequences need another


@pytest.fixture
def alive(monkeypatch):
    """How many models were there, each time that another one was loaded or a batch was sent."""
    import gc
    import weakref

    from persona_vectors.judge.batch import BatchClient
    from persona_vectors.models import loading

    load, send, there, counts = loading.load_model, BatchClient.run, [], []

    def count():
        gc.collect()
        counts.append(sum(one() is not None for one in there))

    def loaded(*arguments, **more):
        count()
        made = load(*arguments, **more)
        there.append(weakref.ref(made))
        return made

    async def sent(self, tasks):
        count()
        await send(self, tasks)

    for module in (loading, models):
        monkeypatch.setattr(module, "load_model", loaded)
    monkeypatch.setattr(BatchClient, "run", sent)
    return counts


@pytest.mark.parametrize("stage", ["eval_persona", "search"])
@pytest.mark.parametrize("judged", ["by itself", "by another", "in batches"])
def test_a_kept_engine_stands_in_nobodys_way(run_stage, world, alive, stage, judged, tmp_path, monkeypatch):
    """It stays where the scorer is its own model, and goes before another one is loaded and before a batch is waited for."""
    from batch_server import BatchServer

    from persona_vectors.sharing.formats import About, norms_text, save_both

    if not (tmp_path / "other").exists():
        tiny_model("qwen2").save_pretrained(tmp_path / "other")
        models.load_tokenizer(models.resolve(str(world / "base"))).save_pretrained(tmp_path / "other")
    trait = json.loads(json.dumps(TRAIT)) | {"instruction": TRAIT["instruction"] * 2}
    for version in ("extract", "eval"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}/vile.json").write_text(json.dumps(trait))
    save_both(
        torch.ones(5, 32), tmp_path, About(trait="vile", kind="response_avg_diff", mean_norms=norms_text([9.0] * 5))
    )
    own = ["--judge_model", "likelihood", "--scorer_pairs", "1"]
    how = {"by itself": own, "by another": [*own, "--scorer", tmp_path / "other"],
           "in batches": ["--judge_model", "gpt-x", "--judge_batch"]}[judged]  # fmt: skip
    if stage == "search":
        command = ["eval.search", "--model", world / "base", "--trait", "vile", "--backend", "hf", "--max_tokens", 4,
                   "--n_per_question", 1, "--output_path", tmp_path / "found.csv", "--trials", 5, "--min_coherence", 0,
                   "--vector_path", tmp_path / "vile_response_avg_diff.pt"]  # fmt: skip
    else:
        command = arguments(world, world / "run/checkpoint-[15]*", tmp_path / "{model}.csv")
        command[command.index(world)] = tmp_path
    with BatchServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        done = run_stage(*command, "--trait_dir", tmp_path, *how) if stage == "search" else run_stage(*command, *how)
    assert done.returncode == 0, done.stderr
    assert set(alive) == {0}, alive
    if judged == "by itself" and stage == "search":
        assert len(alive) == 1  # two rounds, asked and scored by one loaded model
