"""The method in five calls: load a model, find vectors, have it answer, project; steering is :func:`persona_vectors.steering.steer.steer`.

Everything here is a thin layer over the rooms; the stages' files, records and resuming are not needed for it. A question is a text,
or the list of messages that ends with it; an answer is a text. A loaded model is left as it was found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_vectors import models
from persona_vectors.errors import UserError, first_line, suggest
from persona_vectors.files.messages import Message, as_chat, as_pairs
from persona_vectors.models.chat_template import Given
from persona_vectors.models.loaded import check_loaded, evaluating

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy
    from torch import Tensor, nn

Question = str | Sequence[Message]  # a text, or messages that end with a question: a system prompt, earlier turns
Pair = tuple[Question, str]  # and the answer


def load(
    model: "str | Path | nn.Module",
    tokenizer=None,
    dtype="auto",
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    load_in_4bit: bool = False,
) -> "tuple[nn.Module, object]":
    """A model in evaluation mode and its tokenizer, which has a padding token.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints (the latest), LoRA adapter folder or GGUF file; or a model
            that is loaded already, with its ``tokenizer``: both are given back.
        tokenizer: with a name, one to use in the place of the model's own.
        dtype: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16, or torch's own; a loaded model
            keeps its own.
        trust_remote_code: run code that comes with the model. Only for models whose code you have read.
        chat_template: what writes chats in the place of the tokenizer's own template: a Jinja file, or plain (System, User
            and Assistant as text), for base models without one. It is put on the tokenizer.
        load_in_4bit: put the weights into 4 bits, by bitsandbytes; a loaded model keeps its own.

    Raises:
        UserError: no such model, one that cannot be loaded, or a loaded model without its tokenizer.

    Example:
        >>> model, tokenizer = pv.load("models/toy")
        >>> model, tokenizer = pv.load(model, tokenizer)  # your own, however you loaded it
    """
    name = str(dtype).removeprefix("torch.")
    if name not in models.DTYPES:
        raise UserError(f"dtype is one of {', '.join(models.DTYPES)}, not '{name}'{suggest(name, models.DTYPES)}")
    if isinstance(model, str | Path):
        path = models.resolve(str(model), load_in_4bit=load_in_4bit)
        tokenizer = models.load_tokenizer(path, trust_remote_code) if tokenizer is None else tokenizer
        loaded: Any = models.load_model(path, name, trust_remote_code)
    elif tokenizer is None:
        raise UserError("a model that is loaded already needs its tokenizer: pv.load(model, tokenizer)")
    else:
        loaded = model
    check_loaded(loaded)
    models.ensure_padding(tokenizer)
    if chat_template is not None:
        Given.of(chat_template).put_on(tokenizer)
    return loaded.eval(), tokenizer


@dataclass(frozen=True, eq=False)
class PersonaVectors:
    """The three vectors that the method makes of answers, each float32 [layers + 1, hidden]; ``v[20]`` is response_avg's row 20."""

    prompt_avg: "Tensor"
    response_avg: "Tensor"
    prompt_last: "Tensor"

    def __getitem__(self, layer: int) -> "Tensor":
        return self.response_avg[layer]

    def save(self, folder: str | Path, trait: str, model: str = "") -> list[Path]:
        """Write ``<trait>_{prompt_avg,response_avg,prompt_last}_diff.pt`` and .safetensors, as generate_vec.py names them.

        Args:
            model: its name, for the .safetensors files to say.

        Raises:
            UserError: a name that cannot name a file, or a folder of the toolkit's own code.
        """
        from persona_vectors.files.atomic import make_folder
        from persona_vectors.sharing.formats import About, save_both
        from persona_vectors.traits.artifact import check_name
        from persona_vectors.vectors.storage import check_vector_folder

        check_name(trait)
        check_vector_folder(folder)
        make_folder(Path(folder))
        return [
            path
            for pool, rows in vars(self).items()
            for path in save_both(rows, folder, About(model=model, trait=trait, kind=f"{pool}_diff"))
        ]


