"""Steering per request in ``vllm serve``: an ASGI middleware between the OpenAI protocol and the released vLLM.

A request contains ``"vllm_xargs": {"vector": "evil", "coef": 1.5, "layer": 20}``, or a list of several in
``"vllm_xargs": {"steering": [...]}`` (:mod:`persona_vectors.steering.steering_list`). The middleware checks these settings,
acquires slots for them (:mod:`persona_vectors.engines.vllm.slots`) and has the workers write new table entries. Then it
forwards the request with its slots and a cache salt, so that different settings never share prefix-cache blocks; nor do
prompts of different lengths where tokens of the prompt are steered otherwise than those after it (:func:`salt_each_prompt`).
Settings that it does not understand get a 400 with the reason: a request for steering is never answered without it.

vLLM creates the middleware by name (``--middleware``), in the one API process that ``scripts/serve.sh`` starts.
"""

import asyncio
import functools
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from persona_vectors.engines.vllm.engine import REQUEST_KEY
from persona_vectors.engines.vllm.selftest import SelfTest
from persona_vectors.engines.vllm.slots import Allocation, SlotTable
from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import sha256
from persona_vectors.steering.vector_folder import KEYS, NamedVectors

# Environment variables by which eval.serve tells the server's process what to serve
FOLDER_VARIABLE, KIND_VARIABLE, SLOTS_VARIABLE, ABLATIONS_VARIABLE, STOP_VARIABLE = (
    f"PERSONA_VECTORS_{what}" for what in ("FOLDER", "KIND", "SLOTS", "ABLATIONS", "STOP")
)
CHAT = "/v1/chat/completions"
STEERED = (CHAT, "/v1/completions")
LIST = "/v1/persona_vectors"
STOPS = {"stop": str, "stop_token_ids": int}  # what a request calls its stop texts, and the ids of its stop tokens
AFTER_DISCONNECT = 5.0  # seconds to keep a slot after its client disconnects: vLLM may still be generating


