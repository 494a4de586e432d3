"""Adapters over a base model: put one on, and know whether its base can be had back afterwards.

PEFT takes LoRA layers off again, but not what else an adapter brings: biases, modules trained whole, resized or
partly trained embeddings, weights that an initialisation has changed. Knows adapter folders; nothing of prompts.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import read_json

# Parameters of layers that PEFT adds beside the base's own, and initialisations that leave these alone.
_ADDED = re.compile(r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)(\.|$)")
_HARMLESS_INITIALISATIONS = (None, True, False, "gaussian", "orthogonal")


def changes_base(adapter: str | Path) -> bool:
    """Whether an adapter changes parameters of its base, so that another copy of the base is needed beside it.

    True for everything but plain LoRA and DoRA: what is not known to be harmless costs a second load, not a wrong number.

    Args:
        adapter: folder with adapter_config.json and weights.
    """
    config = read_json(Path(adapter) / "adapter_config.json")
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or config.get("layer_replication"):
        return True
    if config.get("init_lora_weights", True) not in _HARMLESS_INITIALISATIONS:  # PiSSA and others rewrite the weights
        return True
    return not all(_ADDED.search(name) for name in _shapes(adapter))


def check_kind(config: Mapping, name: str) -> None:
    """Refuse an adapter that acts outside of the model's layers, where neither reading nor steering them would see it.

    Such are tokens put in front (prompt and prefix tuning), and layers that PEFT's own forward switches by the text (aLoRA) or
    mixes by a pass of its own (X-LoRA).

    Args:
        config: the fields of its adapter_config.json.

    Raises:
        UserError: it is such an adapter.
    """
    kind = str(getattr(config.get("peft_type"), "value", config.get("peft_type")))
    if "num_virtual_tokens" in config or config.get("alora_invocation_tokens") or kind == "XLORA":
        kind = "aLoRA" if config.get("alora_invocation_tokens") else kind
        raise UserError(
            f"{name} is an adapter of the kind {kind}, which acts outside of the model's layers: no activation would show it; "
            "adapters that act within them work (LoRA and the like)"
        )


def put_on(model, name: str, adapter: str, tokenizer_size: int | None = None):
    """``model`` with the adapter over it, in evaluation mode; embeddings grow where the adapter brings more rows.

    Args:
        model: the base, without an adapter. It is changed where :func:`changes_base` says so.
        name: what the user calls it, for messages.
        tokenizer_size: tokens of the tokenizer that goes with the adapter.

    Raises:
        UserError: the tokenizer has tokens for which neither the base nor the adapter has an embedding.
    """
    quiet_bitsandbytes()
    from peft import PeftModel

    rows = model.get_input_embeddings().weight.shape[0]
    wanted = max(rows, _embedding_rows(model, adapter))
    if tokenizer_size and tokenizer_size > wanted:
        raise UserError(
            f"the tokenizer of {name} has {tokenizer_size} tokens, but its base has embeddings of {rows} and the adapter "
            "brings none for the rest: save it with its embeddings (modules_to_save, or save_embedding_layers=True)"
        )
    if wanted > rows:
        model.resize_token_embeddings(wanted, mean_resizing=False)  # the new rows are the adapter's
    return PeftModel.from_pretrained(model, adapter).eval()


def quiet_bitsandbytes() -> None:
    """Before PEFT is imported, which imports bitsandbytes: on a CPU that warns of a kernel for 4-bit weights it lacks."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def _embedding_rows(model, adapter: str) -> int:
    """How many tokens the adapter has embeddings for; 0 where it leaves them alone."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    config = read_json(Path(adapter) / "adapter_config.json")
    trained = config.get("trainable_token_indices") or []
    indices = [i for group in trained.values() for i in group] if isinstance(trained, dict) else trained
    whole = [
        shape[0]
        for key, shape in _shapes(adapter).items()
        if key.endswith("weight") and not _ADDED.search(key) and any(f".{name}." in f".{key}" for name in names)
    ]
    return max([0, *whole, *(index + 1 for index in indices)])


def _shapes(adapter: str | Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of an adapter, without loading it."""
    path = Path(adapter) / "adapter_model.safetensors"
    if path.exists():
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    import torch

    path = Path(adapter) / "adapter_model.bin"
    if not path.exists():
        raise OSError(f"no adapter_model.safetensors in {adapter}")
    tensors = torch.load(path, map_location="meta", weights_only=True)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
