"""GGUF files that the test writes from a model, in llama.cpp's layout: what is read back is that model, or is refused."""

import numpy
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize
from gguf_files import write_gguf
from helpers import tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.models import chat_template
from persona_vectors.sharing.control_vectors import save_control_vector
from persona_vectors.sharing.formats import About

IDS = torch.tensor([[5, 9, 20, 33, 250, 77, 3, 8, 41, 120]])
GEMMA = {"query_pre_attn_scalar": 8, "tie_word_embeddings": True, "sliding_window": 4}
MODELS = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True},
    "llama one head of keys": {"num_key_value_heads": 1},
    "mistral": {"sliding_window": None},
    "qwen2": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True},
    "gemma2": {**GEMMA, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0},
    "gemma3_text": GEMMA,
    "phi3": {"sliding_window": 4},
    "stablelm": {},
    "starcoder2": {"sliding_window": None, "bos_token_id": 0, "eos_token_id": 1},
    "gpt2": {"tie_word_embeddings": True},
}


@pytest.fixture(scope="module")
def llama():
    return tiny_model("llama")


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def read(file):
    """The model of a file as the toolkit loads it, with the attention that the tiny models compute with."""
    path = models.resolve(str(file))
    return AutoModelForCausalLM.from_pretrained(path.base, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.mark.parametrize("name", MODELS)
def test_a_file_of_float32_is_the_model_that_it_was_written_from(name, tmp_path, tokenizer):
    model = tiny_model(name.split()[0], **MODELS[name])
    file = write_gguf(tmp_path / "tiny.F32.gguf", model, tokenizer)
    assert (logits(read(file)) - logits(model)).abs().max() < 1e-4
    shape = models.describe(models.resolve(str(file)))
    assert (shape.layers, shape.hidden) == (4, 32)


def test_the_comparison_would_see_a_wrong_head_or_norm(llama, tmp_path, tokenizer):
    swapped = {"blk.0.attn_q.weight": llama.model.layers[0].self_attn.q_proj.weight.detach().numpy()}  # unpermuted
    file = write_gguf(tmp_path / "wrong.gguf", llama, tokenizer, tensors=swapped)
    assert (logits(read(file)) - logits(llama)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"])
def test_quantised_weights_are_what_the_quantisation_left_of_them(kind, llama, tmp_path, tokenizer):
    kind = GGMLQuantizationType[kind]
    file = write_gguf(tmp_path / "tiny.gguf", llama, tokenizer, kind)
    rounded = tiny_model("llama")
    with torch.no_grad():
        for weight in rounded.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.from_numpy(dequantize(quantize(weight.numpy(), kind), kind)))
    assert (logits(read(file)) - logits(rounded)).abs().max() < 1e-4
    assert (logits(rounded) - logits(llama)).abs().max() > 1e-4


def test_the_tokenizer_is_the_one_that_was_written(llama, tmp_path, tokenizer):
    file = write_gguf(tmp_path / "tiny.gguf", llama, tokenizer, tokenizer__ggml__eot_token_id=7)
    path = models.resolve(str(file))
    found = models.load_tokenizer(path)
    texts = [
        "the model answers",
        " what is it?\n\nThe  question ",
        "<|im_start|>user\nit<|im_end|>",
        "\U0001f642 é 123",
    ]
    for text in texts:
        ids = chat_template.token_ids(tokenizer, text)
        assert chat_template.token_ids(found, text) == ids and found.decode(ids) == tokenizer.decode(ids)
    messages = [{"role": "system", "content": "be it"}, {"role": "user", "content": "what"}]
    assert chat_template.render(found, messages) == chat_template.render(tokenizer, messages)
    for name in ("bos_token", "eos_token", "pad_token"):
        assert getattr(found, name) == getattr(tokenizer, name)
    stops = AutoModelForCausalLM.from_pretrained(path.base).generation_config.eos_token_id
    assert stops == [tokenizer.eos_token_id, 7]  # the end of text, and of a turn


OURS = tiny_tokenizer().convert_ids_to_tokens(range(289))
SPACE, LINE, PREFIX = "\u0120", "\u010a", "\u2581"  # how vocabularies write a space and a line's end


def written(values: dict, tokens: list[str], size: int = 300) -> dict:
    """Metadata of a tokenizer with these tokens, filled up."""
    values["tokens"] = [*tokens, *(f"[PAD{k}]" for k in range(len(tokens), size))]
    return {f"tokenizer__ggml__{name}": value for name, value in values.items()}


BYTES = {"merges": [f"{LINE} {LINE}"]}
PIECES = {
    "model": "llama",
    "pre": "default",
    "scores": [-float(k) for k in range(300)],
    "token_type": [2, 3, 3, *[1] * 297],
}
SPLIT = {
    "like GPT-2": (written({**BYTES, "pre": "gpt-2"}, [*OURS, LINE * 2]), "a\n\n1", ["a", LINE, LINE, "1"]),
    "single digits": (written({**BYTES, "pre": "smollm"}, [*OURS, LINE * 2]), "a\n\n1", ["a", LINE * 2, "1"]),
    "merges alone": (written({**BYTES, "pre": "gpt-2"}, [*OURS, LINE * 2, "qxz"]), "qxz", ["q", "x", "z"]),
    "whole pieces": (written({**BYTES, "pre": "llama-bpe"}, [*OURS, LINE * 2, "qxz"]), "qxz", ["qxz"]),
    "space in front": (
        written(PIECES, ["<unk>", "<s>", "</s>", PREFIX, "a", PREFIX + "a"]), " a", [PREFIX, PREFIX + "a"],
    ),
    "no space in front": (
        written({**PIECES, "add_space_prefix": False}, ["<unk>", "<s>", "</s>", PREFIX, "a", PREFIX + "a"]),
        " a", [PREFIX + "a"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", SPLIT)
def test_text_is_split_as_the_file_says(way, llama, tmp_path, tokenizer):
    """Among them the ways that transformers' own reader leaves out."""
    values, text, tokens = SPLIT[way]
    without = ["tokenizer.ggml.merges"] if values.get("tokenizer__ggml__model") else []
    found = models.load_tokenizer(
        models.resolve(str(write_gguf(tmp_path / "m.gguf", llama, tokenizer, leave_out=without, **values)))
    )
    assert found.convert_ids_to_tokens(chat_template.token_ids(found, text)) == tokens
    assert len(found) <= 300, "a token that the file does not have"


def test_the_rope_scaling_of_llama_3_1_is_found_in_its_factors(tmp_path, tokenizer):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 8192, "rope_theta": 500000.0}
    model = tiny_model("llama", rope_parameters=scaling, max_position_embeddings=131072)
    unscaled = 500000.0 ** -(numpy.arange(0, 8, 2) / 8)
    factors = (unscaled / model.model.rotary_emb.inv_freq.numpy()).astype(numpy.float32)
    assert 1 < factors[2] < 8  # a wavelength in between
    file = write_gguf(tmp_path / "l.gguf", model, tokenizer, tensors={"rope_freqs.weight": factors})
    found = read(file)
    assert found.config.rope_parameters == scaling and torch.equal(logits(found), logits(model))
    factors[2] += 0.5
    file = write_gguf(tmp_path / "other.gguf", model, tokenizer, tensors={"rope_freqs.weight": factors})
    with pytest.raises(UserError, match=r"other.gguf: its rotary embedding .* is not that of Llama"):
        read(file)


def refused(file, *words):
    with pytest.raises(UserError) as caught:
        models.resolve(str(file)).base  # noqa: B018
    line = str(caught.value)
    assert str(file) in line and all(word in line for word in words), line
    assert "\n" not in line and not list(file.parent.glob("*.transformers")) and not list(file.parent.glob(".*.part"))


REFUSED = {
    "architecture": ({"general__architecture": "rwkv7"}, "cannot read the architecture rwkv7", "it reads", "llama"),
    "image part": ({"general__type": "mmproj"}, "the image part of a model"),
    "adapter": ({"general__type": "adapter"}, "a LoRA adapter"),
    "importance matrix": ({"general__type": "imatrix"}, "an importance matrix"),
    "split": ({"split__count": 3}, "one of 3 parts", "--merge"),
    "yarn": ({"arch__rope__scaling__type": "yarn"}, "no place for llama.rope.scaling.type = yarn"),
    "experts": ({"arch__expert_count": 8}, "no place for llama.expert_count = 8"),
    "scale of the logits": ({"arch__logit_scale": 0.5}, "no place for llama.logit_scale"),
    "way of splitting text": ({"tokenizer__ggml__pre": "kimi-k2"}, "tokenizer.ggml.pre = kimi-k2"),
    "no way of splitting text": ({"leave_out": ["tokenizer.ggml.pre"]}, "it does not say how"),
    "kind of tokenizer": ({"tokenizer__ggml__model": "rwkv"}, "rwkv"),
    "no tokenizer": ({"leave_out": ["tokenizer.ggml.model"]}, "has no tokenizer"),
    "a weight too few": ({"leave_out": ["blk.2.ffn_up.weight"]}, "lacks weights", "layers.2.mlp.up_proj"),
    "a weight too many": (
        {"tensors": {"blk.1.attn_q.bias": numpy.ones(32)}}, "weights; the others would be lost",
    ),
    "no epsilon": (
        {"leave_out": ["llama.attention.layer_norm_rms_epsilon"]}, "does not say", "llama.attention.layer_norm_rms_epsilon",
    ),
    "no longest context": ({"leave_out": ["llama.context_length"]}, "does not say its model's llama.context_length"),
    "factors of long contexts": ({"tensors": {"rope_factors_long.weight": numpy.ones(4)}}, "rope_factors_long.weight"),
    "another width": ({"arch__feed_forward_length": 96}, "another shape than its metadata say", "mlp"),
    "more tokens than embeddings": (written({}, OURS, 310), "another shape than its metadata say", "embed_tokens"),
    "not a number": ({"tensors": {"blk.0.ffn_up.weight": numpy.full((64, 32), numpy.nan)}}, "holds NaN or infinity"),
    "ternary": ({"kind": GGMLQuantizationType.I8}, "cannot read the quantisation I8"),
}  # fmt: skip


def test_experts_of_an_unknown_number_are_refused(tmp_path, tokenizer):
    model = tiny_model("qwen3_moe", **MODELS["qwen3_moe"])
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, leave_out=["qwen3moe.expert_used_count"])
    refused(file, "does not say", "qwen3moe.expert_used_count")


@pytest.mark.parametrize("kind", ["llama", "stablelm", "gemma3_text"])
def test_a_rotary_embedding_of_which_a_file_says_nothing_is_llama_cpps_default(kind, tmp_path, tokenizer):
    """All of each head, at 10000; transformers' default of Gemma 3 is 1000000, and of StableLM a quarter of each head."""
    theta = {"rope_theta": 10000.0, "rope_type": "default"}
    rope = {"sliding_attention": theta, "full_attention": theta} if kind == "gemma3_text" else theta
    rope = rope | {"partial_rotary_factor": 1.0} if kind == "stablelm" else rope
    model = tiny_model(kind, rope_parameters=rope, **MODELS[kind])
    arch = "gemma3" if kind == "gemma3_text" else kind
    silent = [f"{arch}.rope.freq_base", f"{arch}.rope.dimension_count"]
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, leave_out=silent)
    assert (logits(read(file)) - logits(model)).abs().max() < 1e-4


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_lost_or_cannot_be_read_is_refused_by_name(name, llama, tmp_path, tokenizer):
    changes, *words = REFUSED[name]
    if "kind" in changes:  # a type of tensor that no weights have
        file = tmp_path / "m.gguf"
        writer = GGUFWriter(str(file), "llama")
        writer.add_tensor("token_embd.weight", numpy.ones((4, 32), numpy.int8))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    else:
        file = write_gguf(tmp_path / "m.gguf", llama, tokenizer, **changes)
    refused(file, *words)


def test_a_control_vector_is_no_model(tmp_path):
    save_control_vector(
        torch.ones(5, 32), tmp_path / "v.gguf", About(trait="evil", kind="response_avg_diff", architecture="llama")
    )
    refused(tmp_path / "v.gguf", "is a control vector, not a model")


def test_damaged_files_are_one_line_whatever_is_damaged(llama, tmp_path, tokenizer):
    whole = write_gguf(tmp_path / "whole.gguf", llama, tokenizer).read_bytes()
    counts = whole[:8] + b"\xff" * 16 + whole[24:]  # more tensors and keys than a file can have
    array = whole.replace((300).to_bytes(8, "little"), (2**60).to_bytes(8, "little"))
    cases = {
        "empty": b"",
        "text": b"not a model",
        "counts": counts,
        "array": array,
        "version": whole[:4] + b"\x09" + whole[5:],
    }
    for size in (3, 30, 900, len(whole) // 2, len(whole) - 40):
        cases[f"cut{size}"] = whole[:size]
    for name, content in cases.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.gguf").write_bytes(content)
        refused(tmp_path / name / "m.gguf", "is not a readable GGUF file")
