"""Log-probabilities of given texts by vLLM: one prompt each, steered from where the text's own prompt ends.

vLLM computes these texts anew, whatever its prefix cache holds, because cached tokens have no log-probabilities. Does not
import vLLM before a text is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona_vectors.engines.base import OVERFLOW, Request
from persona_vectors.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

EVERY = -1


@dataclass(frozen=True, eq=False)
class Text(Request):
    """A whole text to be read, not answered: its prompt, and after it a given answer, in ``prompt_ids``.

    Attributes:
        prompt_length: how many of the tokens are its prompt; 0: all of it is answer. ``response`` steers the last token of
            the prompt and those of the answer, ``prompt`` the prompt.

    Example:
        Text("0", prompt_ids + answer_ids, (Intervention(20, vectors[20], coef=1.5),), prompt_length=len(prompt_ids))
    """

    prompt_length: int = 0  # type: ignore[override]  # given, where a request's is counted


def read_texts(engine: Any, texts: Sequence[Text], most: int = 1) -> Iterator[tuple[Text, "Tensor", "Tensor"]]:
    """Yield (text, token ids, log-probabilities) of the tokens of each text's answer, in the order in which they finish.

    A text of n tokens whose prompt is 0 tokens has n - 1 rows: nothing predicts the first.

    Args:
        engine: a :class:`persona_vectors.engines.vllm.engine.VLLMEngine`.
        texts: of 2 to ``engine.longest - 1`` tokens each.
        most: likeliest tokens in each row; :data:`EVERY`: the whole vocabulary (an engine that was started with
            ``max_logprobs=-1``).

    Returns:
        token ids [tokens, 1 + most] int64 and log-probabilities float32: first those of the text's own token, then the
        likeliest ones.

    Raises:
        UserError: NaN log-probabilities; a text that is too long; interventions that this engine cannot serve.

    Example:
        for text, _, logprobs in read_texts(engine, [Text("0", prompt_ids + answer_ids, acts, prompt_length=len(prompt_ids))]):
            print(text.key, logprobs[:, 0].sum())
    """
    import torch
    from vllm import SamplingParams

    for text in texts:
        if not 2 <= len(text.prompt_ids) < engine.longest:
            raise UserError(
                f"a text of {len(text.prompt_ids)} tokens: this vLLM engine reads 2 to {engine.longest - 1}"
            )
    params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=most)
    for text, result in engine.results(texts, lambda _: params.clone()):
        ids, logprobs = (torch.as_tensor(each) for each in result.prompt_logprobs[:2])
        if len(logprobs) != len(text.prompt_ids) - 1:
            raise RuntimeError(f"vLLM told {len(logprobs)} log-probabilities of {len(text.prompt_ids)} tokens")
        first = max(text.prompt_length - 1, 0)  # row k predicts token k + 1
        ids, logprobs = ids[first:].long(), logprobs[first:].float()
        if logprobs.isnan().any():
            raise UserError(OVERFLOW.format(dtype=engine.dtype_name))
        yield text, ids, logprobs


def keep_tensors(llm: Any, name: str) -> None:
    """Leave the log-probabilities of a request's prompt as the workers sent them: tensors (token ids, values, ranks).

    By itself vLLM makes a Python object of each number, which for a whole vocabulary takes seconds and gigabytes a text.
    """
    processor = llm.output_processor.request_states[name].logprobs_processor
    processor._update_prompt_logprobs = lambda tensors: setattr(processor, "prompt_logprobs", tensors)
