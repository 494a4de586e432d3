"""An OpenAI-compatible server whose every request can be steered: ``vllm serve`` with the folder's vectors.

    python -m eval.serve --model Qwen/Qwen2.5-7B-Instruct --vectors persona_vectors/Qwen2.5-7B-Instruct --port 8000

A client asks for steering with ``extra_body={"vllm_xargs": {"vector": "evil", "coef": 1.5, "layer": 20}}``; several vectors,
each with positions and kind of its own, are a list: ``{"vllm_xargs": {"steering": [{"vector": "evil", ...}, ...]}}``. GET /v1/persona_vectors lists what there is.
"""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.models.chat_template import stop_texts
from persona_vectors.options import Kind, ModelOptions

ROOT = Path(__file__).resolve().parent.parent
OURS = ("--host", "--port", "--worker-cls", "--additional-config", "--api-server-count", "-asc", "--speculative-config")
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


@cli.command
def main(
    model: str,
    vectors: str,
    port: Annotated[int, cli.Between(1, 65535)] = 8000,
    host: str = "127.0.0.1",
    kind: Kind = "response_avg_diff",
    slots: Annotated[int, cli.Between(8)] = 1024,
    ablations: Annotated[int, cli.Between(0)] = 0,
    vllm_flags: str = "",
    *,
    loading: ModelOptions,
):
    """Serve a model with vLLM, steered per request.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        vectors: folder of vector files, persona_vectors/<model>/.
        port: to listen on.
        host: to listen on; by default this machine alone can reach the server.
        kind: of the vectors.
        slots: different steering settings that may be under way at a time; requests beyond wait.
        ablations: directions that one request may ablate at one layer (kind ablate); each costs a little at every token.
        vllm_flags: further flags of vllm serve, in one text: --vllm_flags="--max-model-len 4096 --api-key secret".
    """
    further = shlex.split(vllm_flags)
    for flag in further:
        if flag.split("=")[0].replace("_", "-") in OURS:
            raise UserError(f"{flag.split('=')[0]} is set by this command and cannot go into --vllm_flags")
    from persona_vectors.steering.vector_folder import NamedVectors, find

    find(vectors, kind)
    path = loading.resolve(model)
    shape = models.describe(path, loading.trust_remote_code)
    named = NamedVectors(vectors, kind, shape.layers, shape.hidden)  # the server reads them again, in its own process
    for line in filter(None, [named.other_models(path.name), named.verdicts()]):
        print(line)

    from persona_vectors.engines.vllm.setup import available, quantises

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    reason = available() or (quantises() if path.load_in_4bit else None)
    if reason:
        raise UserError(f"the server needs vLLM: {reason}")
    from persona_vectors.engines.base import stop_ids
    from persona_vectors.engines.vllm import server

    arguments = serve_arguments(path, loading.dtype, slots, ablations, loading.trust_remote_code)
    tokenizer = models.load_tokenizer(path, loading.trust_remote_code)
    arguments += ["--chat-template", tokenizer.chat_template] if path.chat_template else []
    ends = stop_ids(models.ends_of(path, loading.trust_remote_code), tokenizer)
    os.environ |= {
        server.STOP_VARIABLE: json.dumps([*stop_texts(tokenizer), *ends]),
        server.FOLDER_VARIABLE: str(Path(vectors).resolve()),
        server.KIND_VARIABLE: kind,
        server.SLOTS_VARIABLE: str(slots),
        server.ABLATIONS_VARIABLE: str(ablations),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    print(f"{path.name} with {', '.join(named.vectors)} at http://{host}:{port}/v1 (vectors: GET {server.LIST})")
    # What "vllm serve" runs with one API process. (The command itself does not start in vLLM's build for CPUs.)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", path.base, "--host", host, "--port", str(port), *arguments, *further]
    os.execv(sys.executable, command)


def serve_arguments(
    path: models.ModelPath, dtype: str, slots: int, ablations: int, trust_remote_code: bool
) -> list[str]:
    """The flags of ``vllm serve`` that make it ours; on a CPU, those of the offline engine."""
    from vllm.platforms import current_platform

    from persona_vectors.engines.vllm.engine import CONFIG_KEY
    from persona_vectors.engines.vllm.setup import cpu_cache_bytes, lora_arguments

    sizes = {"version": 1, "slots": slots, "rows": slots, "ablations": ablations}
    cpu = current_platform.is_cpu()
    flags = {
        "--worker-cls": "persona_vectors.engines.vllm.worker.SteeringWorker",
        "--additional-config": json.dumps({CONFIG_KEY: sizes}),
        "--middleware": "persona_vectors.engines.vllm.server.SteeringMiddleware",
        "--api-server-count": "1",
        "--dtype": ("float32" if cpu else "bfloat16") if dtype == "auto" else dtype,
        # What a request does not say, a model's own defaults would: top_k, penalties. Its stop tokens stay.
        "--override-generation-config": json.dumps(NEUTRAL),
    }
    switches = ["--enable-prefix-caching"]
    if trust_remote_code:
        switches.append("--trust-remote-code")
    if path.load_in_4bit:
        flags["--quantization"] = "bitsandbytes"
    if cpu:
        flags["--kv-cache-memory-bytes"] = str(cpu_cache_bytes())
        switches += ["--enforce-eager", "--no-enable-chunked-prefill"]
    if path.adapter:
        lora = lora_arguments(path)
        flags |= {"--max-lora-rank": str(lora["max_lora_rank"]), "--max-loras": str(lora["max_loras"])}
        flags["--lora-modules"] = f"{path.name}={path.adapter}"
        switches.append("--enable-lora")
    else:
        flags["--served-model-name"] = path.name
    return [word for flag in flags.items() for word in flag] + switches


if __name__ == "__main__":
    cli.run(main)