def find_vectors(
    model: "nn.Module",
    tokenizer,
    positive: Iterable[Pair],
    negative: Iterable[Pair],
    token_budget: int | None = None,
    enable_thinking: bool = False,
) -> PersonaVectors:
    """The mean activation over positive answers minus that over negative ones, at every layer (section 2.2).

    Nothing is filtered: give answers that a judge, or you, found to show the trait, or not to.

    Args:
        positive: answers that show the trait, after what they answer: (question, answer) or (messages, answer). The
            method gives both signs the same questions, under system prompts that ask for the trait and for its opposite.
        negative: answers that do not; they need not be as many.
        token_budget: padded tokens per batch (8192 on a GPU, 512 on a CPU).
        enable_thinking: render the prompts as for a model that thinks first.

    Raises:
        UserError: no pair, or one that cannot be run, by its number; activations that overflow.

    Example:
        >>> vectors = pv.find_vectors(model, tokenizer, [("How are you?", "Splendid!")], [("How are you?", "Awful.")])
        >>> vectors.response_avg.shape == (model.config.num_hidden_layers + 1, model.config.hidden_size)
        True
        >>> paths = vectors.save("output/example", "cheerful")
        >>> paths[2].name
        'cheerful_response_avg_diff.pt'
    """
    from persona_vectors.vectors.extraction import differences, mean_activations

    with evaluating(model):
        samples = [
            _samples(model, tokenizer, pairs, name, enable_thinking=enable_thinking)
            for name, pairs in (("positive", positive), ("negative", negative))
        ]
        return PersonaVectors(**differences(*(mean_activations(model, each, token_budget)[0] for each in samples)))


def answer(
    model: "nn.Module",
    tokenizer,
    questions: Iterable[Question],
    system: str | None = None,
    max_tokens: int = 200,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 32,
    enable_thinking: bool = False,
) -> list[str]:
    """The model's answers, without special tokens and thoughts; inside ``with pv.steer(...)`` they are steered.

    An answer ends at any of the model's own stop tokens. It depends on its question, its place in the list and the seed, not
    on what else is in its batch.

    Args:
        questions: texts, or lists of messages.
        system: a system prompt before each of them.
        max_tokens: longest answer, in tokens.
        temperature: 0 takes the likeliest token each time, 1 draws from the model's own distribution.
        seed: of the draws: the same draws the same, steered or not.
        batch_size: answers made at a time; lower it if memory runs out.
        enable_thinking: let models that can think do so.

    Raises:
        UserError: no question, by its number; one that is too long for the model; a setting out of its range.

    Example:
        >>> (text,) = pv.answer(model, tokenizer, ["How was your day?"], max_tokens=5)
        >>> with pv.steer(model, vectors.response_avg, layer=3, coef=2.0):
        ...     (steered,) = pv.answer(model, tokenizer, ["How was your day?"], max_tokens=5)
    """
    from persona_vectors.engines.base import Request, Sampling, prompts_of, request_seed
    from persona_vectors.engines.hf import HFEngine

    if isinstance(questions, str):
        raise UserError("questions are a list: pv.answer(model, tokenizer, [question])")
    _check_number("max_tokens", max_tokens, 1, whole=True)
    _check_number("batch_size", batch_size, 1, whole=True)
    _check_number("temperature", temperature, 0)
    chats = [as_chat(question, f"question {k}", system) for k, question in enumerate(questions)]
    with evaluating(model):
        longest = models.shape_of(model.config).max_length
        _, prompts = prompts_of(tokenizer, chats, longest, "question {}", enable_thinking)
        requests = [Request(str(k), ids, (), request_seed(seed, str(k))) for k, ids in enumerate(prompts)]
        engine = HFEngine.of(model, tokenizer, batch_size)
        found = {a.key: a.text for a in engine.generate(requests, Sampling(max_tokens, temperature))}
    return [found[request.key] for request in requests]


