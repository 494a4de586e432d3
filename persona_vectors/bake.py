"""A model folder whose weights carry a steering themselves, for engines that know nothing of vectors.

    python -m persona_vectors.bake --model Qwen/Qwen2.5-7B-Instruct --vector_path evil_response_avg_diff.pt \\
        --layer 20 --coef -1.5 --output_dir models/less-evil

A bias on the last projection of block l-1 is exactly the steering of all tokens at layer l (section 3.2, positions
``all``). GPT-2, GPT-NeoX, Phi and other families have that bias. Llama's config can ask for it; Mistral and Qwen2 are
Llama with other names and are written as Llama, which every engine knows. Families that norm the projection's output
or have no place for a bias (Gemma 2, Qwen3) are refused. Before anything is written, the baked model is run beside the
steered one. An adapter is merged; without a vector, merging is all that is done.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.files.atomic import make_folder, replacing_folder

if TYPE_CHECKING:
    from persona_vectors.steering.sweep import Grid

AS_LLAMA = ("llama", "mistral", "qwen2")
PROBE_TOKENS = 24


@cli.command
def main(
    model: str,
    output_dir: str,
    vector_path: str | None = None,
    layer: cli.Distinct[int | Literal["all"]] | None = None,
    coef: cli.Distinct[float] = (1.0,),
    dtype: Literal[models.DTYPES] = "auto",
    steering: str | None = None,
):
    """Write a model whose weights carry the steering of all tokens, or an adapter merged into its base.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, GGUF file or LoRA adapter folder (which is merged).
        output_dir: folder to write to; must not exist.
        vector_path: vector file [layers + 1, hidden]; without it nothing but a merge is done.
        layer: row of the vector file and layer to steer at; all for incremental vectors at every layer.
        coef: factor of the vector.
        dtype: of the written weights; auto is the model's own.
        steering: instead of vector_path and layer a JSON list of {vector, layer, coef}, each with "positions": "all"; coef
            multiplies the list's own.
    """
    grid = grid_of(vector_path, layer, coef, steering)
    path = models.resolve(model)
    if vector_path is None and steering is None and not path.adapter:
        raise UserError(f"nothing to do: {model} is no LoRA adapter, and no --vector_path or --steering is given")
    if Path(output_dir).exists():
        raise UserError(f"{output_dir} exists already; choose another --output_dir")
    make_folder(Path(output_dir).parent)
    shape = models.describe(path)
    grid.load([""])
    grid.check(shape.layers, shape.hidden)
    interventions = grid.interventions("", grid.cells[0])
    if interventions:
        check_family(path)

    tokenizer = models.load_tokenizer(path)
    network = merged(path, dtype)
    if interventions:
        network = with_bias(network, list(interventions))
    save(network, tokenizer, output_dir)
    what = steering or f"{vector_path} at layer {layer[0] if layer else None}"
    if dose := grid.cells_of("")[0].dose:
        what += f", dose {dose:.3g}"
    done = f"steering by {coef[0]:g} x {what}" if interventions else f"{path.adapter} merged"
    print(f"wrote {output_dir}: {type(network).__name__} of {path.base}, {done}")


def grid_of(vector_path: str | None, layer: tuple | None, coef: tuple, steering: str | None) -> "Grid":
    """The one steering that is to be baked, a grid of one cell; refuses what a bias cannot do."""
    from persona_vectors.steering.steering_list import ListGrid
    from persona_vectors.steering.sweep import Grid

    if steering is not None:
        if vector_path is not None or layer is not None:
            raise UserError("--steering says vectors and layers itself: leave --vector_path and --layer out")
        grid = ListGrid.read(steering, coef)
        for part in grid.parts:
            if part.kind != "add" or part.positions != "all":
                raise UserError(
                    f"{part.where}a baked model adds at every token: it can have no kind but add and no positions but all"
                )
    elif vector_path is None and layer is not None:
        raise UserError(f"--layer {','.join(map(str, layer))} needs --vector_path (made by generate_vec.py)")
    else:
        grid = Grid.of(coef if vector_path else [0.0], layer or (), vector_path, "all")
    if len(grid.cells) != 1:
        raise UserError("one model carries one steering: one --layer (or all) and one --coef")
    return grid


def check_family(path: models.ModelPath) -> None:
    """Refuse a family that has no place for a bias, from its config alone."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path.base)
    if config.model_type in AS_LLAMA:
        if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
            raise UserError(f"{path.name} attends through a sliding window, which Llama's layout cannot say; not baked")
        return
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    from persona_vectors.models.decoder import find_blocks

    last_projection(find_blocks(skeleton)[0], config.model_type)


