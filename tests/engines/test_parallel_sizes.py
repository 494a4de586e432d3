"""GPUs are divided as vLLM can divide the model: a table by hand, and vLLM's own layers asked."""

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig

from persona_vectors import models
from persona_vectors.engines.vllm import setup
from persona_vectors.engines.vllm.setup import Divided, available, choose_sizes, parallel_sizes

reason = available()
needs_vllm = pytest.mark.skipif(reason is not None, reason=f"vLLM's own checks are not asked here: {reason}")

POWERS = ["1x1", "2x1", "2x1", "4x1", "4x1", "4x1", "4x1", "8x1"]
# name: model_type, heads, key and value heads, feed-forward width, hidden size, vocabulary (their config.json), then
# tensor x data parallel size on 1 to 8 GPUs
PUBLIC = {
    "Qwen2.5-0.5B": ("qwen2", 14, 2, 4864, 896, 151936, ["1x1", "2x1", "2x1", "2x2", "2x2", "2x3", "2x3", "2x4"]),
    "Qwen2.5-1.5B": ("qwen2", 12, 2, 8960, 1536, 151936, ["1x1", "2x1", "2x1", "4x1", "4x1", "4x1", "4x1", "4x2"]),
    "Qwen2.5-3B": ("qwen2", 16, 2, 11008, 2048, 151936, POWERS),
    "Qwen2.5-7B": ("qwen2", 28, 4, 18944, 3584, 152064, ["1x1", "2x1", "2x1", "4x1", "4x1", "4x1", "4x1", "4x2"]),
    "Qwen2.5-14B": ("qwen2", 40, 8, 13824, 5120, 152064, POWERS),
    "Qwen2.5-32B": ("qwen2", 40, 8, 27648, 5120, 152064, POWERS),
    "Qwen2.5-72B": ("qwen2", 64, 8, 29568, 8192, 152064, POWERS),
    "Llama-3.1-8B": ("llama", 32, 8, 14336, 4096, 128256, POWERS),
    "Llama-3.1-70B": ("llama", 64, 8, 28672, 8192, 128256, POWERS),
    "Qwen3-1.7B": ("qwen3", 16, 8, 6144, 2048, 151936, POWERS),
    "gemma-2-9b": ("gemma2", 16, 8, 14336, 3584, 256000, POWERS),
    "Mistral-7B-v0.3": ("mistral", 32, 8, 14336, 4096, 32768, POWERS),
    "SmolLM2-135M": ("llama", 9, 3, 1536, 576, 49152, ["1x1", "1x2", "3x1", "3x1", "3x1", "3x2", "3x2", "3x2"]),
}  # fmt: skip
GPT2 = ["1x1", "2x1", "3x1", "4x1", "4x1", "6x1", "6x1", "6x1"]  # 12 heads, and a vocabulary filled up to 50,304


def config_of(name: str):
    kind, heads, key_value, width, hidden, vocabulary, _ = PUBLIC[name]
    return AutoConfig.for_model(
        kind, num_attention_heads=heads, num_key_value_heads=key_value, intermediate_size=width, hidden_size=hidden,
        head_dim=256 if kind == "gemma2" else 128 if kind == "qwen3" else hidden // heads, vocab_size=vocabulary,
        num_hidden_layers=2,
    )  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_public_models_on_1_to_8_gpus(name):
    sizes = [parallel_sizes(Divided.of(config_of(name)), gpus) for gpus in range(1, 9)]
    assert [f"{tensor}x{data}" for tensor, data in sizes] == PUBLIC[name][-1]


def test_other_names_of_the_numbers():
    gpt2 = Divided.of(AutoConfig.for_model("gpt2"))
    assert (gpt2.heads, gpt2.key_value_heads, gpt2.vocabulary) == ((12,), (12,), 50257)
    assert [f"{t}x{d}" for t, d in (parallel_sizes(gpt2, gpus) for gpus in range(1, 9))] == GPT2
    falcon = AutoConfig.for_model("falcon", num_attention_heads=71, multi_query=True, new_decoder_architecture=False)
    assert Divided.of(falcon).key_value_heads == (1,) and parallel_sizes(Divided.of(falcon), 8)[0] == 1
    experts = AutoConfig.for_model(
        "qwen3_moe", num_attention_heads=32, num_key_value_heads=4, moe_intermediate_size=768, intermediate_size=6144
    )
    assert set(Divided.of(experts).widths) == {768, 6144} and parallel_sizes(Divided.of(experts), 8) == (8, 1)
    seen = AutoConfig.for_model("gemma3", text_config={"num_attention_heads": 12, "num_key_value_heads": 3})
    assert Divided.of(seen).heads == (12,) and Divided.of(seen).key_value_heads == (3,)


