"""Models by path: hub ids, local folders, folders of checkpoints, LoRA adapters, GGUF files.

Knows where weights are and how to load them. ``describe`` answers from config files alone, so that a stage can
refuse a layer or a vector before anything heavy is loaded.
"""

import importlib.util
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError, first_line
from persona_vectors.files import fingerprints
from persona_vectors.files.jsonfile import read_json
from persona_vectors.models import adapters, gguf_conversion
from persona_vectors.models.chat_template import Given
from persona_vectors.processes import accelerator, default_dtype, gpu_count

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelPath:
    """What a ``--model`` argument stands for: the base model to load and, over it, perhaps a LoRA adapter.

    ``source`` is the base as it was found: a hub id, a folder, or a GGUF file; ``load_in_4bit`` puts its weights into 4 bits.
    ``chat_template`` is the one that its chats are written by in the place of its own.
    """

    name: str
    source: str
    adapter: str | None = None
    load_in_4bit: bool = False
    chat_template: Given | None = None

    @property
    def bare(self) -> "ModelPath":
        """The base without the adapter, loaded the same way."""
        return replace(self, name=self.source, adapter=None)

    @property
    def base(self) -> str:
        """The base as a hub id or a folder; a GGUF file is converted into one when this is first asked for.

        Raises:
            UserError: a GGUF file that cannot be read.
        """
        return gguf_conversion.folder_of(self.source) if gguf_conversion.is_gguf(self.source) else self.source

    @property
    def basename(self) -> str:
        """The last part of the name as the user gave it; used in file and column names."""
        return basename(self.name)


def basename(name: str) -> str:
    """What a model is called in file and column names: the last part of its name; of a GGUF file, without the ending."""
    return gguf_conversion.stem(name) if gguf_conversion.is_gguf(name) else name.rstrip("/").split("/")[-1]


def resolve(name: str, *, load_in_4bit: bool = False, chat_template: str | None = None) -> ModelPath:
    """Find what ``name`` stands for.

    A local folder with weights is a model; one with ``adapter_config.json`` a LoRA adapter (its base is read there);
    one with ``checkpoint-N`` folders only, the latest of these; one with a single GGUF file, that file. What does not
    exist locally is a hub id if it looks like one, or owner/name:file.gguf.

    Args:
        name: what the user calls it.
        load_in_4bit: its weights are to be put into 4 bits by bitsandbytes.
        chat_template: a Jinja file or ``plain``, see :class:`chat_template.Given`.

    Raises:
        UserError: nothing of that name, a folder that holds no model, no such template, or bitsandbytes is not installed.
    """
    if load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("--load_in_4bit needs bitsandbytes, which is not installed (pip install bitsandbytes)")
    template = None if chat_template is None else Given.of(chat_template)
    return replace(_find(name), load_in_4bit=load_in_4bit, chat_template=template)


def _find(name: str) -> ModelPath:
    """What ``name`` stands for; see :func:`resolve`."""
    path = Path(name)
    if gguf_conversion.is_gguf(name):
        gguf_conversion.check_name(name)
        return ModelPath(name, name)
    if not path.exists():
        if re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name) and not name.startswith(
            ("models/", "output/", "checkpoints/")
        ):
            return ModelPath(name, name)
        raise UserError(f"no model at {name}: neither a local folder nor a Hugging Face id (owner/name)")
    if path.is_file():
        raise UserError(f"{name} is a file: a model is a folder ({path.parent}?), or a file whose name ends in .gguf")
    if (path / "adapter_config.json").exists():
        return ModelPath(name, _base_of(path / "adapter_config.json"), str(path))
    if (path / "config.json").exists() and (_has_weights(path) or not gguf_conversion.files_in(path)):
        return ModelPath(name, str(path))
    if found := checkpoints(path):
        latest = _find(str(found[-1]))
        return ModelPath(name, latest.source, latest.adapter)
    file = gguf_conversion.only_file_in(path)
    if file is None:
        raise UserError(
            f"{name} holds no model: no config.json, adapter_config.json, checkpoint-N folder or GGUF file in it"
        )
    return ModelPath(name, file)


def _has_weights(folder: Path) -> bool:
    """Whether weights as transformers keeps them lie there: repositories of GGUF files may have a config alone."""
    return any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir())


def checkpoints(folder: str | Path) -> list[Path]:
    """The ``checkpoint-N`` of a folder, the latest last."""
    found = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def _base_of(config: Path) -> str:
    """The base model that an ``adapter_config.json`` names."""
    try:
        fields = read_json(config)
        base = fields["base_model_name_or_path"]
    except (UserError, KeyError) as error:
        raise UserError(f"{config} does not say which base model the adapter is for: {error}"[:300]) from error
    adapters.check_kind(fields, str(config.parent))
    if not isinstance(base, str) or not base:
        raise UserError(f"{config}: base_model_name_or_path must name the adapter's base model, not {base!r}"[:300])
    return base


