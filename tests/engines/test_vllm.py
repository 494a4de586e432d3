"""The vLLM engine on the real vLLM, against transformers with a plain hook: token for token, in float32."""

import json
import os

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import sys
from functools import cache
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from vllm_models import (
    HIDDEN,
    LAYERS,
    STOP_IDS,
    VOCABULARY,
    Reference,
    added,
    answers,
    make_adapter,
    make_model,
    spare_inspection,
    without_vllm,
)

from persona_vectors.engines.base import Request, Sampling
from persona_vectors.engines.vllm.engine import VLLMEngine
from persona_vectors.engines.vllm.scoring import EVERY, Text, read_texts
from persona_vectors.errors import UserError
from persona_vectors.models.loading import ModelPath
from persona_vectors.steering.intervention import Intervention
from persona_vectors.steering.steering_list import ListGrid

reason = without_vllm()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"the vLLM engine is not tested here: {reason}")

ARCHITECTURES = ["Qwen2", "Llama", "Qwen3", "Mistral", "Gemma", "Gemma2", "GPTNeoX"]
DRAW = torch.Generator().manual_seed(7)
VECTORS = [torch.randn(HIDDEN, generator=DRAW) for _ in range(4)]


def prompt(length: int) -> list[int]:
    return [1, *torch.randint(4, VOCABULARY, (length - 1,), generator=DRAW).tolist()]


PROMPTS = [prompt(length) for length in (1, 2, 9, 40)]
ADDED, OTHER, THIRD, FOURTH = VECTORS
CASES = {
    "nothing": (),
    "zero": (Intervention(2, ADDED, 0.0),),
    "response": (Intervention(2, ADDED, 1.5, "response"),),
    "prompt": (Intervention(2, ADDED, 1.5, "prompt"),),
    "all": (Intervention(2, ADDED, 1.5, "all"),),
    "other layer": (Intervention(3, ADDED, 1.5, "all"),),
    "last layer": (Intervention(LAYERS, ADDED, 3.0, "all"),),
    "ablate": (Intervention(1, ADDED, positions="all", kind="ablate"),),
    "everything": (
        Intervention(1, ADDED, 1.0, "prompt"),
        Intervention(1, OTHER, -1.0, "all"),
        Intervention(2, THIRD, positions="response", kind="ablate"),
        Intervention(2, THIRD, 0.7, "response"),
        Intervention(3, OTHER, positions="all", kind="ablate"),
        Intervention(3, FOURTH, positions="prompt", kind="ablate"),
        Intervention(LAYERS, FOURTH, 2.0, "response"),
    ),
}


def start(path: str, adapter: str | None = None, **options) -> VLLMEngine:
    defaults = {"max_model_len": 160, "ablations": 2, "block_size": 32, "kv_cache_memory_bytes": 32 << 20}
    return VLLMEngine(ModelPath(path, path, adapter), **{**defaults, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    spare_inspection("Qwen2ForCausalLM")
    return make_model(tmp_path_factory.mktemp("vllm") / "Qwen2", "Qwen2")


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory):
    return make_adapter(tmp_path_factory.mktemp("vllm") / "adapter", folder)


@pytest.fixture(scope="class")  # one engine at a time lives in this process
def crowded(folder, adapter):
    """Prefix caching, prompts in chunks of at most 24 tokens, an adapter that ``request.key`` asks for."""
    chunks = {"max_num_batched_tokens": 24, "max_num_seqs": 16, "enable_chunked_prefill": True}
    engine = start(folder, adapter, max_logprobs=-1, **chunks)
    with_adapter = engine._adapter_of
    engine._adapter_of = lambda request: with_adapter(request) if "adapter" in request.key else None
    yield engine
    engine.close()


@pytest.fixture(scope="class")
def plain(folder):
    engine = start(folder)
    yield engine
    engine.close()


def transformers_answers(requests: list[Request], max_tokens: int, path: str, adapter: str | None = None) -> dict:
    """What transformers answers; asked before an engine starts, because vLLM may change classes of transformers."""
    references = {False: Reference(path)} | ({True: Reference(path, adapter)} if adapter else {})
    return {
        request.key: references["adapter" in request.key].greedy(request.prompt_ids, request.interventions, max_tokens)
        for request in requests
    }


@torch.no_grad()
def read_by_hand(text: Text, path: str, adapter: str) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary] that predict a text's answer, with plain hooks."""
    model = reference(path, adapter if "adapter" in text.key else None).model
    with added(model, text.interventions, text.prompt_length):
        logits = model(torch.tensor([text.prompt_ids]), use_cache=False).logits[0]
    return logits.log_softmax(-1)[text.prompt_length - 1 : -1]


