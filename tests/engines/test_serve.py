"""scripts/serve.sh as a user starts it, asked by the openai client: each answer is the one that transformers gives."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from vllm_models import HIDDEN, LAYERS, Reference, make_model, without_vllm

from persona_vectors.engines.vllm.server import LIST, REQUEST_KEY, SteeringMiddleware, _steering_of
from persona_vectors.errors import UserError
from persona_vectors.sharing import formats
from persona_vectors.steering.vector_folder import NamedVectors

ROOT = Path(__file__).resolve().parents[2]
DRAW = torch.Generator().manual_seed(3)
PROMPT = [1, *torch.randint(4, 160, (40,), generator=DRAW).tolist()]  # longer than a block of the prefix cache
reason = without_vllm()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Vectors of two traits; "evil" has none at layer 1."""
    folder = tmp_path_factory.mktemp("serve")
    for trait in ("evil", "kind"):
        rows = torch.randn(LAYERS + 1, HIDDEN, generator=DRAW)
        if trait == "evil":
            rows[:2] = 0
        formats.save_both(rows, folder / "vectors", formats.About(model="tiny", trait=trait, kind="response_avg_diff"))
    return folder


@pytest.fixture(scope="module")
def named(folder):
    return NamedVectors(folder / "vectors", "response_avg_diff", LAYERS, HIDDEN)


@pytest.fixture(scope="module")
def server(folder):
    """(base url, model folder) of a running server."""
    if reason:
        pytest.skip(f"the server is not tested here: {reason}")
    model = make_model(folder / "tiny", "Qwen2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "bash",
        "scripts/serve.sh",
        model,
        str(folder / "vectors"),
        str(port),
        "--",
        "--slots",
        "16",
        "--ablations",
        "1",
    ]
    command += ["--vllm_flags=--max-num-seqs 16 --max-model-len 128 --block-size 32"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHON": sys.executable}
    environment |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 400
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", model
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _listens(port: int) -> bool:
    import httpx

    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def settings(k: int) -> dict | None:
    """The k-th request's steering: every second one shares its prompt with all others, none shares its settings."""
    if k % 8 == 0:
        return None
    asked = {"vector": "kind", "coef": 0.2 * k - 1.5, "layer": 1 + k % LAYERS}
    if k % 8 == 1:
        asked = {"vector": ["kind", "evil"], "coef": [0.1 * k, -0.5], "layer": 3, "steering_type": ["all", "response"]}
    if k % 8 == 2:
        asked |= {"layer": "all", "steering_type": "prompt"}
    if k % 8 == 3:
        ablated = {"vector": "evil", "layer": 2, "kind": "ablate", "positions": "all"}
        asked = {"steering": [{"vector": "kind", "layer": 3, "coef": 0.1 * k}, ablated]}
    return asked


def test_concurrent_requests_each_get_their_own_steering(server, named):
    """32 at a time over 15 slots, all on one prompt: neither a slot nor a cached block may be another's."""
    from openai import AsyncOpenAI

    url, model = server

    async def ask(client, k: int) -> list[int]:
        steering = {"vllm_xargs": settings(k)} if settings(k) else {}
        answer = await client.completions.create(
            model=model, prompt=PROMPT, max_tokens=6, temperature=0, extra_body=steering | {"min_tokens": 1}
        )
        return [int(word) for word in answer.choices[0].text.replace(" ", "").split("w")[1:]]

    async def ask_all() -> list[list[int]]:
        client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)
        return await asyncio.gather(*(ask(client, k) for k in [*range(16), *range(16)]))

    got = asyncio.run(ask_all())
    reference = Reference(model)
    for k in range(16):
        ids, _ = reference.greedy(PROMPT, named.from_request(settings(k)) if settings(k) else (), 6)
        assert got[k] == got[k + 16] == [token for token in ids if token > 3], settings(k)  # no text: special ones
    assert len({tuple(answer) for answer in got}) > 10  # the steering is seen