def test_groups_of_quantised_weights_stay_whole():
    """Qwen2.5-72B's feed-forward width, 29,568, was made 29,696 for its quantised versions, so that 8 GPUs can share it."""
    for width, size in ((29568, 1), (29696, 8)):
        config = AutoConfig.for_model(
            "qwen2", num_attention_heads=64, num_key_value_heads=8, intermediate_size=width, vocab_size=152064,
            quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128},
        )  # fmt: skip
        assert parallel_sizes(Divided.of(config), 8)[0] == size


@pytest.mark.parametrize(
    ("gpus", "given", "sizes", "said"),
    [
        (0, (None, 1, None), (1, 1), ""),
        (8, (None, 1, None), (4, 2), ""),
        (8, (None, 2, None), (4, 1), ""),
        (8, (None, 1, 1), (4, 1), "vLLM uses 4 of 8 GPUs"),
        (8, (None, 1, 4), (2, 4), ""),
        (8, (2, 1, None), (2, 1), ""),
        (8, (2, 1, 3), (2, 3), ""),
        (7, (None, 1, None), (4, 1), "vLLM uses 4 of 7 GPUs: tiny divides by 4"),
        (3, (None, 1, None), (2, 1), "vLLM uses 2 of 3 GPUs"),
    ],
)
def test_what_was_given_is_kept(tmp_path, monkeypatch, capsys, gpus, given, sizes, said):
    config_of("Qwen2.5-7B").save_pretrained(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert choose_sizes(models.ModelPath("tiny", str(tmp_path)), False, *given) == sizes
    assert said in capsys.readouterr().err and setup.VOCABULARY_PADDING == 64


@needs_vllm
@pytest.mark.parametrize("name", PUBLIC)
def test_vllm_divides_exactly_where_we_say_so(name, tmp_path, monkeypatch):
    """vLLM's check of its config, and its own layers made for each size (without memory), accept what we accept."""
    from vllm.config import ModelConfig, ParallelConfig, VllmConfig, set_current_vllm_config
    from vllm.distributed import parallel_state
    from vllm.model_executor.layers import linear, vocab_parallel_embedding

    config = config_of(name)
    config.architectures = [{"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM",
                             "gemma2": "Gemma2ForCausalLM", "mistral": "MistralForCausalLM"}[config.model_type]]  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    described = ModelConfig(model=str(tmp_path), skip_tokenizer_init=True, max_model_len=64, dtype="float32")
    hidden, head = config.hidden_size, config.head_dim

    def accepts(size: int) -> bool:
        monkeypatch.setattr(parallel_state, "_TP", SimpleNamespace(world_size=size, rank_in_group=0))
        try:
            described.verify_with_parallel_config(
                ParallelConfig(tensor_parallel_size=size, distributed_executor_backend="mp")
            )
            with torch.device("meta"), set_current_vllm_config(VllmConfig()):
                heads, key_value = config.num_attention_heads, described.get_total_num_kv_heads()
                linear.QKVParallelLinear(hidden, head, heads, key_value)
                linear.RowParallelLinear(heads * head, hidden)
                linear.MergedColumnParallelLinear(hidden, [config.intermediate_size] * 2)
                linear.RowParallelLinear(config.intermediate_size, hidden)
                vocab_parallel_embedding.VocabParallelEmbedding(config.vocab_size, hidden)
        except (ValueError, AssertionError) as error:
            assert "divisible" in str(error) or not str(error), error  # (one of vLLM's assertions is bare)
            return False
        return True

    assert {size: accepts(size) for size in range(1, 17)} == {
        size: Divided.of(config).by(size) for size in range(1, 17)
    }
