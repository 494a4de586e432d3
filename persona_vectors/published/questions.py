"""Published names for asking and judging: modules ``judge`` and ``config``, and part of ``eval.eval_persona``."""

import asyncio
import logging
import os
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.judge.judge import KINDS, GivenUp, Judge
from persona_vectors.judge.prompts import COHERENCE
from persona_vectors.settings import load_dotenv
from persona_vectors.traits.artifact import load_trait, make_questions

if TYPE_CHECKING:
    from pandas import DataFrame

_OPEN: dict[tuple, tuple] = {}  # (event loop, model, kind): the generator that owns their Judge, and its connect task


def setup_credentials() -> SimpleNamespace:
    """Read ``.env`` into the environment; returns ``openai_api_key`` and ``hf_token``, None if unset.

    Today: :func:`persona_vectors.settings.load_dotenv`, which the judge calls by itself.

    Example:
        setup_credentials().openai_api_key
    """
    load_dotenv()
    return SimpleNamespace(openai_api_key=os.environ.get("OPENAI_API_KEY"), hf_token=os.environ.get("HF_TOKEN"))


class OpenAiJudge:
    """A judge: ``await judge(question=..., answer=...)`` is the score, or None if the judge gives none.

    Today: :class:`persona_vectors.judge.judge.Judge`. Within an event loop, judges of the same model and kind share
    connections (at most 100 concurrent calls) and one initial probe of how this model can be scored.

    Args:
        prompt_template: the judge's prompt with its {placeholders}.
        eval_type: 0_100, 0_10, binary or binary_text.

    Raises:
        UserError: another ``eval_type``; when called, a missing key or an endpoint that cannot be used.
        GivenUp: when called, this call failed permanently.

    Example:
        judge = OpenAiJudge("gpt-4.1-mini", Prompts["coherence_0_100"])
        score = await judge(question="How are you?", answer="Fine, thanks.")
    """

    def __init__(self, model: str, prompt_template: str, eval_type: str = "0_100") -> None:
        if eval_type not in KINDS:
            raise UserError(f"eval_type must be one of {', '.join(KINDS)}, not '{eval_type}'")
        self.model, self.prompt_template, self.eval_type = model, prompt_template, eval_type

    async def judge(self, **kwargs) -> float | None:
        """The score of the prompt filled in with ``kwargs``."""
        return await (await self.connected()).score(self.prompt_template.format(**kwargs))

    async def __call__(self, **kwargs) -> float | None:
        return await self.judge(**kwargs)

    async def connected(self) -> Judge:
        """The connected :class:`Judge` of this model and kind in this event loop."""
        key = asyncio.get_running_loop(), self.model, self.eval_type
        if key not in _OPEN:
            owner = _lifetime(key)
            _OPEN[key] = owner, asyncio.ensure_future(anext(owner))
        return await asyncio.shield(_OPEN[key][1])


async def _lifetime(key: tuple):
    """Yield the connected Judge. When the event loop closes its generators, this one closes the connections."""
    try:
        judge = Judge(*key[1:])
        try:
            await judge.connect()
            yield judge
        finally:
            await judge.close()
    finally:
        del _OPEN[key]


class Question:
    """A question in one or several wordings, with its judges: ``await judges[metric](question=..., answer=...)``.

    Today: :class:`persona_vectors.traits.artifact.Question`, asked and judged by ``python -m eval.eval_persona``.

    Example:
        question = Question("q1", ["Who are you?"], {"coherence": Prompts["coherence_0_100"]})
        texts, conversations = question.get_input(n_per_question=10)
    """

    def __init__(
        self, id: str, paraphrases: list[str], judge_prompts: dict[str, str], temperature: float = 1,
        system: str | None = None, judge: str = "gpt-4o", judge_eval_type: str = "0_100", **ignored_extra_args,
    ) -> None:  # fmt: skip
        self.id, self.paraphrases, self.temperature, self.system = id, paraphrases, temperature, system
        kinds = {metric: "0_100" if metric == "coherence" else judge_eval_type for metric in judge_prompts}
        self.judges = {metric: OpenAiJudge(judge, judge_prompts[metric], kind) for metric, kind in kinds.items()}

    def get_input(self, n_per_question: int) -> tuple[list[str], list[list[dict]]]:
        """``n_per_question`` randomly drawn wordings, and the chat messages for each."""
        drawn = random.choices(self.paraphrases, k=n_per_question)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return drawn, [[*system, {"role": "user", "content": text}] for text in drawn]

    async def eval(
        self, llm, tokenizer, coef, vector=None, layer=None, max_tokens=1000, n_per_question=100, steering_type="last",
        lora_path=None,
    ) -> "DataFrame":  # fmt: skip
        """:func:`eval_batched` for this question only."""
        asking = llm, tokenizer, coef, vector, layer, n_per_question, 100, max_tokens, steering_type, lora_path
        return (await eval_batched([self], *asking))[0]