@cache
def reference(path: str, adapter: str | None) -> Reference:
    return Reference(path, adapter)


def check(got: dict, expected: dict) -> None:
    """Token for token, and log-probabilities to 1e-3."""
    assert got.keys() == expected.keys()
    for key, (ids, logprobs) in expected.items():
        assert got[key][0] == ids, key
        assert got[key][1] == pytest.approx(logprobs, abs=1e-3), key


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_equal_transformers(architecture, tmp_path):
    path = make_model(tmp_path, architecture)
    spare_inspection(f"{architecture}ForCausalLM")
    requests = [Request(f"{case}|{k}", ids, CASES[case]) for case in CASES for k, ids in enumerate(PROMPTS)]
    expected = transformers_answers(requests, 12, path)
    engine = start(path)
    try:
        got = answers(engine, requests, 12)
    finally:
        engine.close()
    check(got, expected)
    answer = {case: [got[f"{case}|{k}"] for k in range(len(PROMPTS))] for case in CASES}
    ids = {case: [tokens for tokens, _ in answer[case]] for case in CASES}
    assert answer["zero"] == [(tokens, pytest.approx(seen, abs=1e-5)) for tokens, seen in answer["nothing"]]
    for case in set(CASES) - {"nothing", "zero"}:
        assert ids[case] != ids["nothing"], f"{case} changes no text: the comparison above proves nothing"
    # a wrong kind of positions or a wrong layer would have been seen
    for one, two in [("response", "prompt"), ("response", "all"), ("prompt", "all"), ("all", "other layer")]:
        assert ids[one] != ids[two], (one, two)


