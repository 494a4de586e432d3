"""Stage: judged answers of both signs -> persona vectors.

    python generate_vec.py --model_name Qwen/Qwen2.5-7B-Instruct --pos_path evil_pos_instruct.csv \\
        --neg_path evil_neg_instruct.csv --trait evil --save_dir persona_vectors/Qwen2.5-7B-Instruct/

Writes <trait>_{prompt_avg,response_avg,prompt_last}_diff.pt, each float32 [layers + 1, hidden_size]: per layer the
mean activation over effective positive answers minus that over the negative ones (section 2.2). An answer is run after
the thoughts that it came after (column reasoning); they count for neither prompt nor answer. The .safetensors file
beside each holds the same, and says which model, trait and answers it comes from (share_vectors.py); --shuffled N adds
<trait>_<kind>_shuffled.safetensors, the controls with shuffled labels. Vectors that are there and were made from these very
pairs and this model are not made again. Several traits in one load of the model: --trait evil,sycophantic with {trait} in
both paths.
"""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import locked, make_folder
from persona_vectors.files.fingerprints import in_words, same
from persona_vectors.options import ReadingOptions
from persona_vectors.sharing.formats import ENDINGS, About, about_model, norms_text, save_both
from persona_vectors.vectors.pairs import (
    MIN_COHERENCE,
    PAIRED_BY,
    effective_pairs,
    fingerprint,
    question_numbers,
    read_pairs,
    runnable_pairs,
)
from persona_vectors.vectors.shuffled import ShuffledLabels, read_shuffled, save_shuffled
from persona_vectors.vectors.storage import KINDS, check_vector_folder, load_vectors

if TYPE_CHECKING:
    import pandas


@cli.command
def main(
    model_name: str,
    pos_path: str,
    neg_path: str,
    trait: cli.Distinct[str],
    save_dir: str,
    threshold: cli.Score = 50.0,
    *,
    reading: ReadingOptions,
    pair_by: Literal[PAIRED_BY] = "question_id",
    shuffled: Annotated[int, cli.Between(0), cli.InFull] = 0,
    min_coherence: Annotated[cli.Score, cli.InFull] = MIN_COHERENCE,
    overwrite: bool = False,
):
    """Make persona vectors from the judged answers of eval_persona, of one trait or of several in one load of the model.

    Args:
        model_name: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        pos_path: answers CSV made with --persona_instruction_type pos; {trait} is filled in.
        neg_path: the same with neg.
        trait: name of the score column, and of the files; several need {trait} in pos_path and neg_path.
        save_dir: folder to write to.
        threshold: a pair counts where pos >= threshold, neg < 100 - threshold, both coherences >= min_coherence.
        pair_by: question_id, or row: the first positive answer with the first negative one and so on, as published.
        shuffled: so many control vectors beside each, of the same pairs with the labels of half of them exchanged; for
            eval_persona --control shuffled.
        min_coherence: least coherence of both answers of a pair; 0 takes them as they are, scored for coherence or not.
        overwrite: make the vectors anew although they are there and would be the same.
    """
    check_vector_folder(save_dir)
    path = reading.resolve(model_name)
    if len(trait) > 1 and any("{trait}" not in pattern for pattern in (pos_path, neg_path)):
        raise UserError("several traits need {trait} in --pos_path and --neg_path")
    of_model = models.made_of(path) | {"dtype": reading.dtype}
    rule = Rule(threshold, min_coherence, pair_by)
    jobs = [read_answers_of(name, pos_path, neg_path, rule, of_model, save_dir) for name in trait]
    make_folder(Path(save_dir))
    with ExitStack() as held:
        for job in jobs:
            held.enter_context(locked(Path(save_dir) / f".{job.trait}.lock", f"vectors of {job.trait} into {save_dir}"))
        todo = [job for job in jobs if overwrite or not job.is_made(shuffled)]
        if not todo:
            return
        longest = models.describe(path, reading.trust_remote_code).max_length
        tokenizer = models.load_tokenizer(path, reading.trust_remote_code)
        ready = [(job, *runnable_pairs(tokenizer, job.effective, longest, model_name)) for job in todo]
        model = models.load_model(path, reading.dtype, reading.trust_remote_code)
        for job, effective, samples in ready:
            make_vectors(job, effective, samples, path, model, reading.token_budget, shuffled)


@dataclass(frozen=True)
class Rule:
    """Which pairs of answers are effective; the fields are flags of :func:`main`."""

    threshold: float
    min_coherence: float
    pair_by: str


@dataclass(frozen=True)
class TraitAnswers:
    """A trait's answers as they were read, and what is made of them.

    Attributes:
        effective: the effective pairs, a DataFrame.
        counts: for the vectors' files: threshold, effective_pairs, pairs.
        made_from: the record of the vectors.
        folder: where they go.
    """

    trait: str
    effective: "pandas.DataFrame"
    counts: dict[str, str]
    made_from: dict
    folder: str

    @property
    def files(self) -> list[Path]:
        """All files of the trait's vectors."""
        return [Path(self.folder) / f"{self.trait}_{kind}{ending}" for kind in KINDS for ending in ENDINGS]

    @property
    def main_file(self) -> Path:
        """The file beside which the record lies."""
        return Path(self.folder) / f"{self.trait}_response_avg_diff.pt"

    def is_made(self, shuffled: int) -> bool:
        """Whether the vectors, and so many shuffled ones, are there and were made from the same."""
        return is_made(self.main_file, self.made_from) and are_shuffled(self.folder, self.trait, shuffled)