class SteeringMiddleware:
    """The middleware, one per server. ``ready`` becomes True when the self-test of steering has passed.

    Example:
        vllm serve MODEL --middleware persona_vectors.engines.vllm.server.SteeringMiddleware ...  (by eval.serve)
    """

    def __init__(self, app) -> None:
        self.app, self.ready = app, False
        self.changed = asyncio.Condition()
        self.digests: dict[int, str] = {}

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(scope, receive, send)
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or scope["method"] not in ("GET", "POST") or not self._authorised(scope):
            return await self.app(scope, receive, send)  # which refuses unauthorised requests
        if not self.ready:
            return await _refusal(503, "steering is not ready")(scope, receive, send)
        if scope["method"] == "GET":
            if path == LIST:
                return await JSONResponse(self._listing())(scope, receive, send)
            return await self.app(scope, receive, send)
        body = await _body(receive)
        if body is None:
            return None
        try:
            asked, data = _steering_of(body, path)
            interventions = self.named.from_request(asked) if asked else ()
            if interventions:
                self.slots.check(interventions, self.digests)
        except UserError as error:
            return await _refusal(400, str(error))(scope, receive, send)
        if self.stops and data and path == CHAT:
            data |= _with_stops(data, self.stops)
            scope, body = _with_body(scope, data)
        if not interventions:
            return await self.app(scope, _replay(body, receive), send)
        return await self._steer(interventions, data, scope, receive, send)

    async def _steer(self, interventions: tuple, data: dict, scope, receive, send) -> None:
        """Forward a request with its steering."""
        gone = asyncio.Event()
        async with self._slots_for(interventions, gone) as allocation:
            own = data.get("cache_salt")
            salted = sha256(f"{allocation.salt}|{own}") if own else allocation.salt
            xargs = {key: value for key, value in data["vllm_xargs"].items() if key not in KEYS}
            xargs[REQUEST_KEY] = list(allocation.slots)
            changed, body = _with_body(scope, data | {"cache_salt": salted, "vllm_xargs": xargs})

            async def watched():
                message = await receive()
                if message["type"] == "http.disconnect":
                    gone.set()
                return message

            await self.app(changed, _replay(body, watched), send)

    @asynccontextmanager
    async def _slots_for(self, interventions: tuple, gone: asyncio.Event):
        """Within the block, the slots are written and held; waits while other requests occupy them all."""
        async with self.changed:
            while (allocation := self.slots.acquire(interventions, self.digests)) is None:
                await self.changed.wait()
            # Under the lock: a request that finds the slot filled must not run before it is written.
            await self._write()
        try:
            yield allocation
        finally:
            later = AFTER_DISCONNECT if gone.is_set() else 0
            asyncio.get_running_loop().call_later(later, lambda: asyncio.ensure_future(self._release(allocation)))

    async def _write(self) -> None:
        if self.slots.writes:
            writes = self.slots.take_writes()
            rows = np.stack(writes.rows).tobytes() if writes.rows else b""
            await self.engine.collective_rpc("steering_write", args=(writes.row_numbers, rows, writes.slots))

    async def _release(self, allocation: Allocation) -> None:
        async with self.changed:
            self.slots.release(allocation)
            self.changed.notify_all()

    async def _lifespan(self, scope, receive, send) -> None:
        """Before the server accepts requests, read the vectors and test that steering works."""
        first = await receive()
        try:
            await self._start(scope["app"].state)
        except Exception as error:
            print(f"error: {error}", flush=True)
            return await send({"type": "lifespan.startup.failed", "message": str(error)})

        async def replay():
            nonlocal first
            message, first = first, None
            return message or await receive()

        return await self.app(scope, replay, send)

    async def _start(self, state) -> None:
        if (getattr(state.args, "api_server_count", None) or 1) != 1:
            raise UserError("steering needs one API process (--api-server-count 1): it keeps the workers' tables")
        self.keys = [key for key in (state.args.api_key or [os.environ.get("VLLM_API_KEY")]) if key]
        self.engine = state.engine_client
        self.engine.generate = salt_each_prompt(self.engine.generate)
        shapes = await self.engine.collective_rpc("steering_shape")
        refusal = next((shape["refusal"] for shape in shapes if shape["refusal"]), None)
        if refusal:
            raise UserError(refusal)
        layers, hidden = shapes[0]["layers"], shapes[0]["hidden"]
        self.named = NamedVectors(os.environ[FOLDER_VARIABLE], os.environ[KIND_VARIABLE], layers, hidden)
        self.stops = json.loads(os.environ.get(STOP_VARIABLE) or "[]")
        size, ablations = int(os.environ[SLOTS_VARIABLE]), int(os.environ[ABLATIONS_VARIABLE])
        self.slots = SlotTable(layers, hidden, size, size, ablations)
        await self._self_test(SelfTest(layers, hidden, ablations, state.vllm_config.model_config.max_model_len))
        self.ready = True

    async def _self_test(self, test: SelfTest) -> None:
        from vllm import SamplingParams
        from vllm.inputs import tokens_input

        seen, digests = {}, self.digests
        for name, interventions in test.trials.items():
            allocation = self.slots.acquire(interventions, digests)
            await self._write()
            params = SamplingParams(
                max_tokens=1, temperature=0, logprobs=0, extra_args={REQUEST_KEY: list(allocation.slots)}
            )
            prompt = tokens_input(test.prompt, cache_salt=allocation.salt)
            async for output in self.engine.generate(prompt, params, f"steering-self-test-{name}"):
                seen[name] = output.outputs[0].token_ids[0], output.outputs[0].cumulative_logprob
            self.slots.release(allocation)
        self.digests = {}  # of the test's vector, which goes now: its id may be another's next
        dead = test.dead(seen)
        if dead:
            raise UserError(f"vLLM cannot steer this model: a large vector changes nothing at layer {dead}")

    def _authorised(self, scope) -> bool:
        """Whether the request carries the server's --api-key, if there is one."""
        keys = getattr(self, "keys", [])
        given = Headers(scope=scope).get("Authorization", "").partition(" ")[2]
        return not keys or any([secrets.compare_digest(given.encode(), key.encode()) for key in keys])

    def _listing(self) -> dict:
        example = {"vector": next(iter(self.named.vectors)), "coef": 1.5, "layer": max(1, self.named.layers // 2)}
        return {"object": "list", "data": self.named.listing(), "example": {"vllm_xargs": example}}


def salt_each_prompt(generate: Callable[..., AsyncIterator]) -> Callable[..., AsyncIterator]:
    """The engine's ``generate`` with the salt of each steered prompt by where it ends (:meth:`Allocation.salt_for`).

    A request of ``/v1/completions`` may hold several prompts, and has one salt: where one begins with another, the token that
    is the last of the one is steered otherwise in the other.
    """

    @functools.wraps(generate)
    def salted(prompt: dict, params: Any, *more: Any, **options: Any) -> AsyncIterator:
        slots = (getattr(params, "extra_args", None) or {}).get(REQUEST_KEY)
        if slots and any(slots):
            allocation = Allocation(tuple(slots), prompt["cache_salt"])
            prompt = {**prompt, "cache_salt": allocation.salt_for(len(prompt["prompt_token_ids"]))}
        return generate(prompt, params, *more, **options)

    return salted


def _steering_of(body: bytes, path: str) -> tuple[dict, dict]:
    """``(settings, request)``: the steering settings of a request, and the parsed request; both may be empty.

    Raises:
        UserError: steering settings in a place where they would be ignored.
    """
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    if REQUEST_KEY.encode() in body or (data is not None and _mentions(data, REQUEST_KEY)):
        raise UserError(f"'{REQUEST_KEY}' is the server's own; name vectors instead: {', '.join(KEYS)}")
    if not isinstance(data, dict):
        return {}, {}
    xargs = data.get("vllm_xargs")
    if path not in STEERED:
        if isinstance(xargs, dict) and any(key in xargs for key in KEYS):
            raise UserError(f"{path} cannot be steered; {' and '.join(STEERED)} can")
        return {}, data
    stray = [key for key in KEYS if key in data]
    if stray:
        raise UserError(f'\'{stray[0]}\' belongs into vllm_xargs: {{"vllm_xargs": {{"{stray[0]}": ...}}}}')
    if not isinstance(xargs, dict):
        return {}, data
    asked = {key: value for key, value in xargs.items() if key != "session_id"}
    if asked and data.get("use_beam_search"):
        raise UserError("beam search cannot be steered")
    return asked, data


def _mentions(data: object, key: str) -> bool:
    """Whether parsed JSON holds this key anywhere (in the raw text, its letters may be escaped)."""
    if isinstance(data, dict):
        return key in data or any(_mentions(value, key) for value in data.values())
    return isinstance(data, list) and any(_mentions(value, key) for value in data)


async def _body(receive) -> bytes | None:
    """The whole body of a request; None if the client disconnected."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _with_body(scope: dict, data: dict) -> tuple[dict, bytes]:
    """The scope of a request whose body is ``data``, and that body."""
    body = json.dumps(data).encode()
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    return scope | {"headers": [*headers, (b"content-length", str(len(body)).encode())]}, body


def _with_stops(data: dict, stops: list[str | int]) -> dict[str, list]:
    """A request's stop texts and stop tokens with those of the server; what the server has none of stays as it is."""
    ours = {name: [stop for stop in stops if isinstance(stop, kind)] for name, kind in STOPS.items()}
    return {name: [*_as_list(data.get(name)), *more] for name, more in ours.items() if more}


def _as_list(stop: object) -> list:
    """A request's stops of a kind: one, several or none."""
    return stop if isinstance(stop, list) else [] if stop is None else [stop]


def _replay(body: bytes, receive):
    """A ``receive`` that returns ``body`` first."""
    given = False

    async def replay():
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _refusal(status: int, reason: str) -> JSONResponse:
    """An error response in OpenAI's format."""
    kind = "BadRequestError" if status == 400 else "ServiceUnavailableError"
    return JSONResponse({"error": {"message": reason, "type": kind, "param": "vllm_xargs", "code": status}}, status)
