"""The server of the chat page: one HTML page, and answers streamed as lines of JSON.

Each request carries its whole conversation and all settings. The server keeps no state between requests, so users
cannot see each other's data. One thread runs the model; concurrent answers take turns, one step at a time.
"""

import asyncio
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from persona_vectors.app.page import page_app, read_request
from persona_vectors.app.token_stream import End, Gauge, Retract, Token, side_by_side
from persona_vectors.engines.base import Sampling
from persona_vectors.errors import UserError, suggest
from persona_vectors.files.fingerprints import plain
from persona_vectors.models import chat_template
from persona_vectors.steering.steering_list import LISTED, ListGrid
from persona_vectors.steering.sweep import Cell
from persona_vectors.steering.vector_folder import NamedVectors

SIDES = ("plain", "steered")
# The settings of a request: {name: (type, default)}.
SETTINGS = {
    "coefs": (dict, {}),
    "steering": ((int, float), 0.0),
    "layer": ((int, str), None),
    "steering_type": (str, "response"),
    "watch": (str, None),
    "watch_layer": (int, None),
    "system": (str, ""),
    "max_tokens": (int, 200),
    "temperature": ((int, float), 0.0),
    "seed": (int, 0),
}


class Chat:
    """A loaded model with its vectors; checks requests and answers them.

    Args:
        name: the model's name, for display.
        named: the vectors that requests may name.
        listed: a steering list, as often as a request's ``steering`` says; beside the vectors that it names.

    Example:
        chat = Chat("SmolLM2", model, tokenizer, named)
        for event in chat.answer({"message": "How do I start with roses?", "coefs": {"evil": 1.5}, "layer": 12}):
            print(as_line(event))
    """

    def __init__(self, name: str, model, tokenizer, named: NamedVectors, listed: ListGrid | None = None) -> None:
        self.name, self.model, self.tokenizer, self.named, self.listed = name, model, tokenizer, named, listed

    def info(self) -> dict:
        """What the page shows at the start: the model, its layers, and the traits with the norms of their vectors."""
        traits = [{key: v[key] for key in ("name", "layers", "norms", "dose_of_1")} for v in self.named.listing()]
        there = {"model": self.name, "layers": self.named.layers, "kind": self.named.kind, "traits": traits}
        return there | {"steering": self.steering}

    @property
    def steering(self) -> list[dict] | None:
        """The steering list as its file spells it, with the content of each vector; None without one."""
        return None if self.listed is None else plain(self.listed.settings("")["steering"])

    def defaults(self) -> dict:
        """The default of every setting; the layer is the middle one, the watched trait the first."""
        middle = max(1, self.named.layers // 2)
        known = {"layer": middle, "watch": next(iter(self.named.vectors)), "watch_layer": middle}
        known |= {"steering": 1.0} if self.listed else {}
        return {key: known.get(key, default) for key, (_, default) in SETTINGS.items()}

    def answer(self, asked: object) -> Iterator[Gauge | Token | Retract | End]:
        """Answer ``{"message", "turns": [{"user", "plain", "steered"}], **settings}``, plain and steered.

        The request is checked before the iterator is returned.

        Raises:
            UserError: an unknown setting, or a value of the wrong type or out of range.
        """
        if not isinstance(asked, dict):
            raise UserError("a request is one JSON object")
        known = ("message", "turns", *SETTINGS)
        for key in asked:
            if key not in known:
                raise UserError(f"unknown setting '{key}'{suggest(key, known)}")
        settings = self.defaults() | {key: asked[key] for key in SETTINGS if key in asked}
        for key, (kind, _) in SETTINGS.items():
            if not isinstance(settings[key], kind) or isinstance(settings[key], bool):
                raise UserError(f"{key} cannot be {settings[key]!r}")
        if settings["max_tokens"] < 1 or not 0 <= settings["temperature"] <= 10:
            raise UserError("max_tokens must be at least 1, temperature 0 to 10")
        interventions = self._listed(settings["steering"])
        for trait, coef in settings["coefs"].items():
            interventions += self.named.interventions(trait, coef, settings["layer"], settings["steering_type"])
        if settings["watch"] not in self.named.vectors:
            there = ", ".join(self.named.vectors)
            raise UserError(f"no vector '{settings['watch']}' to watch; there are {there}")
        prompts = [self._prompt(asked, side, settings["system"]) for side in SIDES]
        layer = settings["watch_layer"]
        if not 1 <= layer < self.named.layers:
            raise UserError(f"layer {layer} cannot be watched: 1..{self.named.layers - 1} can (the last one is normed)")
        vector = self.named.vectors[settings["watch"]][layer]
        if not vector.any():
            raise UserError(f"the file of {settings['watch']} has no vector at layer {layer}")
        sampling = Sampling(settings["max_tokens"], settings["temperature"])
        return side_by_side(
            self.model, self.tokenizer, prompts, [(), interventions], layer, vector, sampling, settings["seed"]
        )

    def _listed(self, factor: float) -> tuple:
        """The interventions of the steering list, times a factor; none at 0."""
        if not math.isfinite(factor):
            raise UserError(f"steering cannot be {factor!r}")
        if not factor:
            return ()
        if self.listed is None:
            raise UserError("there is no steering list to steer with: --steering LIST.json names one")
        cell = Cell(LISTED, float(factor))
        self.listed.check_factor(cell.coef)
        return self.listed.interventions("", cell)

    def _prompt(self, asked: dict, side: str, system: str) -> list[int]:
        """Token ids of one side's conversation: the questions and the answers of that side."""
        messages = [{"role": "system", "content": system}] if system.strip() else []
        turns = asked.get("turns", [])
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise UserError("turns must be a list of {user, plain, steered}")
        for turn in turns:
            for role, key in (("user", "user"), ("assistant", side)):
                if not isinstance(turn.get(key), str):
                    raise UserError(f"a turn has no text '{key}'")
                messages.append({"role": role, "content": turn[key]})
        message = asked.get("message")
        if not isinstance(message, str) or not message.strip():
            raise UserError("there is no message to answer")
        messages.append({"role": "user", "content": message})
        return chat_template.token_ids(self.tokenizer, chat_template.render(self.tokenizer, messages))


def as_line(event: Gauge | Token | Retract | End) -> dict:
    """An event as the JSON object that the page reads.

    Example:
        as_line(End(row=1, reason="stop"))  # {"type": "end", "side": "steered", "reason": "stop"}
    """
    if isinstance(event, Gauge):
        return {"type": "gauge"} | dict(zip(SIDES, event.projections, strict=True))
    if isinstance(event, Token):
        line = {"type": "token", "side": SIDES[event.row], "text": event.text, "projection": event.projection}
        return line | ({"thought": True} if event.thought else {})
    if isinstance(event, Retract):
        return {"type": "retract", "side": SIDES[event.row]}
    return {"type": "end", "side": SIDES[event.row], "reason": event.reason}


def make_app(talk: Chat, loopback: bool) -> Starlette:
    """The ASGI app: the page at /, model and settings at /api/info, answers at /api/chat.

    Args:
        loopback: accept requests addressed to this machine only.

    Example:
        uvicorn.run(make_app(chat, loopback=True), host="127.0.0.1", port=7860)
    """
    one_thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def info(_request: Request) -> JSONResponse:
        return JSONResponse(talk.info() | {"defaults": talk.defaults()})

    async def answer(request: Request):
        loop = asyncio.get_running_loop()
        try:
            asked = await read_request(request)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 415 if isinstance(error, UserError) else 400)
        try:
            events = await loop.run_in_executor(one_thread, talk.answer, asked)
            first = await loop.run_in_executor(one_thread, next, events)
        except (UserError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)

        async def lines():
            event = first
            try:
                while event is not None:
                    yield json.dumps(as_line(event)) + "\n"
                    event = await loop.run_in_executor(one_thread, next, events, None)
            except Exception as error:  # the status line has been sent, so the reason goes into a line
                yield json.dumps({"type": "error", "error": f"{type(error).__name__}: {error}"}) + "\n"
                raise
            finally:
                # Runs even if the user has disconnected, after any step that is still running.
                one_thread.submit(events.close)

        return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})

    routes = [Route("/api/info", info), Route("/api/chat", answer, methods=["POST"])]
    return page_app("chat_page", routes, loopback)