def read_answers_of(
    trait: str, pos_path: str, neg_path: str, rule: Rule, of_model: dict, save_dir: str
) -> TraitAnswers:
    """The effective pairs of a trait; ``of_model`` is what the vectors depend on besides. Arguments are those of :func:`main`."""
    pos_path, neg_path = (pattern.replace("{trait}", trait) for pattern in (pos_path, neg_path))
    pairs = read_pairs(pos_path, neg_path, trait, rule.pair_by, rule.min_coherence)
    effective = effective_pairs(pairs, trait, rule.threshold, rule.min_coherence)
    print(f"{trait}: {len(effective)} of {len(pairs)} pairs are effective")
    made_from = provenance.record(
        **of_model,
        trait=trait,
        threshold=rule.threshold,
        pairs=fingerprint(effective),
        of=len(pairs),
    )
    if rule.min_coherence != MIN_COHERENCE:  # earlier records do not name the default
        made_from["min_coherence"] = rule.min_coherence
    check_answers({path: provenance.result_of(path, trait) for path in (pos_path, neg_path)}, made_from)
    counts = {"threshold": f"{rule.threshold:g}", "effective_pairs": str(len(effective)), "pairs": str(len(pairs))}
    counts["min_coherence"] = f"{rule.min_coherence:g}"
    return TraitAnswers(trait, effective, counts, made_from, save_dir)


def make_vectors(
    job: TraitAnswers, effective, samples: dict, path: models.ModelPath, model, token_budget: int | None, shuffled: int
):
    """Extract a trait's vectors, write and report them; ``effective`` are the pairs that can be run, ``samples`` theirs."""
    import torch

    from persona_vectors.vectors.extraction import differences, mean_activations
    from persona_vectors.vectors.norms import MeanNorms
    from persona_vectors.vectors.separation import held_out

    controls = ShuffledLabels(len(effective), shuffled)
    means, answers, collected = {}, {}, MeanNorms(sum(map(len, samples.values())))
    for sign, made in samples.items():
        seen = controls.positive if sign == "pos" else controls.negative
        label = f"{job.trait} {sign}"
        means[sign], answers[sign] = mean_activations(model, made, token_budget, label, seen, collected)
    vectors = differences(means["pos"], means["neg"])
    norms = collected.mean(model)
    told = about_model(path, model.config, str(model.dtype).removeprefix("torch.")) | job.counts
    told |= {"effective_pairs": str(len(effective)), "mean_norms": norms_text(norms)}
    with provenance.writing(job.main_file, job.made_from, files=job.files):
        for pool, vector in vectors.items():
            save_with_controls(vector, job.folder, About(trait=job.trait, kind=f"{pool}_diff", **told), controls)
    odd_questions = torch.tensor(question_numbers(effective)) % 2 == 1
    aucs = held_out(answers["pos"], answers["neg"], odd_questions)
    report(vectors["response_avg"], norms, aucs)
    print("wrote " + ", ".join(map(str, job.files)))


def save_with_controls(vector, folder: str, about: About, controls: ShuffledLabels) -> None:
    """Write a vector in both formats, and its shuffled ones beside it where there are any."""
    file, _ = save_both(vector, folder, about)
    if len(controls.signs):
        save_shuffled(controls.of(about.kind.removesuffix("_diff"), vector), file, vector)


def check_answers(records: dict[str, dict | None], made_from: dict) -> None:
    """Refuse positive and negative answers that different models gave or judges scored; say if they are another's."""
    by_template = {path: record and {"chat_template": None, **record} for path, record in records.items()}
    names = ("model", "adapter", "chat_template", "judge_model", "judge", "judge_prompt", "trait")
    provenance.refuse_mixture(by_template, names)
    for path, record in records.items():
        for name in ("model", "adapter"):
            if record and name in record and not same(record[name], made_from[name]):
                print(
                    f"note: {name} of {path} is {in_words(record[name])}; the vectors are of {in_words(made_from[name])}"
                )


def is_made(path: Path, made_from: dict) -> bool:
    """Whether the vectors are there, made from the same; prints so, or why they are made anew."""
    verdict = provenance.compare(path, made_from)
    if verdict.matches:
        print(
            f"{path} and the other vectors of this trait are there, made from this model and these pairs: not made again"
        )
    elif path.exists():
        changed = "; ".join(verdict.differences) or (
            "they were changed" if verdict.recorded else "they have no record of what they were made from"
        )
        print(f"the vectors at {path} are made anew: {changed}")
    return verdict.matches


def are_shuffled(folder: str, trait: str, count: int) -> bool:
    """Whether ``count`` shuffled vectors lie beside each of the trait's vectors; prints that they do not."""
    paths = [Path(folder) / f"{trait}_{kind}.pt" for kind in KINDS if count]
    with suppress(UserError):
        if all(len(read_shuffled(path, load_vectors(path))) >= count for path in paths):
            return True
    print(f"  but not {count} shuffled vectors beside each: all are made, and these with them")
    return False


def report(vector, norms, aucs) -> None:
    """Print, per layer, the response vector's length, the dose of coefficient 1 and how well it separates held-out questions."""
    if not vector.any():
        print(
            "the positive and the negative answers are the same: this vector is zero at every layer, and steers nothing"
        )
    print("layer  norm of response_avg_diff  dose of coefficient 1  held-out AUC")
    for layer, row in enumerate(vector):
        print(f"{layer:5d}  {row.norm():25.4f}  {row.norm() / norms[layer]:21.3f}  {aucs[layer]:12.3f}")


save_persona_vector = main  # its published name


def __getattr__(name: str):
    """The published module's other names; see :mod:`persona_vectors.published`."""
    if name.startswith("__"):  # of the import system
        raise AttributeError(name)
    from persona_vectors.published import find

    return find("generate_vec", name)


if __name__ == "__main__":
    cli.run(main)