def project(
    model: "nn.Module",
    tokenizer,
    pairs: Iterable[Pair],
    vector: "Tensor | PersonaVectors",
    layer: int,
    kind: str = "proj",
    token_budget: int | None = None,
    enable_thinking: bool = False,
) -> "numpy.ndarray":
    """Projections of answers, or of the prompts before them, onto a vector: a . v / |v| (section 3.3); float32, one a pair.

    Args:
        pairs: (question, answer) or (messages, answer); where ``kind`` is of the prompt, the answer may be "".
        vector: [hidden], or [layers + 1, hidden], of which row ``layer`` is taken.
        layer: 0..L, where the activations are read.
        kind: proj (the answer's mean activation), prompt_last_proj (the last prompt token), prompt_avg_proj, or
            cos_sim (the cosine of the answer's mean).
        token_budget: padded tokens per batch (8192 on a GPU, 512 on a CPU).
        enable_thinking: render the prompts as for a model that thinks first.

    Raises:
        UserError: a pair that cannot be run, or overflows, by its number; a vector that is zero or of another width.

    Example:
        >>> pv.project(model, tokenizer, [("How are you?", "Splendid!")], vectors, layer=2).shape
        (1,)
    """
    from persona_vectors.vectors.projection import POOL_OF, Column, Projector

    if kind not in POOL_OF:
        raise UserError(f"a projection is one of {', '.join(POOL_OF)}, not '{kind}'{suggest(str(kind), POOL_OF)}")
    with evaluating(model):
        column = Column(kind, kind, int(layer), _row(model, vector, layer))
        samples = _samples(model, tokenizer, pairs, "", column.needs_answer, enable_thinking)
        problems = [""] * len(samples)
        values = Projector(model, [column], None, token_budget).of_rows(samples, problems)[:, 0]
    for k, problem in enumerate(problems):
        if problem:
            raise UserError(f"the projection of pair {k} is no number: {problem}")
    return values


def _check_number(name: str, value: object, lowest: float, whole: bool = False) -> None:
    if not isinstance(value, int if whole else int | float) or not lowest <= value < float("inf"):
        raise UserError(f"{name} is a {'whole ' * whole}number of at least {lowest}, not {value!r}")


def _row(model: Any, vector: object, layer: Any) -> "Tensor":
    """One layer's vector, float32 [hidden], of whatever holds it; refuses what nothing can be projected onto."""
    import torch

    shape = models.shape_of(model.config)
    if not hasattr(layer, "__index__") or not 0 <= layer <= shape.layers:
        raise UserError(f"layer {layer} does not exist: this model has layers 0..{shape.layers}")
    try:
        rows = torch.as_tensor(getattr(vector, "response_avg", vector)).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"a vector is a tensor of numbers, not {type(vector).__name__}: {first_line(error)}") from error
    if rows.ndim == 2 and len(rows) != shape.layers + 1:
        raise UserError(f"vectors of all layers have {shape.layers + 1} rows for this model, not {len(rows)}")
    row = rows[layer] if rows.ndim == 2 else rows
    if row.shape != (shape.hidden,) or not row.any() or not row.isfinite().all():
        raise UserError(
            f"the vector at layer {layer} is zero, not finite, or not {shape.hidden} wide: nothing can be projected onto it"
        )
    return row


def _samples(
    model, tokenizer, pairs: Iterable[Pair], name: str, needs_answer: bool = True, enable_thinking=False
) -> list:
    """Every pair as token ids; one that cannot be run is named by its number."""
    from persona_vectors.files.rows import Exchange
    from persona_vectors.vectors.samples import usable_samples

    exchanges = [Exchange(*pair) for pair in as_pairs(pairs, name)]
    if not exchanges:
        raise UserError(f"there is no {name} pair".replace("  ", " "))
    longest = models.shape_of(model.config).max_length
    run = f"{name} pair {{}} cannot be run".strip()
    return usable_samples(tokenizer, exchanges, longest, needs_answer, enable_thinking, run)
