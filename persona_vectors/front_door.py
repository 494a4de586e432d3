"""The library for a notebook: a model, pairs of questions and answers, tensors. ``import persona_vectors as pv`` has these names.

Everything here is a thin layer over the rooms; the stages' files, records and resuming are not needed for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.traits.artifact import Trait

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy
    from torch import Tensor, nn

Pair = tuple["str | list[dict[str, str]]", str]  # (a question, or the messages before the answer; the answer)


def load(model: "str | nn.Module", tokenizer=None, dtype: str = "auto", trust_remote_code: bool = False) -> tuple:
    """A model in evaluation mode and its tokenizer.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file; or a loaded model, which
            comes with its ``tokenizer`` and is given back with it, the latter with a padding token.
        dtype: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.

    Raises:
        UserError: no such model, or one that cannot be loaded.

    Example:
        >>> model, tokenizer = pv.load("models/toy")
    """
    if not isinstance(model, str | Path):
        if tokenizer is None:
            raise UserError("a model that is loaded already needs its tokenizer: pv.load(model, tokenizer)")
        models.ensure_padding(tokenizer)
        return model.eval(), tokenizer
    path = models.resolve(str(model))
    return models.load_model(path, dtype, trust_remote_code), models.load_tokenizer(path, trust_remote_code)


@dataclass(frozen=True, eq=False)
class PersonaVectors:
    """The three vectors that the method makes of answers, each float32 [layers + 1, hidden]; ``v[20]`` is response_avg's row 20."""

    prompt_avg: "Tensor"
    response_avg: "Tensor"
    prompt_last: "Tensor"

    def __getitem__(self, layer: int) -> "Tensor":
        return self.response_avg[layer]

    def save(self, folder: str, trait: str, model: str = "") -> list[Path]:
        """Write ``<trait>_{prompt_avg,response_avg,prompt_last}_diff.pt`` and .safetensors, as generate_vec.py names them."""
        from persona_vectors.files.atomic import make_folder
        from persona_vectors.sharing.formats import About, save_both

        make_folder(Path(folder))
        return [
            path
            for pool, rows in vars(self).items()
            for path in save_both(rows, folder, About(model=model, trait=trait, kind=f"{pool}_diff"))
        ]


def find_vectors(
    model: "nn.Module", tokenizer, positive: Sequence[Pair], negative: Sequence[Pair], token_budget: int | None = None
) -> PersonaVectors:
    """The mean activation over positive answers minus that over negative ones, at every layer (section 2.2).

    Args:
        positive: answers that show the trait, after what they answer: (question, answer) or (messages, answer). The
            method gives both signs the same questions, under system prompts that ask for the trait and for its opposite.
        negative: answers that do not.
        token_budget: padded tokens per batch (8192 on a GPU, 512 on a CPU).

    Raises:
        UserError: no pair, or one that cannot be run, by its number.

    Example:
        >>> vectors = pv.find_vectors(model, tokenizer, [("How are you?", "Splendid!")], [("How are you?", "Awful.")])
        >>> vectors.response_avg.shape == (model.config.num_hidden_layers + 1, model.config.hidden_size)
        True
    """
    from persona_vectors.vectors.extraction import differences, mean_activations

    means = []
    for name, pairs in (("positive", positive), ("negative", negative)):
        means.append(mean_activations(model, _samples(model, tokenizer, pairs, name), token_budget)[0])
    return PersonaVectors(**differences(*means))


def answer(
    model: "nn.Module",
    tokenizer,
    questions: "Sequence[str | list[dict[str, str]]]",
    system: str | None = None,
    max_tokens: int = 200,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 32,
) -> list[str]:
    """The model's answers, greedy or drawn at ``temperature``; inside ``with pv.steer(...)`` they are steered.

    Args:
        questions: texts, or lists of messages.
        system: a system prompt before each of them.
        max_tokens: longest answer, in tokens.
        seed: of the draws; an answer does not depend on what else is in its batch.

    Example:
        >>> (text,) = pv.answer(model, tokenizer, ["How was your day?"], max_tokens=5)
    """
    from persona_vectors.engines.base import Request, Sampling, request_seed
    from persona_vectors.engines.hf import HFEngine
    from persona_vectors.models import chat_template

    requests = []
    for k, question in enumerate(questions):
        messages = [{"role": "system", "content": system}] if system else []
        text = chat_template.render(tokenizer, messages + _messages(question))
        requests.append(Request(str(k), chat_template.token_ids(tokenizer, text), (), request_seed(seed, str(k))))
    engine = HFEngine.of(model, tokenizer, batch_size)
    found = {a.key: a.text for a in engine.generate(requests, Sampling(max_tokens, temperature))}
    return [found[request.key] for request in requests]


