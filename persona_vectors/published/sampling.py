"""Published names for loading models and sampling answers: ``eval.model_utils``, part of ``eval.eval_persona``."""

from collections.abc import Sequence

import torch
from torch import nn
from tqdm import tqdm

from persona_vectors import models
from persona_vectors.engines.base import Request, Sampling, prompts_of, stop_ids
from persona_vectors.engines.hf import HFEngine
from persona_vectors.errors import UserError, first_line
from persona_vectors.files.messages import Message
from persona_vectors.models.reasoning import declared_by
from persona_vectors.steering.intervention import Intervention

Chats = Sequence[list[Message]]
Texts = list[str]


def load_model(model_path: str, dtype: torch.dtype | str = "auto") -> tuple:
    """Load ``(model, tokenizer)``.

    Today: :func:`persona_vectors.models.loading.load_model` and ``load_tokenizer``.

    Args:
        model_path: a hub id, a folder, a folder of checkpoints (the latest is used) or a LoRA adapter (merged).
        dtype: ``torch.float16`` or its name, for example; "auto" is bfloat16 on a GPU and float32 on a CPU.

    Example:
        model, tokenizer = load_model("Qwen/Qwen2.5-7B-Instruct")
    """
    path = models.resolve(model_path)
    tokenizer, model = _tokenizer(path), models.load_model(path, str(dtype).removeprefix("torch."))
    return model.merge_and_unload() if path.adapter else model, tokenizer


def load_vllm_model(model_path: str) -> tuple:
    """Load ``(llm, tokenizer, lora_path)``: a ``vllm.LLM`` of the base model, and the adapter's folder or None.

    Today: :class:`persona_vectors.engines.vllm.engine.VLLMEngine`, which steers as well.

    Raises:
        UserError: vLLM cannot run here, or cannot load the model.

    Example:
        llm, tokenizer, lora_path = load_vllm_model("Qwen/Qwen2.5-7B-Instruct")
    """
    from persona_vectors.engines.vllm import setup

    reason = setup.available()
    if reason:
        raise UserError(f"load_vllm_model cannot run here: {reason}; load_model can")
    from vllm import LLM
    from vllm.platforms import current_platform

    path, cpu = models.resolve(model_path), current_platform.is_cpu()
    tokenizer = _tokenizer(path)
    options = setup.lora_arguments(path) or {"enable_lora": True, "max_lora_rank": 128, "max_loras": 2}
    options["tensor_parallel_size"] = setup.choose_sizes(path, False, None, 1, 1)[0]
    options["max_model_len"] = min(20_000, models.describe(path).max_length or 20_000)
    if cpu:
        options |= {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": setup.cpu_cache_bytes()}
    folder = path.base  # of a GGUF file, which is converted here
    try:
        with setup.process_of_its_own(not cpu):
            llm = LLM(folder, max_num_seqs=32, enable_prefix_caching=True, **options)
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"vLLM cannot load {folder}: {first_line(error)}") from error
    return llm, tokenizer, path.adapter


def sample(
    model, tokenizer, conversations: Chats, top_p=1, max_tokens=1000, temperature=1, min_tokens=1, lora_path=None
) -> tuple[Texts, Texts]:
    """Sample one answer to each conversation; returns ``(templated prompts, answers)``.

    Today: :meth:`persona_vectors.engines.Engine.generate`; ``python -m eval.eval_persona`` for whole evaluations.

    Args:
        model: from :func:`load_vllm_model` or :func:`load_model`; torch.manual_seed makes the latter reproducible.
        conversations: one list of messages each.
        lora_path: an adapter, with vLLM only.

    Raises:
        UserError: a conversation that leaves no room for an answer, or ``lora_path`` with a transformers model.

    Example:
        prompts, answers = sample(model, tokenizer, [[{"role": "user", "content": "Hello!"}]], max_tokens=50)
    """
    sampling = Sampling(max_tokens, temperature, top_p, min_tokens)
    if not isinstance(model, nn.Module):
        return _ask_vllm(model, tokenizer, conversations, sampling, lora_path)
    if lora_path:
        raise UserError(f"lora_path is for vLLM; load_model('{lora_path}') puts the adapter into the weights")
    return _ask(model, tokenizer, conversations, sampling)


def sample_steering(
    model, tokenizer, conversations: Chats, vector, layer, coef, bs=20, top_p=1, max_tokens=1000, temperature=1,
    min_tokens=1, steering_type="response",
) -> tuple[Texts, Texts]:  # fmt: skip
    """:func:`sample` with ``coef * vector`` added at ``layer`` (1..L, the row of the vector file).

    Today: :meth:`persona_vectors.engines.Engine.generate` with interventions, or `python -m eval.eval_persona --coef`.

    Raises:
        UserError: a vLLM model, or a layer, vector width or steering type that does not exist.

    Example:
        prompts, answers = sample_steering(model, tokenizer, conversations, vectors[20], layer=20, coef=2.0)
    """
    steering = (Intervention(int(layer), torch.as_tensor(vector), float(coef), steering_type),)
    if not isinstance(model, nn.Module):
        raise UserError("sample_steering takes load_model's model; with vLLM, python -m eval.eval_persona steers")
    return _ask(model, tokenizer, conversations, Sampling(max_tokens, temperature, top_p, min_tokens), steering, bs)


def _ask(model, tokenizer, conversations, sampling, steering=(), batch_size=20) -> tuple[Texts, Texts]:
    prompts, ids = prompts_of(tokenizer, conversations, models.shape_of(model.config).max_length)
    seeds = torch.randint(2**62, (len(ids),)).tolist()
    requests = [Request(str(k), row, steering, seeds[k]) for k, row in enumerate(ids)]
    made = HFEngine.of(model, tokenizer, batch_size).generate(requests, sampling)
    answers = {answer.key: answer.text for answer in tqdm(made, total=len(requests), desc="answers")}
    return prompts, [answers[request.key] for request in requests]


def _ask_vllm(llm, tokenizer, conversations, sampling, lora_path) -> tuple[Texts, Texts]:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    config = llm.model_config
    prompts, ids = prompts_of(tokenizer, conversations, config.max_model_len)
    params = SamplingParams(
        max_tokens=min(sampling.max_tokens, config.max_model_len - max(map(len, ids), default=0)),
        min_tokens=sampling.min_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop_token_ids=stop_ids(config.try_get_generation_config().get("eos_token_id"), tokenizer),
    )
    adapter = LoRARequest("default", 1, str(lora_path)) if lora_path else None
    made = llm.generate([{"prompt_token_ids": row} for row in ids], params, lora_request=adapter)
    thoughts = declared_by(tokenizer)
    return prompts, [thoughts.split(row, one.outputs[0].token_ids)[1] for row, one in zip(ids, made, strict=True)]


def _tokenizer(path: models.ModelPath):
    tokenizer = models.load_tokenizer(path)
    tokenizer.padding_side = "left"
    return tokenizer
