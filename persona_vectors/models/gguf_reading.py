"""What a GGUF file holds, as transformers has it: config, weights, tokenizer.

transformers reads GGUF files, and passes in silence over what it does not know: a tensor that its class has no place for,
a key that changes the arithmetic, a way of splitting text. Here all of that is completed from the file, or refused by
name. The tokenizers that come out agree with llama.cpp's own test cases (llama-spm, llama-bpe, qwen2, gpt-2, phi-3,
starcoder, refact, command-r).
"""

import json
import re
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from persona_vectors.errors import UserError, first_line

# What a file says of its model's arithmetic, and where a config of transformers has it. (rope.*: see _complete.)
ARITHMETIC = {
    "context_length": ("max_position_embeddings",),
    "block_count": ("num_hidden_layers",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "shortconv.l_cache": ("conv_L_cache",),
}
MARK = re.compile(r"<[^\s<>'\"]{1,40}>|\[[^\s\[\]'\"]{1,40}\]")  # <|im_start|>, [INST] in a chat template
EPSILONS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
ELSEWHERE = ("vocab_size", "tensor_data_layout", "rope.dimension_count", "rope.freq_base")

# tokenizer.ggml.pre: how byte-level vocabularies split text. transformers knows some, and takes GPT-2's way for all others.
LIKE_GPT2 = ("gpt-2", "phi-2", "olmo", "exaone4", "gigachat")
# digits one by one, then GPT-2's way
SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
# a piece that is in the vocabulary is one token, whatever the merges make of it
WHOLE_PIECES = ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken")
IN_PARTS = "{file} is one of {parts} parts; join them first: llama-gguf-split --merge FIRST_PART OUT.gguf"
OTHER_KINDS = {"adapter": "a LoRA adapter", "mmproj": "the image part of a model", "imatrix": "an importance matrix"}


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        values: its metadata; of lists of texts the length.
        quantisation: {type: number of tensors}, the most frequent first.
        weights: numbers in its tensors; without those of ``rope_freqs``, which are no weights.
        rope_freqs: factors of the rotary embedding's wavelengths, float32 [head_dim / 2], where there are any.
    """

    architecture: str
    values: dict
    quantisation: dict[str, int]
    weights: int
    rope_freqs: object = field(default=None, repr=False)

    def of_architecture(self) -> dict:
        """The values that describe the architecture, by their names without it."""
        prefix = f"{self.architecture}."
        return {name.removeprefix(prefix): value for name, value in self.values.items() if name.startswith(prefix)}

    @property
    def stop_ids(self) -> list[int]:
        """The tokens that end an answer: end of text, and end of turn where the file has one of its own."""
        named = (self.values.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot"))
        return sorted({token for token in named if token is not None})


def read_header(file: Path) -> Header:
    """Read a file but for its weights, and refuse what is no model or cannot be read.

    Raises:
        UserError: names the file and what it is, or what of it cannot be read.
    """
    from gguf import GGUFReader, dequantize
    from transformers.integrations.gguf import read_gguf_metadata

    try:
        values, _ = read_gguf_metadata(str(file))  # also refuses counts that no file of this size can have
        tensors = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    except Exception as error:  # whatever a broken file makes the readers raise
        raise UserError(
            f"{file} is not a readable GGUF file (damaged, cut off, or too new): {first_line(error)}"
        ) from error
    architecture, kind = str(values["general.architecture"]), values.get("general.type", "model")
    if architecture == "controlvector":
        raise UserError(f"{file} is a control vector, not a model; share_vectors.py import reads it")
    if kind in OTHER_KINDS or architecture == "clip":
        raise UserError(f"{file} is {OTHER_KINDS.get(kind, OTHER_KINDS['mmproj'])}, not a model")
    if values.get("split.count", 1) > 1:
        raise UserError(IN_PARTS.format(file=file, parts=values["split.count"]))
    if architecture not in _architectures():
        known = ", ".join(sorted(_architectures()))
        raise UserError(
            f"{file}: transformers {version('transformers')} cannot read the architecture {architecture}; it reads {known}"
        )
    for tensor in {tensor.tensor_type: tensor for tensor in tensors.values()}.values():
        try:
            dequantize(tensor.data[:1], tensor.tensor_type)
        except Exception as error:
            kind = tensor.tensor_type.name
            raise UserError(
                f"{file}: gguf {version('gguf')} cannot read the quantisation {kind} ({tensor.name})"
            ) from error
    other = [name for name in tensors if name.startswith("rope_") and name != "rope_freqs.weight"]
    if other:
        raise UserError(f"{file}: transformers has no place for its rotary embedding ({', '.join(other)})")
    freqs = tensors.pop("rope_freqs.weight", None)
    kinds = Counter(tensor.tensor_type.name for tensor in tensors.values())
    weights = sum(int(tensor.n_elements) for tensor in tensors.values())
    factors = None if freqs is None else dequantize(freqs.data, freqs.tensor_type)
    return Header(architecture, values, dict(kinds.most_common()), weights, factors)


def _architectures() -> set[str]:
    """What transformers reads, as GGUF files call it."""
    from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES as LEGACY

    others = {"general", "tokenizer", "mistral", "umt5"}  # no names of architectures; encoders
    spelt = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2"}
    return {spelt.get(name, name) for name in LEGACY if name not in others} | set(GGUF_ARCHS)


def read_model(file: Path, header: Header, dtype: str, tokens: int):
    """The model in evaluation mode, with every weight of the file in its place.

    Args:
        tokens: size of the tokenizer, which must not be more than the embedding has rows.

    Raises:
        UserError: something in the file would be lost, or something of the model is not in it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, GgufConfig

    with _alone(file) as place, _in_one_line(file):
        config = AutoConfig.from_pretrained(**place)
        if not _is_complete(header.architecture):
            _complete(config, header, file)
        model, found = AutoModelForCausalLM.from_pretrained(
            **place,
            config=config,
            dtype=getattr(torch, dtype),
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    kind = type(model).__name__
    missing = sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"])
    if missing:
        raise UserError(f"{file} lacks weights of a {kind}: {', '.join(missing[:3])} ({len(missing)} in all)")
    placed = sum(weight.numel() for weight in model.parameters())
    lost = sorted(found["unexpected_keys"]) if _is_complete(header.architecture) else header.weights - placed
    if lost:
        raise UserError(
            f"{file}: transformers' {kind} takes {placed} of its {header.weights} weights; the others would be lost"
        )
    with torch.device("meta"):
        wanted = AutoModelForCausalLM.from_config(config).state_dict()
    other = sorted(name for name, weight in model.state_dict().items() if weight.shape != wanted[name].shape)
    if other:
        raise UserError(f"{file}: weights of another shape than its metadata say: {', '.join(other[:3])}")
    if tokens > model.get_input_embeddings().weight.shape[0]:
        raise UserError(f"{file} has {tokens} tokens, and embeddings of {model.get_input_embeddings().weight.shape[0]}")
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise UserError(f"{file} holds NaN or infinity")
    vars(model.config).pop("_model_name_or_path", None)  # what the file calls itself
    ids = {
        f"{name}_token_id": header.values.get(f"tokenizer.ggml.{key}_token_id")
        for name, key in (("bos", "bos"), ("pad", "padding"))
    }
    model.generation_config = GenerationConfig(**ids, eos_token_id=header.stop_ids or None)
    return model.eval()


def _is_complete(architecture: str) -> bool:
    """Whether transformers takes all that a file of this architecture says, and tells what it does not use."""
    from transformers.integrations.gguf import is_gguf_arch_supported

    return is_gguf_arch_supported(architecture)


def _complete(config, header: Header, file: Path) -> None:
    """Put into the config what the file says and transformers' reader leaves out; refuse what has no place in it."""
    said = header.of_architecture()
    for name, value in said.items():
        if name in ELSEWHERE or (name, value) == ("rope.scaling.type", "none"):
            continue
        value = max(value) if isinstance(value, list) and value else value
        place = next((place for place in ARITHMETIC.get(name, ()) if hasattr(config, place)), None)
        if place is not None:
            near = isinstance(value, float) and abs((getattr(config, place) or 0) - value) < 1e-6 * abs(value)
            if not near:
                setattr(config, place, value)
        elif value:  # zero and false ask for nothing
            raise UserError(f"{file}: transformers has no place for {header.architecture}.{name} = {str(value)[:40]}")
    # llama.cpp does not guess these either; transformers would take the default of some other model
    needed = [["context_length"], EPSILONS, *([["expert_used_count"]] if said.get("expert_count") else [])]
    if lacking := [names[0] for names in needed if not said.keys() & {*names}]:
        raise UserError(f"{file} does not say its model's {header.architecture}.{lacking[0]}; convert it anew")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if hasattr(config, "query_pre_attn_scalar"):  # Gemma: the file does not say; so llama.cpp has it
        largest = config.num_hidden_layers in (46, 62)
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads if largest else head_dim
    rope = getattr(config, "rope_parameters", None)
    if rope is None:
        return
    whole = rope.get("full_attention", rope)  # Gemma 3 has one for each kind of its layers
    whole["rope_theta"] = said.get("rope.freq_base", 10000.0)  # what these two are by default is llama.cpp's
    part = said.get("rope.dimension_count", head_dim) / head_dim
    if part != (whole.get("partial_rotary_factor") or 1):
        config.partial_rotary_factor = whole["partial_rotary_factor"] = part
    if header.rope_freqs is not None:
        whole.update(_llama3_scaling(config, header, file))


def _llama3_scaling(config, header: Header, file: Path) -> dict:
    """Llama 3.1's rope scaling, of which a file has only what it does to each wavelength; checked against that."""
    import numpy
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    tried = {
        "rope_type": "llama3",
        "factor": float(header.rope_freqs.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain = config.rope_parameters
    scaled = type(config)(**{**config.to_dict(), "rope_parameters": {**plain, **tried}})
    after, _ = ROPE_INIT_FUNCTIONS["llama3"](scaled, "cpu")
    dim = 2 * len(after)
    before = plain["rope_theta"] ** -(numpy.arange(0, dim, 2) / dim)
    if len(header.rope_freqs) != len(after) or not numpy.allclose(before / header.rope_freqs, after.numpy(), rtol=1e-4):
        raise UserError(f"{file}: its rotary embedding (rope_freqs.weight) is not that of Llama 3.1, 3.2 or 3.3")
    return tried


def read_tokenizer(file: Path, header: Header):
    """The tokenizer, with special tokens and chat template, splitting text as its vocabulary was made for.

    Raises:
        UserError: a kind of tokenizer, or a way of splitting text, that is not known here.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS as KNOWN

    kind, split = (header.values.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    if kind is None:
        raise UserError(f"{file} has no tokenizer")
    if split in (None, "default") and header.architecture == "gpt2":
        split = "gpt-2"
    if kind == "gpt2" and split not in (*KNOWN, *LIKE_GPT2, *SINGLE_DIGITS):
        how = f"tokenizer.ggml.pre = {split}" if split else "it does not say how"
        raise UserError(f"{file}: its tokenizer splits text in a way that is not known here ({how})")
    with _in_one_line(file):
        architecture, content, special = get_gguf_tokenizer(str(file))
        backend, _ = convert_gguf_tokenizer(architecture, content)
        backend = _as_in_file(backend, header, kind, split)
    longest = header.of_architecture().get("context_length")
    special |= {"model_max_length": longest} if longest else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def _as_in_file(backend, header: Header, kind: str, split: str):
    """The tokenizer without tokens that its class adds to those of the file, and with text prepared as llama.cpp does."""
    from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_SENTENCEPIECE_BUILDERS

    state = json.loads(backend.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["id"] < header.values["tokenizer.ggml.tokens"]]
    if kind == "gpt2":
        state["model"]["unk_token"] = None  # every byte has a token
    backend = Tokenizer.from_str(json.dumps(state))
    if kind == "gpt2" and split in SINGLE_DIGITS:
        steps = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    if kind == "gpt2" and split in WHOLE_PIECES:
        backend.model.ignore_merges = True
    if kind == "llama" and header.architecture not in GGUF_SENTENCEPIECE_BUILDERS:
        steps = [normalizers.Replace(" ", "\u2581")]
        if header.values.get("tokenizer.ggml.add_space_prefix", True):
            steps.insert(0, normalizers.Prepend("\u2581"))
        backend.normalizer, backend.pre_tokenizer = normalizers.Sequence(steps), None
    # A token that the chat template writes, and that no text becomes: its type is not in the file, or is wrong there.
    for mark in MARK.findall(header.values.get("tokenizer.chat_template") or ""):
        if backend.token_to_id(mark) not in {None, *backend.encode(mark, add_special_tokens=False).ids}:
            backend.add_tokens([AddedToken(mark, normalized=False)])
    return backend


@contextmanager
def _alone(file: Path):
    """Arguments of from_pretrained for a file in a folder of its own, so that nothing beside it is read."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.gguf").symlink_to(file.resolve())
        yield {"pretrained_model_name_or_path": folder, "gguf_file": "model.gguf"}


@contextmanager
def _in_one_line(file: Path):
    """Turns what transformers says of a file that it cannot read into one line."""
    try:
        yield
    except (ImportError, MemoryError, UserError):
        raise
    except Exception as error:
        raise UserError(
            f"{file}: transformers {version('transformers')} cannot read it: {first_line(error)}"
        ) from error
