"""What steering costs, with vLLM: lm-evaluation-harness and our own measures, against the same with transformers."""

import json
import os

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import sys
from pathlib import Path

import pandas
import pytest
import torch
from helpers import tiny_model, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "eval"))
sys.path.insert(0, str(Path(__file__).parents[1] / "persona_vectors" / "capability"))

from test_capability import ANSWER, CHOICE, WHOLE, WORDS
from test_harness import PAIRS, ask
from vllm_models import make_adapter, spare_inspection, without_vllm

from persona_vectors.capability.harness import SteeredLM, SteeredVLLM
from persona_vectors.capability.subject import Subject
from persona_vectors.engines.vllm.engine import VLLMEngine
from persona_vectors.models.loading import ModelPath
from persona_vectors.steering.intervention import POSITIONS, Intervention

reason = without_vllm()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"capability with vLLM is not tested here: {reason}")

HIDDEN, LONGEST = 128, 96
DRAW = torch.Generator().manual_seed(3)
V, W = (torch.randn(HIDDEN, generator=DRAW) for _ in range(2))
STEERINGS = {
    "nothing": (),
    **{positions: (Intervention(2, V, 3.0, positions),) for positions in POSITIONS},
    "two": (Intervention(1, V, positions="prompt", kind="ablate"), Intervention(3, W, 2.0, "response")),
}
FEW = ["nothing", "response"]
LONG = "what is it the model answers the question " * 30
LIKE = [*PAIRS, ("what is it the", " model answers"), ("what is it the model", " answers"), (LONG, " it is"), PAIRS[0]]
TEXTS = [(text,) for text in (LONG, "the model", "what is it")]
ENDS = [("what is it", [" the"], 12), ("the question", ["</never>"], 3), (LONG, [" answers", "zz"], 9), ("it", [], 7)]
CONTEXTS = [(text, {"until": until, "max_gen_toks": count, "do_sample": False}) for text, until, count in ENDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose head vLLM's kernels for CPUs have, with text."""
    spare_inspection("Qwen2ForCausalLM")
    path = tmp_path_factory.mktemp("capable") / "tiny"
    model = tiny_model("qwen2", hidden_size=HIDDEN, head_dim=32, max_position_embeddings=LONGEST)
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return str(path)


def asked(scorer) -> dict:
    """What a scorer says to everything, by steering."""
    said = {}
    for name, acts in STEERINGS.items():
        scorer.interventions = acts
        said[name] = ask(scorer, "loglikelihood", LIKE)
        if name in FEW:
            every = [(("", ""), [5, 9, 17], [token]) for token in range(4, 300)]
            said[f"{name}, every token"] = scorer._loglikelihood_tokens(every, disable_tqdm=True)
            said[f"{name}, whole"] = ask(scorer, "loglikelihood_rolling", TEXTS)
        if name != "two":
            said[f"{name}, written"] = ask(scorer, "generate_until", CONTEXTS)
    return said


def start(path: ModelPath, **options) -> VLLMEngine:
    sizes = {"max_model_len": LONGEST, "kv_cache_memory_bytes": 32 << 20, "ablations": 1, "max_num_batched_tokens": 32}
    texts = {"skip_tokenizer_init": False, "tokenizer": path.base, "enable_chunked_prefill": True, "max_num_seqs": 16}
    return VLLMEngine(path, **sizes | texts | options)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_every_request_is_answered_as_by_transformers(folder, tmp_path, with_adapter):
    adapter = make_adapter(tmp_path / "adapter", folder) if with_adapter else None
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).eval()
    by_transformers = SteeredLM(model, tiny_tokenizer(), batch_size=4)
    by_transformers._max_length = LONGEST - 2  # what vLLM takes
    by_transformers.logits_cache = False  # lm-eval mixes up equal texts whose contexts end at different tokens
    expected = asked(by_transformers)
    engine = start(ModelPath(folder, folder, adapter))
    try:
        scorer = SteeredVLLM(engine, AutoConfig.from_pretrained(folder))
        found, again = asked(scorer), asked(scorer)
    finally:
        engine.close()
    for name, told in expected.items():
        if isinstance(told[0], tuple):
            assert [one for one, _ in found[name]] == pytest.approx([one for one, _ in told], abs=1e-3), name
            assert [greedy for _, greedy in found[name]] == [greedy for _, greedy in told], name
        else:
            assert found[name] == (told if "written" in name else pytest.approx(told, abs=1e-3)), name
    assert again == found, "what was read before is not found again as something else"
    for name in set(STEERINGS) - {"nothing"}:
        pairs = zip(expected[name], expected["nothing"], strict=True)
        moved = [abs(one - other) > 1e-2 for (one, _), (other, _) in pairs]
        assert moved.count(False) < 2, f"{name} moves too little to prove anything"
    assert expected["response, written"] != expected["nothing, written"]
    for name in FEW:
        assert [greedy for _, greedy in expected[f"{name}, every token"]].count(True) == 1