class TestCrowded:
    """One engine for all of these."""

    def test_64_requests_that_differ_in_everything(self, crowded, folder, adapter, monkeypatch):
        kinds = ["response", "prompt", "all"]
        requests = []
        for k in range(64):
            coef = (-1.5, 0.5, 1.0, 2.0)[k // 3 % 4]
            interventions = [Intervention(1 + k % LAYERS, VECTORS[k % 3], coef, kinds[k % 3])]
            if k % 5 == 1:
                layer, positions = 1 + (k + 1) % LAYERS, kinds[k // 2 % 3]
                interventions.append(Intervention(layer, FOURTH, positions=positions, kind="ablate"))
            interventions = interventions if k % 8 else []
            ids = prompt(1 + k * 7 % 90)
            requests.append(Request(f"{k} {'adapter' if k % 4 == 3 else ''}", ids, tuple(interventions)))
        chunks = []
        runner = crowded._copies[0].model_executor.driver_worker.worker.model_runner
        prepare = runner._prepare_inputs
        monkeypatch.setattr(
            runner, "_prepare_inputs", lambda output, counts: (chunks.append(counts.copy()), prepare(output, counts))[1]
        )
        first = answers(crowded, requests, 10)
        check(first, transformers_answers(requests, 10, folder, adapter))
        assert max(counts.sum() for counts in chunks) <= 24 and any(len(counts) > 8 for counts in chunks)
        again = answers(crowded, requests[::-1], 10)  # now from the prefix cache, in other company
        assert {key: ids for key, (ids, _) in again.items()} == {key: ids for key, (ids, _) in first.items()}

    def test_a_steering_list_acts_as_plain_hooks_do(self, crowded, folder, tmp_path):
        """Two vectors at two layers with positions of their own, and an ablation, from a file and times a coefficient."""
        entries = [
            {"layer": 2, "coef": 0.75}, {"layer": 3, "coef": -0.5, "positions": "all"},
            {"layer": 1, "kind": "ablate", "positions": "prompt"},
        ]  # fmt: skip
        for k in range(3):
            torch.save(VECTORS[k].repeat(LAYERS + 1, 1), tmp_path / f"{k}.pt")
            entries[k]["vector"] = str(tmp_path / f"{k}.pt")
        (tmp_path / "steer.json").write_text(json.dumps(entries))
        grid = ListGrid.read(str(tmp_path / "steer.json"), [0.0, 2.0])
        grid.load(["evil"])
        grid.check(LAYERS, HIDDEN)
        both = (Intervention(2, ADDED, 1.5), Intervention(3, OTHER, -1.0, "all"))
        hooks = {0: (), 1: (*both, Intervention(1, THIRD, positions="prompt", kind="ablate"))}
        got, wanted = (
            [Request(f"{c}|{k}", ids, of(c)) for c in (0, 1) for k, ids in enumerate(PROMPTS)]
            for of in (lambda c: grid.interventions("evil", grid.cells[c]), hooks.__getitem__)
        )
        found = answers(crowded, got, 10)
        check(found, transformers_answers(wanted, 10, folder))
        assert [found[f"0|{k}"] for k in range(4)] != [found[f"1|{k}"] for k in range(4)]

    @pytest.mark.parametrize("unsteered_first", [True, False])
    def test_prefix_cache_does_not_leak(self, crowded, folder, unsteered_first):
        prompts = [prompt(70) for _ in range(3)]
        settings = {
            "nothing": (),
            "add": (Intervention(1, ADDED, 1.5, "all"),),
            "less": (Intervention(1, ADDED, 0.5, "all"),),
            "prompt": (Intervention(1, ADDED, 1.5, "prompt"),),
            "ablate": (Intervention(1, ADDED, 1.5, "all", "ablate"),),
        }
        for name in list(settings) if unsteered_first else list(settings)[::-1]:
            requests = [Request(f"{name}|{k}", ids, settings[name]) for k, ids in enumerate(prompts)]
            expected = transformers_answers(requests, 8, folder)
            check(answers(crowded, requests, 8), expected)
            # The answer becomes part of an unsteered prompt: what was computed under steering must not be found again.
            longer = [Request(f"{name}|{k}", ids + expected[f"{name}|{k}"][0]) for k, ids in enumerate(prompts)]
            check(answers(crowded, longer, 8), transformers_answers(longer, 8, folder))

    @pytest.mark.parametrize("positions", ["response", "prompt", "all"])
    def test_an_answer_in_the_next_prompt_is_read_as_a_prompt(self, crowded, folder, positions):
        """Under one steering a token has other activations as an answer than as a prompt: neither is found for the other."""
        acts = (Intervention(1, ADDED, 1.5, positions),)
        first = [Request(str(k), prompt(60), acts) for k in range(3)]
        made = answers(crowded, first, 12)
        longer = [Request(r.key, r.prompt_ids + made[r.key][0], acts) for r in first]
        check(answers(crowded, longer, 6), transformers_answers(longer, 6, folder))
        given = [Text(r.key, r.prompt_ids, acts, prompt_length=20) for r in longer]
        list(read_texts(crowded, given))
        further = [Request(r.key, [*r.prompt_ids, 9], acts) for r in longer]
        check(answers(crowded, further, 6), transformers_answers(further, 6, folder))

    def test_texts_are_read_as_transformers_reads_them(self, crowded, folder, adapter):
        """Mixed lengths, steerings, adapters and places where the prompt ends, in chunks, among requests for answers."""
        kinds = ["response", "prompt", "all"]
        texts = []
        for k in range(48):
            ids = prompt(3 + k * 7 % 90)
            acts = (Intervention(1 + k % LAYERS, VECTORS[k % 3], 2.0, kinds[k % 3]),) if k % 8 else ()
            acts += (Intervention(1 + (k + 1) % LAYERS, FOURTH, positions=kinds[k % 2], kind="ablate"),) * (k % 5 == 1)
            length = (1, 2, len(ids) // 2, len(ids) - 1)[k // 2 % 4]
            texts.append(Text(f"{k} {'adapter' if k % 4 == 3 else ''}", ids, acts, prompt_length=length))
        expected = {text.key: read_by_hand(text, folder, adapter) for text in texts}
        for most in (1, EVERY):
            found = {text.key: (ids, logprobs) for text, ids, logprobs in read_texts(crowded, texts, most)}
            for text in texts:
                (ids, got), rows = found[text.key], expected[text.key]
                own = torch.tensor(text.prompt_ids[text.prompt_length :])[:, None]
                assert torch.equal(ids[:, :1], own)
                torch.testing.assert_close(got, rows.gather(1, ids), atol=1e-3, rtol=0)
                assert got[:, 1].tolist() == pytest.approx(rows.amax(1).tolist(), abs=1e-3)
                assert most == 1 or ids[:, 1:].sort().values.tolist() == [list(range(VOCABULARY))] * len(own)
        again = {text.key: logprobs for text, _, logprobs in read_texts(crowded, texts[::-1])}
        assert all(torch.allclose(again[key][:, 0], got[:, 0], atol=1e-4) for key, (_, got) in found.items())

    def test_a_text_is_not_steered_as_a_prompt_is(self, crowded, folder):
        """Taken for a prompt, of a text its last token alone would be steered, which no score depends on."""
        acts, ids = (Intervention(2, ADDED, 3.0, "response"),), prompt(40)
        texts = [Text("told", ids, acts, prompt_length=20), Text("unsteered", ids, prompt_length=20)]
        rows = {text.key: logprobs[:, 0] for text, _, logprobs in read_texts(crowded, texts)}
        model = reference(folder, None).model
        with torch.no_grad(), added(model, acts, len(ids)):
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, 19:-1]
        untold = logits.log_softmax(-1).gather(1, torch.tensor(ids[20:])[:, None])[:, 0]
        assert rows["unsteered"].tolist() == pytest.approx(untold.tolist(), abs=1e-3)
        assert ((rows["told"] - untold).abs() > 1e-2).sum() > 12

    def test_texts_that_cannot_be_read_are_refused(self, crowded):
        for ids in ([5], [5] * 160):
            with pytest.raises(UserError, match=f"a text of {len(ids)} tokens: this vLLM engine reads 2 to 159"):
                next(read_texts(crowded, [Text("x", ids)]))
        with pytest.raises(UserError, match="layer 5 does not exist"):
            next(read_texts(crowded, [Text("x", [5, 6], (Intervention(LAYERS + 1, ADDED),))]))
        with pytest.raises(UserError, match="overflow in float32"):
            list(read_texts(crowded, [Text("x", [5, 6, 7], (Intervention(1, ADDED * 1e30, 3e8, "all"),))]))

    def test_answers_that_nobody_waits_for_are_aborted(self, crowded, folder):
        requests = [Request(str(k), prompt(20), CASES["all"]) for k in range(20)]
        stream = crowded.generate(requests, Sampling(100, temperature=0))
        next(stream)
        stream.close()
        assert not crowded._copies[0].has_unfinished_requests()
        assert not any(crowded._slots._users.values())
        check(answers(crowded, requests[:3], 6), transformers_answers(requests[:3], 6, folder))

    @pytest.mark.parametrize(
        ("ids", "interventions", "message"),
        [
            ([], (), "no tokens"),
            ([5] * 160, (), "160 tokens leaves no room for an answer"),
            ([5], (Intervention(LAYERS + 1, ADDED),), f"layer 5 does not exist: this model has layers 1..{LAYERS}"),
            ([5], (Intervention(1, ADDED[:7]),), "the vector is 7 wide"),
            ([5], tuple(Intervention(1, v, kind="ablate") for v in VECTORS), "ablates 4 directions .* started for 2"),
        ],
    )
    def test_what_cannot_be_served_is_refused_before_anything_runs(self, crowded, ids, interventions, message):
        with pytest.raises(UserError, match=message):
            crowded.generate([Request("good", [5]), Request("bad", ids, interventions)], Sampling(20))


class TestSampling:
    """Without chunks: on a CPU vLLM itself cannot cut up the prompt of a request with a seed."""

    def test_sampling_is_seeded_and_only_what_was_asked_for(self, plain, folder):
        """The model's generation config asks for temperature 0.5, top_k 3 and a penalty: none of it may leak in."""
        draws = [Request(str(k), PROMPTS[2], (), seed=2**62 + k) for k in range(400)]
        first = {answer.key: answer for answer in plain.generate(draws, Sampling(1))}
        tokens = [answer.token_ids[0] for answer in first.values()]
        logits = Reference(folder).model(torch.tensor([PROMPTS[2]])).logits[0, -1]
        logits[STOP_IDS] = -torch.inf
        seen = torch.bincount(torch.tensor(tokens), minlength=VOCABULARY) / len(tokens)
        assert 0.5 * (seen - logits.softmax(-1)).abs().sum() < 0.2  # total variation
        assert len(set(tokens)) > 10
        alone = next(iter(plain.generate(draws[5:6], Sampling(1))))
        assert alone.token_ids == first["5"].token_ids

    def test_answers_have_text_and_a_reason(self, plain):
        sampled = list(plain.generate([Request(str(k), PROMPTS[1], (), seed=k) for k in range(40)], Sampling(60)))
        ended = {answer.finish_reason: answer for answer in sampled}
        assert ended["stop"].token_ids[-1] in STOP_IDS and len(ended["length"].token_ids) == 60
        assert {answer.token_ids[-1] for answer in sampled if answer.finish_reason == "stop"} == set(STOP_IDS)
        words = [f"w{token}" for token in ended["stop"].token_ids[:-1] if token > 3]
        assert ended["stop"].text == "".join(words)
        assert all(answer.token_ids for answer in sampled)


def test_preempted_requests_go_on_as_they_were(folder, monkeypatch):
    engine = start(folder, num_gpu_blocks_override=8, max_num_seqs=16, slots=8)
    try:
        scheduler = engine._copies[0].engine_core.engine_core.scheduler
        preempted = []
        preempt = scheduler._preempt_request
        monkeypatch.setattr(
            scheduler, "_preempt_request", lambda *args, **kw: (preempted.append(1), preempt(*args, **kw))[1]
        )
        kinds = ["response", "prompt", "all"]
        requests = [
            Request(str(k), prompt(20 + k), (Intervention(1 + k % 3, ADDED, 1.0, kinds[k % 3]),)) for k in range(9)
        ]
        got = answers(engine, requests, 40)
    finally:
        engine.close()
    assert preempted
    check(got, transformers_answers(requests, 40, folder))


def test_more_settings_than_slots_wait_for_their_turn(folder):
    engine = start(folder, slots=4, rows=4)
    try:
        requests = [Request(str(k), PROMPTS[2], (Intervention(2, ADDED, 0.3 * k, "all"),)) for k in range(1, 12)]
        check(answers(engine, requests, 6), transformers_answers(requests, 6, folder))
        many = tuple(Intervention(layer, vector, 1.0) for layer in range(1, LAYERS + 1) for vector in [layer * ADDED])
        with pytest.raises(UserError, match=r"4 vectors and 1 slots.*started for 3 and 3"):
            engine.generate([Request("x", PROMPTS[2], many)], Sampling(4))
    finally:
        engine.close()


def test_without_steering_it_is_vllm_as_released(folder):
    engine = start(folder, steer=False)
    try:
        requests = [Request(str(k), ids) for k, ids in enumerate(PROMPTS)]
        check(answers(engine, requests, 6), transformers_answers(requests, 6, folder))
        with pytest.raises(UserError, match="started without steering"):
            engine.generate([Request("x", PROMPTS[0], CASES["all"])], Sampling(4))
    finally:
        engine.close()


def test_a_model_that_reads_its_residual_otherwise_is_refused_by_name(tmp_path):
    from transformers import AutoConfig
    from vllm import ModelRegistry
    from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM

    class OddForCausalLM(Qwen2ForCausalLM):
        def __init__(self, *, vllm_config, prefix=""):
            super().__init__(vllm_config=vllm_config, prefix=prefix)
            norm = self.model.norm
            plain = norm.forward
            norm.forward = lambda hidden, residual: plain(hidden, 2 * residual)

    ModelRegistry.register_model("OddForCausalLM", OddForCausalLM)
    path = make_model(tmp_path, "Qwen2")
    config = AutoConfig.from_pretrained(path)
    config.architectures = ["OddForCausalLM"]
    config.save_pretrained(path)
    with pytest.raises(UserError, match="cannot steer OddForCausalLM"):
        start(path)


def test_a_graph_without_the_hooks_is_refused(folder, monkeypatch):
    from persona_vectors.engines.vllm import hooks

    install = hooks.ResidualTables.__init__

    def lose_one_hook(self, *args, **kwargs):
        install(self, *args, **kwargs)
        self.blocks[2]._forward_hooks.clear()

    monkeypatch.setattr(hooks.ResidualTables, "__init__", lose_one_hook)
    with pytest.raises(UserError, match="cannot steer Qwen2ForCausalLM: a large vector changes nothing at layer 3"):
        start(folder)


def test_what_vllm_cannot_load_is_said_in_one_line(folder, tmp_path):
    from transformers import AutoConfig

    path = make_model(tmp_path, "Qwen2")
    config = AutoConfig.from_pretrained(path)
    config.architectures = ["NobodyForCausalLM"]
    config.save_pretrained(path)
    with pytest.raises(UserError, match=r"vLLM cannot load .*NobodyForCausalLM") as raised:
        start(path)
    assert "\n" not in str(raised.value)


def test_an_adapter_that_vllm_cannot_use_is_refused_with_its_reason(folder, adapter, tmp_path):
    import json
    import shutil

    bad = shutil.copytree(adapter, tmp_path / "dora")
    config = json.loads((bad / "adapter_config.json").read_text())
    (bad / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(UserError, match=r"vLLM cannot use the adapter .*dora: .*DoRA"):
        start(folder, str(bad))


def test_a_gguf_file_is_a_model(tmp_path):
    from gguf_files import write_gguf
    from helpers import tiny_model, tiny_tokenizer

    from persona_vectors.models.loading import resolve

    ends = {f"tokenizer__ggml__{name}_token_id": token for name, token in zip(("eos", "eot"), STOP_IDS, strict=True)}
    model = tiny_model("llama", hidden_size=HIDDEN, head_dim=32)
    path = resolve(str(write_gguf(tmp_path / "tiny.gguf", model, tiny_tokenizer(), **ends)))
    spare_inspection("LlamaForCausalLM")
    requests = [Request(f"{case}|{k}", ids, CASES[case]) for case in CASES for k, ids in enumerate(PROMPTS)]
    expected = transformers_answers(requests, 8, path.base)
    engine = VLLMEngine(path, max_model_len=160, ablations=2, block_size=32, kv_cache_memory_bytes=32 << 20)
    try:
        check(answers(engine, requests, 8), expected)
    finally:
        engine.close()
    assert len({tuple(ids) for ids, _ in expected.values()}) > len(expected) // 2