def load_persona_questions(
    trait, temperature=1, persona_instructions_type=None, assistant_name=None, judge_model="gpt-4.1-mini-2025-04-14",
    eval_type="0_100", version="eval",
) -> list[Question]:  # fmt: skip
    """The questions of ``data_generation/trait_data_<version>/<trait>.json``.

    Today: :func:`persona_vectors.traits.artifact.load_trait` and ``make_questions``.

    Args:
        persona_instructions_type: ``pos``, ``neg``, or None for no instruction; ``assistant_name`` is then ignored, as
            published.

    Example:
        questions = load_persona_questions("evil", persona_instructions_type="pos", version="extract")
    """
    artifact = load_trait(trait, version)
    asked = make_questions(artifact, persona_instructions_type, assistant_name if persona_instructions_type else None)
    prompts = {trait: artifact.eval_prompt, "coherence": COHERENCE}
    return [Question(q.id, [q.text], prompts, temperature, q.system, judge_model, eval_type) for q in asked]


async def eval_batched(
    questions, llm, tokenizer, coef, vector=None, layer=None, n_per_question=100, max_concurrent_judges=100,
    max_tokens=1000, steering_type="last", lora_path=None,
) -> "list[DataFrame]":  # fmt: skip
    """Answer and judge questions; returns one table per question.

    Columns: question, prompt, answer, question_id, and one column of scores per judge. A score is empty if the answer
    is empty, the judge gave no number, or its call failed permanently (a warning gives the number of failed calls).

    Today: ``python -m eval.eval_persona``, which keeps finished work when a run is killed; this does not.

    Args:
        coef: factor of ``vector`` at ``layer``; 0 is unsteered, any other value needs a model of :func:`load_model`.
        max_concurrent_judges: concurrent judge calls, at most 100.
        steering_type: response, prompt or all. The published default "last" is refused unless coef is 0.

    Example:
        tables = await eval_batched(load_persona_questions("evil"), model, tokenizer, coef=0, n_per_question=10)
    """
    import pandas

    from persona_vectors.published.sampling import sample, sample_steering

    for judge in (judge for question in questions for judge in question.judges.values()):
        if isinstance(judge, OpenAiJudge):
            await judge.connected()  # an endpoint that cannot be used is reported before any answer is generated
    inputs = [question.get_input(n_per_question) for question in questions]
    asked = llm, tokenizer, [chat for _, chats in inputs for chat in chats]
    options = {"temperature": questions[0].temperature, "max_tokens": max_tokens}
    if coef == 0:
        prompts, answers = sample(*asked, lora_path=lora_path, **options)
    else:
        prompts, answers = sample_steering(*asked, vector, layer, coef, steering_type=steering_type, **options)
    slots, lost = asyncio.Semaphore(max_concurrent_judges), []

    async def score(judge, question: str, answer: str) -> float | None:
        async with slots:
            try:
                return await judge(question=question, answer=answer) if answer.strip() else None
            except GivenUp as error:
                lost.append(error)

    async def table(question: Question, texts: list[str], rows: slice) -> "DataFrame":
        columns = {"question": texts, "prompt": prompts[rows], "answer": answers[rows], "question_id": question.id}
        for metric, judge in question.judges.items():
            scores = await asyncio.gather(*(score(judge, *pair) for pair in zip(texts, answers[rows], strict=True)))
            columns[metric] = pandas.Series(scores, dtype=float)
        return pandas.DataFrame(columns)

    rows = [slice(k * n_per_question, (k + 1) * n_per_question) for k in range(len(questions))]
    tables = await asyncio.gather(*(table(q, inputs[k][0], rows[k]) for k, q in enumerate(questions)))
    if lost:
        logging.getLogger(__name__).warning("%d judge calls failed for good (last: %s)", len(lost), lost[-1])
    return tables