def test_an_answer_in_the_next_prompt_is_read_as_a_prompt(server, named):
    """As in a conversation: what was steered while it was answered is not found again as part of the prompt."""
    from openai import OpenAI

    url, model = server
    client, reference = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300), Reference(model)
    for positions in ("response", "prompt"):
        steering = {"vector": "kind", "coef": 2.0, "layer": 2, "steering_type": positions}

        def ask(ids: list[int], count: int, **options) -> list[int]:
            extra = {"vllm_xargs": steering, "return_token_ids": True, **options}  # noqa: B023
            answer = client.completions.create(
                model=model, prompt=ids, max_tokens=count, temperature=0, extra_body=extra
            )
            return answer.choices[0].token_ids

        longer = [*PROMPT, *ask(PROMPT, 60, min_tokens=60)]
        expected, _ = reference.greedy(longer, named.from_request(steering), 8)
        assert ask(longer, 8, min_tokens=1) == expected, positions


def test_prompts_of_one_request_that_begin_alike_are_read_each_by_its_own_end(server, named):
    """A block of 32 tokens ends where one prompt ends and another goes on: it is not the same block for both."""
    from openai import OpenAI

    url, model = server
    client, reference = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300), Reference(model)
    prompts = [PROMPT[:32], [*PROMPT[:32], 7], PROMPT]
    for positions in ("response", "prompt"):
        steering = {"vector": "kind", "coef": 5.0, "layer": 1, "steering_type": positions}
        for asked in (prompts, prompts[::-1]):
            extra = {"vllm_xargs": steering, "return_token_ids": True, "min_tokens": 1, "cache_salt": str(asked)}
            answer = client.completions.create(
                model=model, prompt=asked, max_tokens=4, temperature=0, logprobs=1, extra_body=extra
            )
            expected = [reference.greedy(ids, named.from_request(steering), 4) for ids in asked]
            assert [choice.token_ids for choice in answer.choices] == [ids for ids, _ in expected], positions
            for choice, (_, logprobs) in zip(answer.choices, expected, strict=True):
                assert choice.logprobs.token_logprobs == pytest.approx(logprobs, abs=1e-3), positions


