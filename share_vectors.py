"""Vectors to share: other formats, combinations, and the Hugging Face hub.

    python share_vectors.py export --vectors persona_vectors/Qwen2.5-7B-Instruct --output_dir gguf/ --layer 20
    python share_vectors.py import --vectors evil.gguf --save_dir persona_vectors/Qwen2.5-7B-Instruct --trait evil \\
        --model_name Qwen/Qwen2.5-7B-Instruct
    python share_vectors.py combine --add evil_response_avg_diff.pt --orthogonal_to sycophantic_response_avg_diff.pt \\
        --output_path persona_vectors/Qwen2.5-7B-Instruct/evil_alone_response_avg_diff.pt
    python share_vectors.py push --vectors persona_vectors/Qwen2.5-7B-Instruct --repo_id me/qwen-persona-vectors
    python share_vectors.py pull --repo_id me/qwen-persona-vectors --save_dir persona_vectors/Qwen2.5-7B-Instruct
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import make_folder, replacing
from persona_vectors.models.hub import check_repo, load_hub_settings, sorting_errors
from persona_vectors.options import Kind
from persona_vectors.sharing import quality
from persona_vectors.sharing.control_vectors import import_gguf, read_control_vector, save_control_vector
from persona_vectors.sharing.formats import (
    ENDINGS,
    About,
    about_model,
    name_of,
    read_shared,
    save_both,
    save_shared,
    shared_content,
    vector_files,
)
from persona_vectors.sharing.harness_vectors import (
    ENDING,
    read_harness_content,
    read_harness_vector,
    save_harness_vector,
)
from persona_vectors.traits.artifact import check_name
from persona_vectors.vectors.storage import (
    KINDS,
    check_fit,
    check_vector_folder,
    fingerprint,
    save_vectors,
    split_key,
    vector_name,
)

FORMATS = ("gguf", "safetensors", "pt", "lm_eval")


@cli.command
def export(
    vectors: str,
    output_dir: str,
    format: Literal[FORMATS] = "gguf",
    layer: cli.Count | None = None,
    model_name: str = "",
    coef: float = 1.0,
):
    """Write vectors as GGUF control vectors for llama.cpp, as safetensors, as .pt, or for lm-eval's model steered.

    Args:
        vectors: a vector file, or a folder of them.
        output_dir: folder to write to.
        format: of the files.
        layer: for gguf: this layer alone; by default all of them are in the file. lm_eval needs one.
        model_name: the model that they belong to, where the files do not say it.
        coef: for lm_eval: the steering coefficient.
    """
    if layer is not None and format not in ("gguf", "lm_eval"):
        raise UserError(f"--layer is for --format gguf: a {format} file holds all layers")
    if format == "lm_eval" and layer is None:
        raise UserError("--format lm_eval needs --layer: lm-eval steers at every layer that a file has")
    if coef != 1.0 and format != "lm_eval":
        raise UserError(f"--coef is for --format lm_eval: a {format} file has no coefficient")
    if format == "gguf":
        import_gguf()
    described = [(path, *known(path, model_name)) for path in files_of(vectors)]
    check_vector_folder(output_dir)
    make_folder(Path(output_dir))
    written = []
    for path, tensor, about in described:
        ending = ENDING if format == "lm_eval" else format
        written.append(Path(output_dir) / f"{vector_name(path)}{'' if layer is None else f'_layer{layer}'}.{ending}")
        if written[-1].resolve() == path.resolve():
            raise UserError(f"--output_dir {output_dir} is where {path} lies already")
        if format == "gguf":
            save_control_vector(tensor, written[-1], about, layer)
        elif format == "lm_eval":
            save_harness_vector(tensor, written[-1], about, layer, coef)
        elif format == "safetensors":
            save_shared(tensor, written[-1], about)
        else:
            save_vectors(tensor, written[-1])
    if format == "gguf":
        number = "N" if layer is None else layer - 1
        which = "" if layer is not None else ", N = layer - 1 (without a range it steers every layer at once)"
        print(f"llama.cpp: --control-vector-scaled FILE:COEF --control-vector-layer-range {number} {number}{which};")
        print("  it steers every position of prompt and answer (--steering_type all), and never the first block")
    if format == "lm_eval":
        print(
            "lm_eval --model steered --model_args pretrained=MODEL,steer_path=FILE steers every position of prompt and"
        )
        print("  answer, padding too (--steering_type all); eval.capability steers as asked")
    say_cards((tensor, about) for _, tensor, about in described if format != "pt" and layer is None)
    print("wrote " + ", ".join(map(str, written)))


@cli.command
def import_(
    vectors: str,
    save_dir: str,
    trait: str = "",
    kind: Kind = "response_avg_diff",
    model_name: str = "",
):
    """Bring a .pt, .safetensors or .gguf vector in: .pt, and safetensors with metadata, where the stages look for them.

    Args:
        vectors: the file (a .pt of lm-eval's model steered too), or a folder of .pt or .safetensors files named
            <trait>_<kind>.
        save_dir: folder to write to, persona_vectors/<model>/.
        trait: needed where neither the file nor its name says it.
        kind: what such a file holds.
        model_name: the model that the vectors belong to; they are checked against its shape.
    """
    check_vector_folder(save_dir)
    path = Path(vectors)
    if path.suffix == ".gguf":
        rows = models.describe(models.resolve(model_name)).layers + 1 if model_name else None
        tensor, about, layers = read_control_vector(path, rows)
        about = named(about, path, trait, kind, model_name, tensor)
        missing = [str(row) for row in range(len(tensor)) if row not in layers and not tensor[row].any()]
        if missing:
            have = ", ".join(map(str, layers))
            print(f"{path} has layers {have}; rows {', '.join(missing)} are zero: no steering there")
        found = [(tensor, about)]
    elif (content := read_harness_content(path)) is not None:
        rows = models.describe(models.resolve(model_name)).layers + 1 if model_name else None
        tensor, about, coefs = read_harness_vector(content, path, rows)
        found = [(tensor, named(about, path, trait, kind, model_name, tensor))]
        there = ", ".join(f"{layer} (coefficient {coef:g})" for layer, coef in coefs.items())
        print(
            f"{path} steers layer {there}; its other rows are zero: no steering there. --steering_type all is what it did"
        )
    else:
        found = []
        files = files_of(vectors)
        if trait and len(files) > 1:
            raise UserError(f"--trait names one vector, {vectors} holds {len(files)}")
        for file in files:
            tensor, about = read_shared(file)
            found.append((tensor, named(about, file, trait, kind, model_name, tensor)))
    written = [str(file) for tensor, about in found for file in save_both(tensor, save_dir, about)]
    say_cards(found)
    print("wrote " + ", ".join(written))


@cli.command
def combine(
    output_path: str,
    add: cli.Files = (),
    subtract: cli.Files = (),
    average: cli.Files = (),
    orthogonal_to: cli.Files = (),
    overwrite: bool = False,
):
    """Make a vector of others, row by row: mean of average + sum of add - sum of subtract, without orthogonal_to.

    Args:
        output_path: what to write, <trait>_<kind>.pt or .safetensors; both are written, with the recipe in the metadata.
        add: vector files whose sum is added.
        subtract: vector files whose sum is subtracted.
        average: vector files whose mean is added, as those of several seeds.
        orthogonal_to: vector files whose directions are taken out of the result, all that they span.
        overwrite: make it anew although there is one that was made otherwise.
    """
    from persona_vectors.sharing import combining

    output, roles = Path(output_path), dict(zip(combining.ROLES, (add, subtract, average, orthogonal_to), strict=True))
    trait, kind = name_of(output)
    check_name(trait)
    if output.suffix not in ENDINGS:
        raise UserError(f"--output_path ends in {' or '.join(ENDINGS)}, not '{output.suffix}'")
    if not (add or subtract or average):
        raise UserError("say what to combine: --add, --subtract or --average, each with vector files")
    check_vector_folder(output.parent)
    vectors, recipe, abouts = combining.read(roles)
    if len(models_of := sorted({about.model for about in abouts if about and about.model})) > 1:
        print(f"note: the vector files say that they belong to different models: {', '.join(models_of)}")
    made_from, main_file = provenance.record(**recipe), output.with_suffix(".pt")
    if not overwrite and main_file.exists() and provenance.take_up(main_file, made_from):
        print(f"{main_file} is there and is kept (--overwrite makes it anew)")
        return
    made, about = combining.combine(vectors), combining.describe(recipe, abouts, trait, kind)
    make_folder(output.parent)
    files = [output.with_suffix(ending) for ending in ENDINGS]
    with provenance.writing(main_file, made_from, files=files):
        save_both(made, output.parent, about)
    print("wrote " + ", ".join(map(str, files)))


@cli.command
def push(
    vectors: str,
    repo_id: str,
    results_dir: str = "",
    model_name: str = "",
    private: bool = False,
    dry_run: bool = False,
):
    """Upload a folder of vectors with a card, and the figures of the steering sweep, to a repository on the hub.

    Args:
        vectors: folder of vector files.
        repo_id: owner/name; made if it does not exist. Needs HF_TOKEN with the right to write.
        results_dir: where eval.select_layer left its figures; by default eval_persona_eval/<name of the folder>.
        model_name: the model that they belong to, where the files do not say it.
        private: make the repository private, if it is made.
        dry_run: write the card to README.md in the folder, list the files, and send nothing.
    """
    check_repo(repo_id)
    from persona_vectors.sharing.card import figure_name, find_sweeps, make_card

    folder = Path(vectors)
    described = [(path, *known(path, model_name)) for path in vector_files(folder)]
    if results_dir and not Path(results_dir).is_dir():
        raise UserError(f"--results_dir {results_dir} is no folder")
    load_hub_settings()
    shared: dict[str, list] = {}
    for path, tensor, about in described:
        shared.setdefault(about.trait, []).append(fingerprint(path, tensor))
    sweeps = find_sweeps(results_dir or Path("eval_persona_eval") / folder.resolve().name, shared)
    traits = {about.trait for _, _, about in described}
    files: dict[str, Path | bytes] = {}
    drawn: dict[str, str] = {}
    for path, tensor, about in described:
        pt, figure = path.with_suffix(".pt"), quality.path_beside(path, ".png")
        files |= {
            path.with_suffix(".safetensors").name: shared_content(tensor, about)
        }  # what lies there stays as it is
        files |= {pt.name: pt} if pt.exists() else {}
        if figure.is_file() and quality.find(path, tensor, say=lambda _: None):
            drawn[f"{about.trait}_{about.kind}"] = f"figures/{figure.name}"
            files[f"figures/{figure.name}"] = figure
    card = make_card(repo_id, [(about, tensor) for _, tensor, about in described], sweeps, drawn)
    files |= {figure_name(t, figure): figure for t, sweep in sweeps.items() if t in traits for figure in sweep.figures}
    if dry_run:
        with replacing(folder / "README.md") as beside:
            beside.write_text(str(card))
        print(f"would send to {repo_id}: README.md, " + ", ".join(sorted(files)))
        print(f"wrote {folder / 'README.md'}")
        return

    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
    operations.append(CommitOperationAdd("README.md", str(card).encode()))
    with sorting_errors(repo_id, "main"):
        HfApi().create_repo(repo_id, private=private, exist_ok=True)
        message = f"Persona vectors: {', '.join(sorted(traits))}"
        sent = HfApi().create_commit(repo_id, operations, commit_message=message)
    print(f"wrote {len(operations)} files to {sent.repo_url} at {sent.oid[:12]}")


@cli.command
def pull(
    repo_id: str,
    save_dir: str,
    revision: str = "main",
    model_name: str = "",
):
    """Fetch the vectors of a repository on the hub into a folder, each as .pt and as safetensors.

    Args:
        repo_id: owner/name.
        save_dir: folder to write to, persona_vectors/<model>/.
        revision: branch, tag or commit.
        model_name: check the vectors against this model's shape.
    """
    check_vector_folder(save_dir)
    check_repo(repo_id)
    load_hub_settings()
    import tempfile

    from huggingface_hub import snapshot_download

    make_folder(Path(save_dir))
    with tempfile.TemporaryDirectory(dir=save_dir, prefix=".pull") as folder:
        with sorting_errors(repo_id, revision):
            patterns = [f"*_{kind}{ending}" for kind in KINDS for ending in ENDINGS]
            snapshot_download(repo_id, revision=revision, local_dir=folder, allow_patterns=patterns)
        found = []
        for path in vector_files(folder):
            tensor, about = read_shared(path)
            found.append((tensor, named(about, path, "", "", model_name, tensor)))
        written = [str(file) for tensor, about in found for file in save_both(tensor, save_dir, about)]
    say_cards(found)
    print("wrote " + ", ".join(written))


def say_cards(found: Iterable[tuple[Any, About]]) -> None:
    """Print what the card of each vector says, of those that have one."""
    for tensor, about in found:
        if card := quality.parse(about.quality, tensor):
            print(f"{about.trait}_{about.kind}: {quality.verdict(card)}")


def files_of(vectors: str) -> list[Path]:
    """A file, or the vector files of a folder."""
    return vector_files(vectors) if Path(vectors).is_dir() else [Path(vectors)]


def known(path: Path, model_name: str):
    """``(tensor, about)`` of a file; of a .pt without metadata what its name and ``model_name`` tell.

    The card of eval.vector_quality that lies beside it comes with it.
    """
    tensor, about = read_shared(path)
    if about is None or model_name:
        about = named(about, path, "", "", model_name, tensor)
    if found := quality.find(path, tensor):
        about = replace(about, quality=found)
    if not about.model:
        raise UserError(f"{path} does not say which model it belongs to: pass --model_name")
    return tensor, about


def named(about: About | None, path: Path, trait: str, kind: str, model_name: str, tensor) -> About:
    """``about`` with what the flags add; refuses a vector of another shape than ``model_name``'s."""
    if about is None:
        named_trait, named_kind = (trait, kind) if trait else name_of(path)
        check_name(named_trait)
        about = About(
            trait=named_trait, kind=named_kind, method=f"not known; from a {split_key(path)[0].suffix} file", library=""
        )
    elif trait:
        about = replace(about, trait=trait)
    if not model_name:
        return about
    resolved = models.resolve(model_name)
    shape = models.describe(resolved)
    check_fit(path, tensor, shape.layers, shape.hidden, [])
    from transformers import AutoConfig

    told = about_model(resolved, AutoConfig.from_pretrained(resolved.base), about.dtype)
    return replace(about, **told)


if __name__ == "__main__":
    cli.run_one_of({"export": export, "import": import_, "combine": combine, "push": push, "pull": pull})