@pytest.fixture
def at_home(folder, tmp_path, monkeypatch):
    """A folder with tasks and a vector."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    torch.save(torch.stack([V] * 5), "v.pt")
    Path("tasks").mkdir()
    rows = [
        {"question": "".join(WORDS[: 2 + k % 5]), "choices": [WORDS[k % 7] + WORDS[k % 3], WORDS[-1 - k % 4], " it is"], "answer": k % 3}
        for k in range(6)
    ]  # fmt: skip
    Path("tasks/q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    drawn = ANSWER.replace("tiny_answer", "drawn").replace("do_sample: false", "do_sample: true, temperature: 0.7")
    beams = ANSWER.replace("tiny_answer", "beams").replace("do_sample: false", "num_beams: 3")
    kinds = {"choice": CHOICE, "answer": ANSWER, "whole": WHOLE, "drawn": drawn, "beams": beams}
    for name, text in kinds.items():
        Path(f"tasks/{name}.yaml").write_text(text.replace("DATA", str(Path("tasks/q.jsonl").resolve())))
    return tmp_path


def test_from_end_to_end(run_stage, folder, at_home, monkeypatch):
    monkeypatch.setattr("persona_vectors.engines.vllm.engine.cpu_cache_bytes", lambda: 32 << 20)  # quicker to lay out
    tasks = "kl,perplexity,refusals,tiny_choice,tiny_answer,tiny_whole"
    command = [
        "eval.capability",
        "--model",
        folder,
        "--vector_path",
        "v.pt",
        "--layer",
        2,
        "--coef",
        "0,3",
        "--limit",
        3,
    ]
    command += [
        "--tasks",
        tasks,
        "--task_dir",
        "tasks",
        "--max_tokens",
        4,
        "--harmful_path",
        "few",
        "--harmless_path",
        "few",
    ]
    Path("few").write_text("what\nis it\nthe model\n")  # there is room for little more
    for backend in ("hf", "vllm"):
        done = run_stage(*command, "--backend", backend, "--output", backend)
        assert done.returncode == 0, done.stderr
    one, two = (pandas.read_csv(f"{backend}.csv", keep_default_na=False) for backend in ("hf", "vllm"))
    keys = ["coef", "layer", "task", "measure", "n"]
    assert two[keys].equals(one[keys]) and len(two) == 16
    # pages are cut to what each takes: a token more or less
    kept = (one["task"] != "perplexity") & (one["value"] != "")
    assert two["value"][kept].astype(float).tolist() == pytest.approx(
        one["value"][kept].astype(float).tolist(), rel=1e-3, abs=1e-6
    )
    assert two["value"][~kept].astype(float).tolist() == pytest.approx(
        one["value"][~kept].astype(float).tolist(), rel=0.2
    )
    cells = two.set_index(["task", "measure", "coef"])["value"]
    assert (
        float(cells["kl", "kl", 3.0]) > 0.01
        and cells["perplexity", "perplexity", 3.0] != cells["perplexity", "perplexity", 0.0]
    )

    again = run_stage(*command, "--backend", "vllm", "--output", "vllm")
    assert again.returncode == 0 and "is not made again" in again.stdout
    for backend, other in (("hf", "vllm"), ("vllm", "hf")):
        refused = run_stage(*command, "--backend", other, "--output", backend)
        assert refused.returncode == 2 and "backend" in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    ("task", "words"), [("drawn", "draws its answers (do_sample)"), ("beams", "generates with num_beams")]
)
def test_what_transformers_alone_does_is_told_before_anything_is_loaded(
    run_stage, folder, at_home, monkeypatch, caplog, task, words
):
    monkeypatch.setattr(Subject, "fill", lambda *_: pytest.fail("a model was loaded"))
    command = ["eval.capability", "--model", folder, "--tasks", task, "--task_dir", "tasks", "--output", "x"]
    refused = run_stage(*command, "--backend", "vllm")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    line = refused.stderr.splitlines()[-1]  # after the progress bar of reading the data
    assert line == f"error: --backend vllm cannot run here: task {task} {words}; --backend hf runs anywhere"


def test_auto_takes_vllm_where_it_can_do_the_tasks(run_stage, folder, at_home, monkeypatch):
    taken = []
    monkeypatch.setattr(Subject, "fill", lambda self, *_: taken.append(self.backend) or sys.exit(3))
    for task, backend in {"kl": "vllm", "tiny_choice": "vllm", "tiny_answer": "vllm", "drawn": "hf"}.items():
        where = [] if task == "kl" else ["--task_dir", "tasks"]
        command = ["eval.capability", "--model", folder, "--tasks", task, *where, "--output", f"{task} out"]
        done = run_stage(*command, "--backend", "auto")
        assert taken[-1] == backend, done.stderr
        assert f"backend: {backend}" in done.stdout + done.stderr
    run_stage("eval.capability", "--model", folder, "--tasks", "kl", "--output", "y")
    assert taken[-1] == "hf"
