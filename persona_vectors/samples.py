"""From rows of a file to samples of token ids: what can be run through the model, and why the rest cannot.

Knows templates and tokenizers; knows nothing of activations.
"""

from collections.abc import Sequence

from persona_vectors import chat
from persona_vectors.activations import Sample
from persona_vectors.rows import Exchange


def make_samples(
    tokenizer,
    exchanges: Sequence[Exchange | str],
    max_length: int | None,
    needs_answer: bool = True,
    enable_thinking: bool = False,
) -> tuple[list[Sample | None], list[str]]:
    """A sample per row, or None where not even the prompt can be run, and what is wrong with it ("" where nothing is).

    Prompt and answer are tokenised by themselves and put end to end, as they were when the answer was generated. A
    sample whose answer is empty, or too long for the model, has its prompt alone.
    """
    problems, prompts, answers = [], [], []
    for exchange in exchanges:
        problem, prompt, answer = exchange, "", ""
        if isinstance(exchange, Exchange):
            problem, prompt, answer = "", exchange.prompt, exchange.answer if needs_answer else ""
            if isinstance(prompt, list):
                prompt, problem = _rendered(tokenizer, prompt, enable_thinking)
            if not _is_unicode(prompt + answer):
                problem, prompt, answer = "half a character (lone surrogate)", "", ""
            elif needs_answer and not problem and not answer.strip():
                problem, answer = "empty answer", ""
        problems.append(problem)
        prompts.append(prompt)
        answers.append(answer)
    samples: list[Sample | None] = []
    ids = zip(chat.token_ids_of(tokenizer, prompts), chat.token_ids_of(tokenizer, answers), strict=True)
    for row, (prompt_ids, answer_ids) in enumerate(ids):
        if max_length is not None and len(prompt_ids) + len(answer_ids) > max_length:
            problems[row] = f"longer than the {max_length} tokens that the model takes"
            answer_ids = []
        usable = 0 < len(prompt_ids) <= (max_length or len(prompt_ids))
        samples.append(Sample(prompt_ids, answer_ids) if usable else None)
    return samples, problems


def _rendered(tokenizer, messages: list[chat.Message], enable_thinking: bool) -> tuple[str, str]:
    """(templated prompt, ""), or ("", what the template has against these messages)."""
    try:
        return chat.render(tokenizer, messages, enable_thinking), ""
    except chat.Refused as error:
        return "", str(error)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