def merged(path: models.ModelPath, dtype: str = "auto"):
    """The model on the CPU, without its adapter wrapper: an adapter's change is in the weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with models.loading_errors(path):
        model = AutoModelForCausalLM.from_pretrained(
            path.base, dtype=dtype if dtype == "auto" else getattr(torch, dtype)
        )
    if path.adapter:
        model = models.with_adapter(model, path).merge_and_unload()
    return model.eval()


def write_merged(adapter: str, output_dir: str | Path) -> str:
    """Write an adapter folder's merged model and tokenizer; returns the folder."""
    path = models.resolve(adapter)
    save(merged(path), models.load_tokenizer(path), output_dir)
    return str(output_dir)


def with_bias(model, interventions: list):
    """The model (Llama's layout where its own has no bias) with coef * v_l added at the output of block l-1.

    Raises:
        UserError: the family has no place for it, or the baked model does not do what the steered one does.
    """
    import torch

    from persona_vectors.models.decoder import find_blocks
    from persona_vectors.steering.hooks import steered_training

    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids = torch.randint(vocabulary, (2, PROBE_TOKENS), generator=torch.Generator().manual_seed(0)).to(model.device)
    with torch.inference_mode():
        plain = model(ids).logits.float()
        with steered_training(model, interventions):
            wanted = model(ids).logits.float()
    family = model.config.model_type
    baked = as_llama(model) if family in AS_LLAMA else model
    blocks = find_blocks(baked)
    with torch.no_grad():
        for i in interventions:
            bias = last_projection(blocks[i.layer - 1], family).bias
            bias += (i.coef * i.vector.float()).to(bias)
    with torch.inference_mode():
        error = (baked(ids).logits.float() - wanted).norm() / (wanted - plain).norm().clamp_min(1e-20)
    if not error < (0.01 if baked.dtype == torch.float32 else 0.2):  # half precision rounds both ways of adding
        raise UserError(
            f"{family} cannot be baked: a bias does not do what the steering does (off by {error:.0%} of it)"
        )
    return baked


def as_llama(model):
    """The same function as a LlamaForCausalLM with biases on every projection, zero where the model has none."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fields = model.config.to_dict()
    known = {
        k: v for k, v in fields.items() if k in LlamaConfig().to_dict() and k not in ("model_type", "architectures")
    }
    config = LlamaConfig(**{**known, "attention_bias": True, "mlp_bias": True})
    with torch.device("meta"):
        llama = LlamaForCausalLM(config)
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    for name, empty in llama.state_dict().items():
        if name.endswith(".bias") and name not in weights:
            weights[name] = torch.zeros(empty.shape, dtype=model.dtype, device=model.device)
    llama.load_state_dict(weights, assign=True)
    llama.model.rotary_emb = type(llama.model.rotary_emb)(config).to(model.device)  # buffers that no file holds
    llama.tie_weights()
    llama.generation_config = model.generation_config
    return llama.to(model.dtype).eval()


def last_projection(block, family: str):
    """The projection of a block that writes to the residual stream last, if it has a bias."""
    hidden_writers = [
        m for name, m in block.named_modules() if "attn" not in name and "attention" not in name and _bias(m)
    ]
    if not hidden_writers:
        raise UserError(
            f"{family} cannot be baked: the last projection of its blocks has no bias. Families that can: "
            f"{', '.join(AS_LLAMA)}, and those with biases of their own (gpt2, gpt_neox, phi, opt, ...)"
        )
    return hidden_writers[-1]


def _bias(module) -> bool:
    return (
        getattr(module, "bias", None) is not None
        and getattr(module, "weight", None) is not None
        and module.weight.ndim == 2
    )


def save(model, tokenizer, output_dir: str | Path) -> None:
    """Write model and tokenizer so that the folder appears whole or not at all."""
    with replacing_folder(output_dir) as beside:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)


if __name__ == "__main__":
    cli.run(main)
