"""Generation with vLLM: all GPUs, continuous batching, and steering per request without loss of speed.

Uses the extension points of the released vLLM: a worker class (:mod:`persona_vectors.engines.vllm.worker`),
``SamplingParams.extra_args`` and ``collective_rpc``. vLLM is imported only when an engine is created.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from persona_vectors import models
from persona_vectors.engines.base import OVERFLOW, Answer, Request, Sampling, stop_ids
from persona_vectors.engines.vllm.adapters import AdapterInPlace
from persona_vectors.engines.vllm.scoring import keep_tensors
from persona_vectors.engines.vllm.selftest import SelfTest
from persona_vectors.engines.vllm.setup import (
    available,
    choose_sizes,
    cpu_cache_bytes,
    devices,
    lora_arguments,
    process_of_its_own,
    quantises,
)
from persona_vectors.engines.vllm.slots import Allocation, SlotTable
from persona_vectors.errors import UserError, first_line
from persona_vectors.models import chat_template

CONFIG_KEY = "persona_vectors_steering"  # in additional_config, which vLLM includes in its compile-cache key
REQUEST_KEY = "persona_vectors_slots"  # in SamplingParams.extra_args


class VLLMEngine:
    """Implements :class:`persona_vectors.engines.base.Engine` with vLLM.

    Args:
        path: base model and optional LoRA adapter; the adapter applies to all requests (:meth:`switch_to` swaps it).
        max_model_len: longest prompt plus ``max_tokens``, in tokens.
        dtype: ``float32``, ``bfloat16``, ``float16``; ``auto`` is bfloat16 on a GPU and float32 on a CPU.
        tensor_parallel_size: GPUs that share each layer. Default: the largest number that the model can be divided by.
        pipeline_parallel_size: number of pipeline stages, among which the layers are divided.
        data_parallel_size: copies of the model, each with its own process and GPUs. Default: as many as fit on the
            GPUs, or one where ``tensor_parallel_size`` is given.
        gpu_memory_utilization: fraction of each GPU's memory to use (a CPU uses a quarter of the free memory).
        enforce_eager: disable torch.compile and CUDA graphs; the default on a CPU.
        distributed_executor_backend: ``ray`` for several machines; by default vLLM's choice.
        trust_remote_code: run code that comes with the model.
        steer: False runs vLLM's own worker; steered requests are then refused.
        slots: steering slots, plus one for "not steered". A request takes at most 3; equal settings share slots.
        rows: distinct vectors (coefficient included) among the running requests, plus one.
        ablations: directions that one request may ablate at one layer. Above 0, compiled graphs pay a little at every
            layer even if no request ablates.
        options: further ``vllm.EngineArgs``, passed through.

    Raises:
        UserError: vLLM cannot run here, cannot load this model, or cannot steer it.

    Example:
        engine = VLLMEngine(models.resolve("Qwen/Qwen2.5-7B-Instruct"), max_model_len=2048)
        answers = list(engine.generate(requests, Sampling(max_tokens=1000)))
    """

    name = "vllm"

    def __init__(
        self,
        path: models.ModelPath,
        max_model_len: int,
        dtype: str = "auto",
        tensor_parallel_size: int | None = None,
        pipeline_parallel_size: int = 1,
        data_parallel_size: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enforce_eager: bool | None = None,
        distributed_executor_backend: str | None = None,
        trust_remote_code: bool = False,
        steer: bool = True,
        slots: int = 1024,
        rows: int = 1024,
        ablations: int = 0,
        **options,
    ) -> None:
        reason = available()
        if reason:
            raise UserError(f"the vllm backend cannot run here: {reason}")
        if path.load_in_4bit and (reason := quantises()):
            raise UserError(f"{reason}; --backend hf can")
        from vllm.platforms import current_platform

        cpu = current_platform.is_cpu()
        if distributed_executor_backend is not None:  # GPUs of other machines cannot be counted here
            data_parallel_size = data_parallel_size or 1
        tensor_parallel_size, data_parallel_size = choose_sizes(
            path, trust_remote_code, tensor_parallel_size, pipeline_parallel_size, data_parallel_size
        )
        self.tokenizer = models.load_tokenizer(path, trust_remote_code)
        self.max_model_len = max_model_len
        self._stop_texts = list(chat_template.stop_texts(self.tokenizer))
        arguments = {
            "model": path.base,
            "skip_tokenizer_init": True,  # token ids in, token ids out; text is decoded here
            "trust_remote_code": trust_remote_code,
            "max_model_len": max_model_len,
            "dtype": ("float32" if cpu else "bfloat16") if dtype == "auto" else dtype,
            "tensor_parallel_size": tensor_parallel_size,
            "pipeline_parallel_size": pipeline_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            # Eager pipeline stages on a CPU fail: vLLM skips the start-up run that allocates their buffers.
            "enforce_eager": cpu and pipeline_parallel_size == 1 if enforce_eager is None else enforce_eager,
            "distributed_executor_backend": distributed_executor_backend,
            "enable_prefix_caching": True,
            "disable_log_stats": True,
        }
        if cpu:
            arguments["kv_cache_memory_bytes"] = cpu_cache_bytes()
            # For a chunked prompt with a seed, vLLM rewinds the request's generator, which CPU generators cannot do.
            arguments["enable_chunked_prefill"] = False
        if self._stop_texts:  # only vLLM's own tokenizer finds them while it generates
            arguments |= {"skip_tokenizer_init": False, "tokenizer": models.tokenizer_source(path)}
        arguments |= lora_arguments(path)
        if path.load_in_4bit:
            arguments["quantization"] = "bitsandbytes"  # NF4 as well, while loading
        if steer:
            sizes = {"version": 1, "slots": slots, "rows": rows, "ablations": ablations}
            arguments["worker_cls"] = "persona_vectors.engines.vllm.worker.SteeringWorker"
            arguments["additional_config"] = {CONFIG_KEY: sizes}
        ranks = tensor_parallel_size * pipeline_parallel_size
        alone = cpu and ranks * data_parallel_size == 1 and distributed_executor_backend is None
        with process_of_its_own(not alone):
            self._copies = [
                self._start(arguments | options, None if data_parallel_size == 1 else (replica, ranks))
                for replica in range(data_parallel_size)
            ]
        config = self._copies[0].vllm_config
        self._window = 2 * config.scheduler_config.max_num_seqs  # most requests that each copy holds at a time
        generation = self._copies[0].model_config.try_get_generation_config()
        self._own_stop_ids = generation.get("eos_token_id")
        self._path = path
        self._trust_remote_code = trust_remote_code
        self._adapter = AdapterInPlace(self._copies)
        self._put_on(path)
        self._slots = self._steering(slots, rows, ablations) if steer else None
        if steer:
            self._self_test(ablations)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Answer]:
        """Yield answers in the order in which they finish. All requests are checked before the first one starts.

        Raises:
            UserError: a prompt that is empty or too long, or interventions that this engine cannot serve.
        """
        from vllm import SamplingParams

        for request in requests:
            if not request.prompt_ids:
                raise UserError("a prompt has no tokens")
            if len(request.prompt_ids) >= self.max_model_len:
                raise UserError(
                    f"a prompt of {len(request.prompt_ids)} tokens leaves no room for an answer: this vLLM engine was "
                    f"started for {self.max_model_len}"
                )

        def params(request: Request) -> "SamplingParams":
            # Set every value that the model's generation config could otherwise change.
            return SamplingParams(
                max_tokens=min(sampling.max_tokens, self.max_model_len - len(request.prompt_ids)),
                min_tokens=sampling.min_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=0,
                min_p=0.0,
                repetition_penalty=1.0,
                stop_token_ids=self.stop_ids,
                stop=self._stop_texts,
                seed=request.seed,
            )

        return (
            Answer.of(request, list(output.token_ids), output.finish_reason, self.tokenizer)
            for request, output in self.outputs(requests, params)
        )

    def outputs(self, requests: Sequence[Request], params: Callable) -> Iterator[tuple]:
        """Yield (request, vLLM's finished ``CompletionOutput``); ``params(request)`` are its ``SamplingParams``."""
        return ((request, result.outputs[0]) for request, result in self.results(requests, params))

    def results(self, requests: Sequence[Request], params: Callable) -> Iterator[tuple]:
        """Yield (request, vLLM's ``RequestOutput``), whose log-probabilities of a prompt are tensors (:func:`keep_tensors`).

        Requests wait while running ones occupy all slots. When the caller stops, unfinished requests are aborted.
        """
        digests: dict[int, str] = {}
        for request in requests:
            self._check(request, digests)
        return self._run(deque(enumerate(requests)), params, digests)

    def _check(self, request: Request, digests: dict[int, str]) -> None:
        if self._slots is not None:
            self._slots.check(request.interventions, digests)
        elif any(not i.is_identity for i in request.interventions):
            raise UserError("this vLLM engine was started without steering")

    def _run(self, waiting: deque, params: Callable, digests: dict[int, str]) -> Iterator[tuple]:
        running: dict[str, tuple[Request, Allocation, int]] = {}
        load = [0] * len(self._copies)
        try:
            while waiting or running:
                self._add(waiting, running, load, params, digests)
                for copy, llm in enumerate(self._copies):
                    if not load[copy]:
                        continue
                    for result in llm.step():
                        if result.finished:
                            request, allocation, _ = running.pop(result.request_id)
                            self._release(allocation)
                            load[copy] -= 1
                            yield request, result
        finally:
            for copy, llm in enumerate(self._copies):
                llm.abort_request([name for name, (_, _, where) in running.items() if where == copy])
            for _, allocation, _ in running.values():
                self._release(allocation)

    def _add(self, waiting: deque, running: dict, load: list[int], params: Callable, digests: dict) -> None:
        """Start as many waiting requests as there is room for, each on the copy with the fewest running ones."""
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        beginning = []
        while waiting and len(running) + len(beginning) < self._window * len(self._copies):
            number, request = waiting[0]
            allocation = (
                self._slots.acquire(request.interventions, digests) if self._slots else Allocation((0, 0, 0), None)
            )
            if allocation is None:
                break  # the place is taken by requests under way
            waiting.popleft()
            beginning.append((str(number), request, allocation))
        self._write_tables()
        for name, request, allocation in beginning:
            copy = load.index(min(load))
            salt = allocation.salt_for(request.prompt_length)
            prompt = tokens_input(request.prompt_ids, cache_salt=salt)
            settings = params(request)
            settings.output_kind = RequestOutputKind.FINAL_ONLY
            settings.detokenize = bool(settings.stop)
            steering = [*allocation.slots, request.prompt_length]
            settings.extra_args = {REQUEST_KEY: steering} if any(allocation.slots) else None
            llm = self._copies[copy]
            own_name = llm.add_request(name, prompt, settings, lora_request=self._adapter_of(request))
            if settings.prompt_logprobs is not None:
                keep_tensors(llm, own_name)
            running[name] = request, allocation, copy
            load[copy] += 1

    @property
    def stop_ids(self) -> list[int]:
        """The tokens that end an answer; see :func:`persona_vectors.engines.base.stop_ids`."""
        return stop_ids(self._own_stop_ids, self.tokenizer)

    @property
    def longest(self) -> int:
        """Tokens that the longest sequence takes."""
        return self.max_model_len

    @property
    def dtype_name(self) -> str:
        """What the model computes in: ``bfloat16``, ..."""
        return str(self._copies[0].model_config.dtype).removeprefix("torch.")

    def _adapter_of(self, _request: Request):
        return self._adapter.request

    def _release(self, allocation: Allocation) -> None:
        if self._slots is not None:
            self._slots.release(allocation)

    def _write_tables(self) -> None:
        """Send new slots and rows to the workers, before the first request that needs them."""
        if self._slots is None or not self._slots.writes:
            return
        writes = self._slots.take_writes()
        rows = np.stack(writes.rows).tobytes() if writes.rows else b""
        for llm in self._copies:
            llm.collective_rpc("steering_write", args=(writes.row_numbers, rows, writes.slots))

    def switch_to(self, path: models.ModelPath, longest: int | None) -> bool:
        """Go on with another adapter over the same base, which stays loaded, or with the base alone.

        False where that needs a new engine: another base, longer sequences, an adapter of higher rank, or the first.

        Raises:
            UserError: vLLM cannot use the adapter; the engine is closed.
        """
        if path.bare != self._path.bare or (longest or 0) > self.max_model_len or not self._adapter.has_room_for(path):
            return False
        self._path = path
        self.tokenizer = models.load_tokenizer(path, self._trust_remote_code)
        self._put_on(path)
        return True

    def _put_on(self, path: models.ModelPath) -> None:
        try:
            self._adapter.put_on(path)
        except UserError:
            self.close()
            raise

    def close(self) -> None:
        """End vLLM's processes and release its memory."""
        for llm in self._copies:
            llm.engine_core.shutdown()
        self._copies = []
        from vllm.distributed import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()

    def _start(self, arguments: dict, replica: tuple[int, int] | None):
        """Start one copy of the model; ``replica``: (index of the copy, GPUs per copy), None for a single copy."""
        from vllm import EngineArgs, LLMEngine

        with devices(replica):
            try:
                return LLMEngine.from_engine_args(EngineArgs(**arguments))
            except (ValueError, OSError, RuntimeError) as error:
                raise UserError(f"vLLM cannot load {arguments['model']}: {first_line(error)}") from error

    def _steering(self, slots: int, rows: int, ablations: int) -> SlotTable:
        for llm in self._copies:
            shapes = llm.collective_rpc("steering_shape")
            refusal = next((shape["refusal"] for shape in shapes if shape["refusal"]), None)
            if refusal:
                self.close()
                raise UserError(refusal)
        return SlotTable(shapes[0]["layers"], shapes[0]["hidden"], slots, rows, ablations)

    def _self_test(self, ablations: int) -> None:
        """Check that a large vector changes the output at every layer; a graph compiled without the hooks would not.

        Raises:
            UserError: some layers cannot be steered (named, with the architecture), or the logits overflow.
        """
        from vllm import SamplingParams

        test = SelfTest(self._slots.layers, self._slots.hidden, ablations, self.max_model_len)
        requests = [Request(name, test.prompt, interventions) for name, interventions in test.trials.items()]
        params = SamplingParams(max_tokens=1, temperature=0, logprobs=0)
        seen = {
            request.key: (output.token_ids[0], output.cumulative_logprob)
            for request, output in self.outputs(requests, lambda _: params.clone())
        }
        if seen["0"][1] != seen["0"][1]:  # NaN
            dtype = self.dtype_name
            self.close()
            raise UserError(OVERFLOW.format(dtype=dtype))
        dead = test.dead(seen)
        if dead:
            architecture = self._copies[0].model_config.architecture
            self.close()
            raise UserError(f"vLLM cannot steer {architecture}: a large vector changes nothing at layer {dead}")