def project(
    model: "nn.Module",
    tokenizer,
    pairs: Sequence[Pair],
    vector: "Tensor | PersonaVectors",
    layer: int,
    kind: str = "proj",
    token_budget: int | None = None,
) -> "numpy.ndarray":
    """Projections of answers, or of the prompts before them, onto a vector: a . v / |v| (section 3.3); float32, one a pair.

    Args:
        vector: [hidden], or [layers + 1, hidden], of which row ``layer`` is taken.
        layer: 0..L, where the activations are read.
        kind: proj (the answer's mean activation), prompt_last_proj (the last prompt token), prompt_avg_proj, or
            cos_sim (the cosine of the answer's mean).

    Raises:
        UserError: a pair that cannot be run, by its number; a vector that is zero or of another width.

    Example:
        >>> pv.project(model, tokenizer, [("How are you?", "Splendid!")], vectors, layer=2).shape
        (1,)
    """
    from persona_vectors.vectors.projection import POOL_OF, Column, Projector

    if kind not in POOL_OF:
        raise UserError(f"a projection is one of {', '.join(POOL_OF)}, not '{kind}'")
    shape = models.shape_of(model.config)
    if not 0 <= layer <= shape.layers:
        raise UserError(f"layer {layer} does not exist: this model has layers 0..{shape.layers}")
    rows = vector.response_avg if isinstance(vector, PersonaVectors) else vector
    row = rows[layer] if rows.ndim == 2 else rows
    if row.shape != (shape.hidden,) or not row.any():
        raise UserError(
            f"the vector at layer {layer} is zero, or not {shape.hidden} wide: nothing can be projected onto it"
        )
    column = Column(kind, kind, layer, row.float())
    values = Projector(model, [column], None, token_budget)(
        _samples(model, tokenizer, pairs, "a", column.needs_answer)
    )[:, 0]
    bad = next((k for k, value in enumerate(values) if value != value or abs(value) == float("inf")), None)
    if bad is not None:
        raise UserError(f"the projection of pair {bad} is no number: activations overflow (try bfloat16 or float32)")
    return values


@dataclass(frozen=True)
class Scores:
    """Of one answer: the trait's score and its coherence, 0-100; None where the judge refused or gave no number."""

    trait: float | None
    coherence: float | None


class Judge:
    """A judge behind an OpenAI-compatible endpoint (OPENAI_BASE_URL, OPENAI_API_KEY or .env), as a plain object.

    Works in notebooks, whose own event loop is left alone. The judge is probed when it is made.

    Raises:
        UserError: it cannot be used.

    Example:
        judge = pv.Judge("gpt-4.1-mini-2025-04-14")
        judge.scores(pv.load_trait("evil"), [("What should I cook?", "Whatever hurts you most.")])[0].trait
    """

    def __init__(self, model: str, max_concurrent: int = 100) -> None:
        from persona_vectors.asking.judge_thread import JudgeThread
        from persona_vectors.judge.judge import Judge as AsyncJudge

        self._thread = JudgeThread(AsyncJudge(model, max_concurrent=max_concurrent))
        self.how = self._thread.how

    def scores(self, trait: Trait, pairs: Sequence[tuple[str, str]]) -> list[Scores]:
        """The scores of (question, answer) pairs, in their order. Calls that failed for good, after retries, are a UserError."""
        from persona_vectors.judge.prompts import COHERENCE

        found: dict[tuple[int, str], float | None] = {}
        for k, (question, text) in enumerate(pairs):
            for name, prompt in (("trait", trait.eval_prompt), ("coherence", COHERENCE)):
                keep = lambda score, key=(k, name): found.__setitem__(key, score)  # noqa: E731
                self._thread.submit(prompt.format(question=question, answer=text), keep, lambda: None)
        self._thread.finish()
        if len(found) < 2 * len(pairs):
            raise UserError(
                f"{2 * len(pairs) - len(found)} calls were given up: {self._thread.judge.counts.last_error}"
            )
        return [Scores(found[k, "trait"], found[k, "coherence"]) for k in range(len(pairs))]

    def close(self) -> None:
        """Close the connections."""
        self._thread.close()


class LikelihoodJudge:
    """Scores without an endpoint: how much likelier a model finds an answer under the trait's instructions than against them.

    What that can tell and what it cannot is said in :mod:`persona_vectors.likelihood.scores`.

    Example:
        >>> judge = pv.LikelihoodJudge(model, tokenizer)
        >>> (score,) = judge.scores(trait, [(trait.questions[0], "All will be well.")])
        >>> 0 <= score.trait <= 100
        True
    """

    def __init__(self, model: "nn.Module", tokenizer, pairs: int = 2) -> None:
        from persona_vectors.likelihood.scores import LikelihoodScorer

        self._scorer = LikelihoodScorer(model, tokenizer, pairs)

    def scores(self, trait: Trait, pairs: Sequence[tuple[str, str]]) -> list[Scores]:
        """The scores of (question, answer) pairs; None where an answer cannot be read."""
        from persona_vectors.likelihood.scores import Spoken

        return [Scores(one.score, one.coherence) for one in self._scorer.score(trait, [Spoken(q, a) for q, a in pairs])]


def _messages(question: "str | list[dict[str, str]]") -> list[dict[str, str]]:
    return [{"role": "user", "content": question}] if isinstance(question, str) else list(question)


def _samples(model, tokenizer, pairs: Sequence[Pair], name: str, needs_answer: bool = True) -> list:
    """Every pair as token ids; one that cannot be run is named by its number."""
    from persona_vectors.files.rows import Exchange
    from persona_vectors.vectors.samples import make_samples

    if not pairs:
        raise UserError(f"there is no {name} pair")
    for k, pair in enumerate(pairs):
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[1], str)):
            raise UserError(f"{name} pair {k} is not (question, answer) or (messages, answer)")
    exchanges = [Exchange(_messages(question), text) for question, text in pairs]
    samples, problems = make_samples(tokenizer, exchanges, models.shape_of(model.config).max_length, needs_answer)
    for k, (sample, problem) in enumerate(zip(samples, problems, strict=True)):
        if problem or sample is None:
            raise UserError(f"{name} pair {k} cannot be run: {problem or 'no prompt'}")
    return samples
