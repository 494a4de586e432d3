"""Serve the toy world's judge on loopback, with the OpenAI chat-completions protocol.

    python -m data_generation.toy.judge_server --port 0 --port_file PATH

It reads the judge prompt as a judge model would: the name in bold is the trait (or the word "coherent" asks for
coherence), and the markers delimit question and answer. It scores by the grammar, and replies with one number and
top-20 log-probabilities whose expected value is the score. Prompts that it cannot read get HTTP 400.
"""

import asyncio
import math
import os
import re
import time
from pathlib import Path
from typing import Annotated

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from data_generation.toy.lexicon import TRAITS
from data_generation.toy.scoring import coherence, trait_score
from persona_vectors import cli

MODEL = "toy-judge"
ASKED = re.compile(r"\[QUESTION START\]\n(.*?)\n\[QUESTION END\].*?\[ANSWER START\]\n(.*)\n\[ANSWER END\]", re.DOTALL)
BOLD = re.compile(rf"\*\*({'|'.join(TRAITS)})\*\*", re.IGNORECASE)
ECHO = re.compile(r"\bnumber\s+(\d{1,3})\b", re.IGNORECASE)
# Fraction of its probability that each of the two nearest numbers gives to either neighbour: judges are never certain.
DOUBT = 0.1


class Unreadable(ValueError):
    """A prompt that this judge cannot score."""


def read(prompt: str) -> dict[int, float]:
    """The numbers that answer a prompt, with their probabilities.

    Raises:
        Unreadable: no markers, or neither a known trait nor coherence.
    """
    found = ASKED.search(prompt)
    if not found:
        echo = ECHO.search(prompt)
        if not echo:
            raise Unreadable(
                "the toy judge reads prompts with [QUESTION START] ... [ANSWER END] markers, and no others"
            )
        return {int(echo[1]): 1.0}
    question, answer = found.groups()
    frame = prompt[: found.start()] + prompt[found.end() :]
    trait = BOLD.search(frame)
    if trait:
        return distribution(trait_score(answer, trait[1].lower()))
    if "coheren" in frame.lower():
        return distribution(coherence(question, answer))
    raise Unreadable(
        f"the toy judge knows the traits {', '.join(TRAITS)} (in bold) and coherence; the prompt names none"
    )


def distribution(score: float) -> dict[int, float]:
    """Probabilities of whole numbers near the score, most probable first; their mean is the score.

    Example:
        distribution(0.0)  # {0: 1.0}
    """
    low = math.floor(score)
    spread: dict[int, float] = {}
    for number, mass in ((low, low + 1 - score), (low + 1, score - low)):
        doubt = DOUBT * mass if 1 <= number <= 99 else 0.0
        for neighbour, part in ((number - 1, doubt), (number, mass - 2 * doubt), (number + 1, doubt)):
            spread[neighbour] = spread.get(neighbour, 0.0) + part
    return dict(sorted(((n, p) for n, p in spread.items() if p > 0), key=lambda item: -item[1]))


def entry(number: int, probability: float) -> dict:
    token = str(number)
    return {"token": token, "logprob": math.log(probability), "bytes": list(token.encode())}


def completion(request: dict) -> dict:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        raise Unreadable("messages must be a list that ends with the judge prompt")
    prompt = messages[-1].get("content")
    if not isinstance(prompt, str):
        raise Unreadable("the content of the last message must be a string")
    chances = read(prompt)
    best = next(iter(chances))
    logprobs = None
    if request.get("logprobs"):
        top = [entry(n, p) for n, p in chances.items()][: int(request.get("top_logprobs") or 0)]
        logprobs = {"content": [{**entry(best, chances[best]), "top_logprobs": top}], "refusal": None}
    return {
        "id": f"chatcmpl-{time.monotonic_ns()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.get("model") or MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": str(best), "refusal": None},
                "logprobs": logprobs,
                "finish_reason": "length" if request.get("max_tokens") == 1 else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": len(prompt.split()),
            "completion_tokens": 1,
            "total_tokens": len(prompt.split()) + 1,
        },
    }


def refusal(message: str) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": "messages", "code": None}
    return JSONResponse({"error": error}, status_code=400)


def application(latency: float = 0.0) -> Starlette:
    async def answer(request):
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise Unreadable("the request must be a JSON object")
            reply = completion(body)
        except ValueError as error:
            return refusal(str(error))
        await asyncio.sleep(latency)
        return JSONResponse(reply)

    async def models(request):
        return JSONResponse(
            {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "toy"}]}
        )

    return Starlette(
        routes=[Route("/v1/chat/completions", answer, methods=["POST"]), Route("/v1/models", models, methods=["GET"])]
    )


def announce(port: int, path: Path) -> None:
    """Write the port to a file, atomically."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(str(port))
    os.replace(partial, path)


@cli.command
def main(
    port: Annotated[int, cli.Between(0, 65535)] = 0,
    port_file: str | None = None,
    latency: Annotated[float, cli.Between(0)] = 0.0,
):
    """Serve the toy judge on 127.0.0.1.

    Args:
        port: to listen on; 0 takes a free one.
        port_file: where to write the port once it is bound.
        latency: seconds that every answer takes.
    """
    config = uvicorn.Config(application(latency), host="127.0.0.1", port=port, log_level="warning", access_log=False)
    listener = config.bind_socket()
    listener.listen(2048)
    if port_file:
        announce(listener.getsockname()[1], Path(port_file))
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    cli.run(main)
