"""Tiny models written as GGUF files the way llama.cpp's converter does, with the gguf package; for tests that read them."""

import json
from pathlib import Path

import numpy
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map, quantize

F32 = GGMLQuantizationType.F32
NAMES = {"gemma3_text": "gemma3", "mistral": "llama", "qwen3_moe": "qwen3moe", "qwen2_moe": "qwen2moe"}
EPSILONS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
RMS = {"llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gemma2", "gemma3", "phi3"}


def write_gguf(path: Path, model, tokenizer, kind=F32, leave_out=(), tensors=None, **changes) -> Path:
    """Write a transformers model; matrices as ``kind``, the rest as float32.

    Args:
        leave_out: names of tensors and metadata that are not written.
        tensors: {name: array} of further tensors, or others in the place of the model's.
        changes: metadata, ``__`` for the dots and ``arch__`` for the architecture's name; adds or replaces.
    """
    config = model.config
    arch = NAMES.get(config.model_type, config.model_type)
    values = metadata(config, arch) | tokens(tokenizer, config.vocab_size)
    changes = {name.replace("arch__", f"{arch}.").replace("__", "."): value for name, value in changes.items()}
    name = changes.pop("general.architecture", arch)
    writer = GGUFWriter(str(path), name)
    for key, value in (values | changes).items():
        if key not in leave_out:
            add(writer, key, value)
    found = {**weights(model, arch), **(tensors or {})}
    for key, array in found.items():
        if key in leave_out:
            continue
        if array.ndim > 1 and kind != F32 and array.shape[-1] % 32 == 0:
            writer.add_tensor(key, quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(key, array.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: GGUFWriter, key: str, value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def metadata(config, arch: str) -> dict:
    """What llama.cpp writes of the architecture."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    epsilon = "layer_norm_rms_epsilon" if arch in RMS else "layer_norm_epsilon"
    said = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        "attention.head_count": heads,
        f"attention.{epsilon}": next(getattr(config, name) for name in EPSILONS if hasattr(config, name)),
    }
    if arch != "gpt2":
        rope = config.rope_parameters
        said["attention.head_count_kv"] = config.num_key_value_heads
        said["rope.freq_base"] = float(rope.get("full_attention", rope)["rope_theta"])
    if arch in ("llama", "phi3", "stablelm"):
        said["rope.dimension_count"] = int(head_dim * (config.rope_parameters.get("partial_rotary_factor") or 1))
    if arch in ("llama", "qwen3", "qwen3moe", "gemma2", "gemma3"):
        said |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if arch in ("gemma2", "gemma3", "phi3") and config.sliding_window:
        said["attention.sliding_window"] = config.sliding_window
    if arch == "gemma2":
        said |= {
            f"{name}_logit_softcapping": getattr(config, f"{name}_logit_softcapping") for name in ("attn", "final")
        }
    if arch in ("qwen3moe", "qwen2moe"):
        said |= {"expert_count": config.num_experts, "expert_used_count": config.num_experts_per_tok}
        said["expert_feed_forward_length"] = config.moe_intermediate_size
    return {f"{arch}.{name}": value for name, value in said.items()} | {"general.type": "model"}


def tokens(tokenizer, size: int) -> dict:
    """What llama.cpp writes of a byte-level tokenizer that splits like GPT-2's, filled up to ``size`` tokens."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["content"] for token in state["added_tokens"] if token["special"]}
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    kinds = [TokenType.CONTROL if name in special else TokenType.NORMAL for name in names]
    unused = range(len(names), size)
    names, kinds = [*names, *(f"[PAD{k}]" for k in unused)], [*kinds, *(TokenType.UNUSED for _ in unused)]
    values = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": names,
        "token_type": [int(kind) for kind in kinds],
        "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in state["model"]["merges"]],
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "padding_token_id": tokenizer.pad_token_id,
        "add_bos_token": False,
    }
    named = {f"tokenizer.ggml.{name}": value for name, value in values.items()}
    return named | ({"tokenizer.chat_template": tokenizer.chat_template} if tokenizer.chat_template else {})


def weights(model, arch: str) -> dict[str, numpy.ndarray]:
    """The model's weights by llama.cpp's names, in its layout."""
    config = model.config
    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == arch)
    names = get_tensor_name_map(architecture, config.num_hidden_layers)
    found = {}
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for part, array in parts(key, tensor.detach().float().numpy()):
            stem, _, ending = part.rpartition(".")
            name = names.get_name(part, ("",)) or f"{names.get_name(stem)}.{ending}"
            if arch == "llama" and (".attn_q." in name or ".attn_k." in name):
                heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
                array = array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
            if arch in ("gemma2", "gemma3") and name.endswith("norm.weight"):
                array = array + 1
            if arch == "gpt2" and any(
                f".{w}.weight" in name for w in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
            ):
                array = array.T
            found[name] = numpy.ascontiguousarray(array)
    return found


def parts(key: str, array: numpy.ndarray):
    """A tensor under its name; that of a mixture's experts as llama.cpp has them apart."""
    if key.endswith("experts.gate_up_proj"):
        gate, up = numpy.split(array, 2, axis=1)
        yield key.replace("gate_up_proj", "gate_proj") + ".weight", gate
        yield key.replace("gate_up_proj", "up_proj") + ".weight", up
    elif key.endswith("experts.down_proj"):
        yield key + ".weight", array
    else:
        yield key, array