GOOD = {"vector": "kind", "coef": 1, "layer": 2}
REFUSED = {
    "an unknown vector": (GOOD | {"vector": "kidn"}, "did you mean kind"),
    "an unknown setting": (GOOD | {"coeff": 2}, "did you mean coef"),
    "half a steering": ({"vector": "kind", "coef": 1}, "missing: layer"),
    "no number": (GOOD | {"coef": "1"}, "finite number"),
    "not a number": (GOOD | {"coef": float("nan")}, "finite number"),
    "true": (GOOD | {"coef": True}, "finite number"),
    "no layer": (GOOD | {"layer": LAYERS + 1}, f"1..{LAYERS}"),
    "layer 0": (GOOD | {"layer": 0}, f"1..{LAYERS}"),
    "an empty row": (GOOD | {"vector": "evil", "layer": 1}, "no vector at layer 1"),
    "positions": (GOOD | {"steering_type": "answer"}, "response, prompt, all"),
    "kind": (GOOD | {"kind": "abalte"}, "did you mean ablate"),
    "a list beside others": (GOOD | {"steering": [GOOD]}, "leave vector, coef, layer out"),
    "an entry's key": ({"steering": [GOOD, GOOD | {"steering_type": "all"}]}, "entry 2: unknown key 'steering_type'"),
    "an entry's name": ({"steering": [GOOD | {"vector": "kidn"}]}, "entry 1: no vector 'kidn' .did you mean kind"),
    "an entry's layer": ({"steering": [GOOD | {"layer": LAYERS + 1}]}, f"entry 1: .*1..{LAYERS}"),
    "no entries": ({"steering": []}, "must hold a list of vectors"),
    "lengths": (GOOD | {"vector": ["kind", "evil"], "coef": [1, 2, 3]}, "3 values for 2 vectors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_malformed_is_refused(case, named):
    asked, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        named.from_request(asked)


def test_steering_in_the_wrong_place_is_refused():
    import json

    def body(**fields) -> bytes:
        return json.dumps(fields).encode()

    assert _steering_of(body(vllm_xargs=GOOD), "/v1/completions")[0] == GOOD
    assert _steering_of(body(prompt="x", vllm_xargs={"session_id": "a"}), "/v1/completions")[0] == {}
    for wrong, path, message in (
        (body(vllm_xargs=GOOD), "/v1/responses", "cannot be steered"),
        (body(vllm_xargs=GOOD, use_beam_search=True), "/v1/completions", "beam"),
        (body(vector="kind"), "/v1/completions", "belongs into vllm_xargs"),
        (body(vllm_xargs={REQUEST_KEY: [1, 1, 1]}), "/v1/completions", "server's own"),
        (body(a=[{REQUEST_KEY: 1}]).replace(b"slots", rb"\u0073lots"), "/inference/v1/generate", "server's own"),
    ):
        with pytest.raises(UserError, match=message):
            _steering_of(wrong, path)


def test_refusals_and_the_list_over_http(server):
    import httpx
    from openai import BadRequestError, OpenAI

    url, model = server
    client = OpenAI(base_url=url, api_key="none", max_retries=0)
    for asked in (GOOD | {"vector": "kidn"}, GOOD | {"coef": None}):
        with pytest.raises(BadRequestError) as refused:
            client.completions.create(model=model, prompt=PROMPT, extra_body={"vllm_xargs": asked})
        assert refused.value.status_code == 400 and ("kidn" in str(refused.value)) == (asked["vector"] == "kidn")
    listed = httpx.get(f"{url.removesuffix('/v1')}{LIST}").json()["data"]
    assert [entry["name"] for entry in listed] == ["evil", "kind"] and listed[0]["layers"] == [2, 3, 4]
    pieces = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=6, temperature=0, stream=True, extra_body={"vllm_xargs": GOOD}
    )
    whole = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=6, temperature=0, extra_body={"vllm_xargs": GOOD}
    )
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


def test_bad_commands_end_before_a_model_is_loaded(folder):
    def serve(*flags) -> str:
        command = [sys.executable, "-m", "eval.serve", *flags]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        return done.stderr

    good = ("--model", "x/y", "--vectors", str(folder / "vectors"))
    assert "1..65535" in serve(*good, "--port", "70000")
    assert "--worker-cls" in serve(*good, "--vllm_flags=--worker-cls x")


@pytest.mark.parametrize("given", [None, "so", ["so", "no"]])
def test_a_template_ends_answers_to_chats_alone(given):
    """Its stop texts and tokens are added to a chat's own; a completion, which knows no template, goes on as it came."""
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def echo(request):
        body = await request.body()
        return JSONResponse({"length": request.headers["content-length"] == str(len(body)), **(await request.json())})

    routes = [Route(path, echo, methods=["POST"]) for path in ("/v1/chat/completions", "/v1/completions")]
    middleware = SteeringMiddleware(Starlette(routes=routes))
    middleware.ready, middleware.stops = True, ["\nUser:"]

    async def ask(path):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(middleware), base_url="http://x") as client:
            return (await client.post(path, json={"model": "m", **({"stop": given} if given else {})})).json()

    own = [given] if isinstance(given, str) else given or []
    assert asyncio.run(ask("/v1/chat/completions")) == {"length": True, "model": "m", "stop": [*own, "\nUser:"]}
    assert asyncio.run(ask("/v1/completions")).get("stop") == given
    middleware.stops = [7, 9]
    told = {} if given is None else {"stop": given}
    assert asyncio.run(ask("/v1/chat/completions")) == {"length": True, "model": "m", **told, "stop_token_ids": [7, 9]}
