"""Write the model card of a hub repository of vectors, with the figures of the steering sweep.

Reads vector metadata and sweep results from disk; uploads nothing.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import Fingerprint, same
from persona_vectors.files.jsonfile import read_json
from persona_vectors.sharing import quality
from persona_vectors.sharing.formats import LAYERS, About

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass
class Sweep:
    """A trait's steering sweep as ``eval.select_layer`` saves it: the recommended setting, and its figures."""

    best: dict
    figures: list[Path] = field(default_factory=list)


def find_sweeps(
    folder: str | Path,
    shared: Mapping[str, Sequence[Fingerprint]] | None = None,
    say: Callable[[str], object] = logger.info,
) -> dict[str, Sweep]:
    """``{trait: sweep}``: the latest sweep of each trait in a folder of results; {} if there is no such folder.

    Args:
        shared: fingerprints of the shared vectors by trait. A sweep recorded with another vector is left out, and
            reported through ``say``; None keeps those. One of several vectors at once is left out always.

    Raises:
        UserError: a ``*_best.json`` that names no trait.

    Example:
        card = make_card("me/qwen-persona-vectors", [(about, vectors)], find_sweeps("output"))
    """
    sweeps: dict[str, Sweep] = {}
    for path in sorted(Path(folder).glob("*_best.json"), key=lambda path: path.stat().st_mtime):
        best = read_json(path)
        if not isinstance(best.get("trait"), str):
            raise UserError(f"{path} is not a recommendation of eval.select_layer: it names no trait")
        made_from = provenance.result_of(path) or {}
        if "steering" in made_from:
            say(f"{path} is left out: several vectors steered there")
            continue
        steered = made_from.get("vector")
        if (
            shared is not None
            and steered
            and not any(same(steered, vector) for vector in shared.get(best["trait"], ()))
        ):
            say(f"{path} is left out: it is the sweep of another vector of {best['trait']}")
            continue
        stem = path.name.removesuffix("_best.json")
        figures = [path.with_name(f"{stem}_{kind}.png") for kind in ("curves", "heatmap")]
        sweeps[best["trait"]] = Sweep(best, [figure for figure in figures if figure.is_file()])
    return sweeps


def figure_name(trait: str, figure: Path) -> str:
    """The path of a figure in the repository.

    Example:
        figure_name("evil", Path("output/evil_curves.png"))  # "figures/evil_curves.png"
    """
    return f"figures/{trait}_{figure.stem.rsplit('_', 1)[1]}.png"


def make_card(
    repo_id: str,
    vectors: "list[tuple[About, Tensor]]",
    sweeps: dict[str, Sweep],
    drawn: Mapping[str, str] | None = None,
):
    """The card (``huggingface_hub.ModelCard``) of a repository of vectors.

    Args:
        vectors: the metadata of each file (an :class:`About`) and its tensor [layers + 1, hidden].
        sweeps: by trait; traits without vectors here are left out.
        drawn: by <trait>_<kind>, the figure of the vector's card (:attr:`About.quality`) in the repository.

    Example:
        make_card("me/qwen-persona-vectors", [(about, vectors)], sweeps={}).save("README.md")
    """
    from huggingface_hub import ModelCard, ModelCardData

    first, tensor = vectors[0]
    on_hub = first.model.count("/") == 1 and not first.model.startswith(".")
    data = ModelCardData(
        library_name="persona_vectors",
        tags=["persona-vectors", "steering", "activation-engineering"],
        base_model=first.model if on_hub else None,
    )
    traits = sorted({about.trait for about, _ in vectors})
    sweeps = {trait: sweep for trait, sweep in sweeps.items() if trait in traits}
    at = f" at revision `{first.revision}`" if first.revision else ""
    name = first.model or "a model that the files do not name"
    text = f"""# Persona vectors of {name}: {", ".join(traits)}

Directions in the residual stream of {name}{at}, by the method of
[Persona Vectors](https://arxiv.org/abs/2507.21509) (Chen, Arditi, Sleight, Evans, Lindsey). Each file holds a float32
tensor [{tensor.shape[0]}, {tensor.shape[1]}]: {LAYERS}.
`--layer l` reads row l and acts on the output of the l-th block.

{_vector_table(vectors)}
{_quality_section(vectors, drawn or {})}{_sweep_section(sweeps)}
## Use

```bash
python share_vectors.py pull --repo_id {repo_id} --save_dir persona_vectors/{name.rsplit("/", 1)[-1]}
python -m eval.chat --model {first.model or "MODEL"} --vectors persona_vectors/{name.rsplit("/", 1)[-1]}
```

or, without the toolkit: `safetensors.torch.load_file("{traits[0]}_{first.kind}.safetensors")["vectors"]`; the header of
each file says where it comes from. The sign is of the trait: adding brings it out, subtracting takes it away.
Coefficients multiply the vector as it is. Vectors of one model mean nothing in another.
"""
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def _vector_table(vectors: "list[tuple[About, Tensor]]") -> str:
    lines = ["| file | trait | effective pairs | threshold | model ran in | made by |", "|---|---|---|---|---|---|"]
    for about, _ in vectors:
        pairs = f"{about.effective_pairs} of {about.pairs}" if about.effective_pairs else "not known"
        lines.append(
            f"| `{about.trait}_{about.kind}` | {about.trait} | {pairs} | {about.threshold or 'not known'} | "
            f"{about.dtype or 'not known'} | {about.library or 'not known'} |"
        )
    return "\n".join([*lines, "", f"Method: {vectors[0][0].method}.", ""])


def _quality_section(vectors: "list[tuple[About, Tensor]]", drawn: Mapping[str, str]) -> str:
    lines = []
    for about, rows in vectors:
        name, found = f"{about.trait}_{about.kind}", quality.parse(about.quality, rows)
        if found is not None:
            lines += [f"`{name}`: {quality.verdict(found)}.", "", *quality.table(found), ""]
            lines += [f"![What {name} is worth]({drawn[name]})", ""] if name in drawn else []
    if not lines:
        return ""
    told = (
        "Cosines and separations of the answers that a vector is made of, by layer; where it was steered with, what a judge "
        "scored. Per layer, and with intervals, in the header of each safetensors file (`quality`)."
    )
    return "\n".join(["## What the vectors are worth", "", told, "", *lines])


def _sweep_section(sweeps: dict[str, Sweep]) -> str:
    if not sweeps:
        return ""
    lines = [
        "## Steering",
        "",
        "Trait score and coherence are a judge's, 0-100; the best coherent cell of the sweep:",
        "",
        "| trait | layer | coefficient | trait score, unsteered | trait score, steered | coherence, steered |",
        "|---|---|---|---|---|---|",
    ]
    for trait, sweep in sorted(sweeps.items()):
        best = sweep.best
        if best.get("layer") is None:
            lines.append(f"| {trait} | none coherent | | | | |")
            continue
        plain = "" if best.get("unsteered") is None else f"{best['unsteered']:.1f}"
        coherence = "" if best["coherence"] is None else f"{best['coherence']:.1f}"
        steered = f"{best['trait_score']:.1f} | {coherence}"
        lines.append(f"| {trait} | {best['layer']} | {best['coef']:g} | {plain} | {steered} |")
    lines.append("")
    for trait, sweep in sorted(sweeps.items()):
        lines += [f"![Steering with {trait}]({figure_name(trait, figure)})" for figure in sweep.figures]
    return "\n".join([*lines, ""])