@dataclass(frozen=True)
class Shape:
    """Number of decoder blocks L, width of the residual stream, and the longest sequence the model takes."""

    layers: int
    hidden: int
    max_length: int | None


def describe(path: ModelPath, trust_remote_code: bool = False) -> Shape:
    """The model's shape, from its config alone."""
    from transformers import AutoConfig

    with loading_errors(path):
        config = AutoConfig.from_pretrained(path.base, trust_remote_code=trust_remote_code)
    return shape_of(config)


def shape_of(config) -> Shape:
    """The shape that a transformers config describes; the text decoder's where a model also sees or hears."""
    text = config.get_text_config(decoder=True)
    return Shape(text.num_hidden_layers, text.hidden_size, getattr(text, "max_position_embeddings", None))


def ends_of(path: ModelPath, trust_remote_code: bool = False) -> int | list[int] | None:
    """``eos_token_id`` of the generation config of a model that is not loaded; of its config where it has none."""
    from transformers import AutoConfig, GenerationConfig

    with loading_errors(path):
        config = AutoConfig.from_pretrained(path.base, trust_remote_code=trust_remote_code)
    try:
        generation = GenerationConfig.from_pretrained(path.base)
    except OSError:  # there is none: transformers makes one out of the model's config
        generation = GenerationConfig.from_model_config(config)
    return generation.eos_token_id


def made_of(path: ModelPath, role: str = "model", adapter: str = "adapter") -> dict:
    """``{role: the base's fingerprint, adapter: the adapter's or None}``, as records of results name them.

    A model on the hub is the commit of its snapshot on this machine. One in 4 bits is another than the same in full. Where a
    chat template is given, the model that a command is about has it in ``chat_template``; its other models are given the same.
    """
    with loading_errors(path):
        local = Path(path.base).is_dir()
        base = fingerprints.of_folder(path.base) if local else fingerprints.of_hub(path.base)
    over = fingerprints.of_folder(path.adapter, path.basename) if path.adapter else None
    template = {"chat_template": path.chat_template.made_of} if path.chat_template and role == "model" else {}
    if path.load_in_4bit:
        return {role: replace(base, name=f"{base.name} in 4 bits", id=f"{base.id}+nf4"), adapter: over, **template}
    return {role: replace(base, older=(path.name,)), adapter: over, **template}


def _has_tokenizer(path: ModelPath) -> bool:
    """Whether the adapter brings a tokenizer of its own."""
    return bool(path.adapter) and (Path(path.adapter) / "tokenizer_config.json").exists()


def tokenizer_source(path: ModelPath) -> str:
    """The folder or hub id of the model's tokenizer: the adapter's own where it brings one."""
    return path.adapter if path.adapter and _has_tokenizer(path) else path.base


def load_tokenizer(path: ModelPath, trust_remote_code: bool = False):
    """The model's tokenizer (an adapter's own where it brings one), with a padding token and the template that is given.

    Raises:
        UserError: there is none. (transformers may make one without any words for a folder that has a config alone.)
    """
    from transformers import AutoTokenizer

    source = tokenizer_source(path)
    with loading_errors(path):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    files = not Path(source).is_dir() or any(Path(source).glob("tokenizer*"))
    if not files and not tokenizer("a b", add_special_tokens=False)["input_ids"]:
        raise UserError(f"cannot load {path.name}: it has no tokenizer (tokenizer.json, tokenizer_config.json)")
    ensure_padding(tokenizer, path.name)
    if path.chat_template:
        path.chat_template.put_on(tokenizer)
    return tokenizer


def ensure_padding(tokenizer, name: str = "the model") -> None:
    """Give the tokenizer a padding token where it has none: any will do, since padding is masked.

    Raises:
        UserError: it has no end token either, so that answers would never end.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"the tokenizer of {name} has neither an end token nor one for padding: set eos_token in its "
                "tokenizer_config.json to the token that ends an answer"
            )
        tokenizer.pad_token = tokenizer.eos_token


def load_model(path: ModelPath, dtype: str = "auto", trust_remote_code: bool = False, device: int | None = None):
    """The model in evaluation mode, on the accelerator if there is one, else on the CPU; an adapter is put over its base.

    Args:
        dtype: ``float32``, ``bfloat16``, ``float16``; ``auto`` is bfloat16 on a GPU and float32 on a CPU.
        device: the one GPU to use, where each process has its own; by default all of them share the model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = default_dtype() if dtype == "auto" else dtype
    # None would take away the quantisation that a model's own config names
    quantised = {"quantization_config": in_4bit(getattr(torch, dtype))} if path.load_in_4bit else {}
    with loading_errors(path):
        model = AutoModelForCausalLM.from_pretrained(
            path.base,
            dtype=getattr(torch, dtype),
            device_map=placement(device),
            trust_remote_code=trust_remote_code,
            **attention_of(path, trust_remote_code),
            **quantised,
        )
    return with_adapter(model, path, trust_remote_code).eval()


