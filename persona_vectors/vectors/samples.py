"""From rows of a file to samples of token ids: what can be run through the model, and why the rest cannot.

Knows templates and tokenizers; knows nothing of activations.
"""

from collections.abc import Sequence
from typing import Any

from persona_vectors.errors import UserError
from persona_vectors.files.messages import Message, is_unicode
from persona_vectors.files.rows import Exchange
from persona_vectors.models import chat_template
from persona_vectors.models.reasoning import Thoughts, declared_by
from persona_vectors.vectors.batches import Sample


def make_samples(
    tokenizer: Any,
    exchanges: Sequence[Exchange | str],
    max_length: int | None,
    needs_answer: bool = True,
    enable_thinking: bool = False,
) -> tuple[list[Sample | None], list[str]]:
    """A sample per row, or None where not even the prompt can be run, and what is wrong with it ("" where nothing is).

    Prompt and answer are tokenised by themselves and put end to end, as they were when the answer was generated; where
    the answer came after thoughts, these (or, if they are not known, what the template writes for none) stand between
    the two. A sample whose answer is empty, or too long for the model, has its prompt alone.
    """
    thoughts, texts = declared_by(tokenizer), []
    problems: list[str] = []
    for exchange in exchanges:
        problem, prompt, between, answer = "", "", "", ""
        if isinstance(exchange, str):
            problem = exchange
        else:
            reasoning, answer = _thoughts_and_answer(exchange, thoughts)
            answer = answer if needs_answer else ""
            if isinstance(exchange.prompt, str):
                prompt = exchange.prompt
            else:  # thoughts are written where the template has thinking on
                prompt, problem = _rendered(tokenizer, exchange.prompt, enable_thinking or reasoning != "")
            if not is_unicode(prompt + reasoning + answer):
                problem, prompt, answer = "half a character (lone surrogate)", "", ""
            elif needs_answer and not problem and not answer.strip():
                problem, answer = "empty answer", ""
            between = thoughts.between(prompt, reasoning) if answer else ""
        problems.append(problem)
        texts.append((prompt, between, answer))
    samples: list[Sample | None] = []
    ids = [chat_template.token_ids_of(tokenizer, column) for column in zip(*texts, strict=True)]
    for row, (prompt_ids, between_ids, answer_ids) in enumerate(zip(*ids, strict=True)):
        if max_length is not None and len(prompt_ids) + len(between_ids) + len(answer_ids) > max_length:
            problems[row] = f"longer than the {max_length} tokens that the model takes"
            between_ids, answer_ids = [], []
        elif needs_answer and not problems[row] and not answer_ids:
            problems[row] = "an answer of which the tokenizer makes no token"
        usable = 0 < len(prompt_ids) <= (max_length or len(prompt_ids))
        samples.append(Sample(prompt_ids, answer_ids, between_ids) if usable else None)
    return samples, problems


def usable_samples(
    tokenizer: Any,
    exchanges: Sequence[Exchange],
    max_length: int | None,
    needs_answer: bool = True,
    enable_thinking: bool = False,
    name: str = "row {} cannot be used",
) -> list[Sample]:
    """:func:`make_samples` for a caller that wants every row.

    Raises:
        UserError: a row cannot be run, or lacks the answer that is needed; ``name`` is how it is said.
    """
    samples, problems = make_samples(tokenizer, exchanges, max_length, needs_answer, enable_thinking)
    usable = []
    for row, (sample, problem) in enumerate(zip(samples, problems, strict=True)):
        if problem or sample is None:
            raise UserError(f"{name.format(row)}: {problem or 'empty prompt'}")
        usable.append(sample)
    return usable


def _thoughts_and_answer(exchange: Exchange, thoughts: Thoughts) -> tuple[str, str]:
    """The row's reasoning and answer; a model that has no thoughts is shown none that a conversation has."""
    if exchange.reasoning is None:
        return thoughts.split_text(exchange.answer)
    if isinstance(exchange.prompt, list) and not thoughts:
        return "", exchange.answer
    return exchange.reasoning.strip(), exchange.answer


def _rendered(tokenizer: Any, messages: list[Message], enable_thinking: bool) -> tuple[str, str]:
    """(templated prompt, ""), or ("", what the template has against these messages)."""
    try:
        return chat_template.render(tokenizer, messages, enable_thinking), ""
    except chat_template.Refused as error:
        return "", str(error)