def attention_of(path: ModelPath, trust_remote_code: bool = False) -> dict[str, str]:
    """Options of ``from_pretrained`` for a model whose attention transformers' usual choice would compute otherwise; else {}.

    That choice is PyTorch's ``scaled_dot_product_attention``, which cannot bound the attention's logits
    (``attn_logit_softcapping``: Gemma 2, VaultGemma), and does without and without a word.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path.base, trust_remote_code=trust_remote_code).get_text_config(decoder=True)
    return {"attn_implementation": "eager"} if getattr(config, "attn_logit_softcapping", None) else {}


def placement(device: int | None = None) -> "str | dict | None":
    """The ``device_map`` of transformers: shared by all GPUs, on the one ``device``, on a Mac's GPU, or None on a CPU."""
    kind = accelerator()
    if kind == "cpu":
        return None
    if gpu_count() == 0:
        return {"": kind}
    return "auto" if device is None else {"": device}


def in_4bit(dtype: "torch.dtype"):
    """The quantisation config of transformers for weights in 4 bits (NF4), computing in ``dtype``."""
    adapters.quiet_bitsandbytes()
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def with_adapter(model, path: ModelPath, trust_remote_code: bool = False):
    """The base ``model`` with the adapter of ``path`` over it, or as it is where there is none."""
    if not path.adapter:
        return model
    size = len(load_tokenizer(path, trust_remote_code)) if _has_tokenizer(path) else None
    with loading_errors(path):
        return adapters.put_on(model, path.name, path.adapter, size)


class Loader:
    """Loads one model after another; adapters over the same base share its weights, which stay loaded in between.

    A base that an adapter has changed (:func:`persona_vectors.models.adapters.changes_base`) is loaded anew for the next model.

    Args:
        path, model: one that is loaded already; it is used as if it had been given out.
    """

    def __init__(
        self, dtype: str = "auto", trust_remote_code: bool = False, path: ModelPath | None = None, model=None
    ) -> None:
        self.dtype, self.trust = dtype, trust_remote_code
        self._base, self._model = path and path.bare, model  # the base that is loaded, and the model as last given out
        self._spoilt = bool(path and path.adapter and adapters.changes_base(path.adapter))

    def load(self, path: ModelPath):
        """The model of ``path``; the one given out before must not be used any more."""
        if self._base != path.bare or self._spoilt:
            self._model = None  # frees its memory before the next is loaded
            self._model = load_model(path.bare, self.dtype, self.trust)
            self._base, self._spoilt = path.bare, False
        elif hasattr(self._model, "unload"):  # an adapter is over it
            self._model = self._model.unload()
        if path.adapter:
            self._spoilt = True  # until the adapter is on, and known to leave its base alone
            self._model = with_adapter(self._model, path, self.trust)
            self._spoilt = adapters.changes_base(path.adapter)
        return self._model


class loading_errors:
    """Turns what transformers says of a model that is missing, broken, gated or out of reach into one line.

    An accelerator out of memory, and what else is no fault of the files, keeps its traceback.
    """

    def __init__(self, path: ModelPath) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind, error, _traceback) -> None:
        if error is None or isinstance(error, UserError):
            return
        if isinstance(error, ImportError):
            raise UserError(
                f"cannot load {self.path.name}: it needs a package that is not installed: {first_line(error)}"
            ) from error
        of_files = isinstance(error, (OSError, ValueError, TypeError, KeyError, AttributeError))
        if of_files or type(error).__module__.startswith(("huggingface_hub", "safetensors", "tokenizers")):
            downloaded = Path("models") / self.path.source  # where download_hf_models.py puts it
            if Path(self.path.source).exists():
                hint = "the folder is incomplete or damaged"
            elif downloaded.is_dir():
                hint = f"there is a folder {downloaded}: name that"
            else:
                hint = (
                    f"download it first: python download_hf_models.py --model_name {self.path.source}; gated models need "
                    "HF_TOKEN in .env"
                )
            raise UserError(f"cannot load {self.path.name}: {first_line(error)} ({hint})") from error
