"""Generation with vLLM: all GPUs, continuous batching, and interventions per request at the same speed.

Runs on the released vLLM through its extension points: a worker class (:mod:`persona_vectors.engines.vllm.worker`),
``SamplingParams.extra_args`` and ``collective_rpc``. Nothing of vLLM is imported before an engine is made.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from persona_vectors import models
from persona_vectors.engines.base import OVERFLOW, Answer, Request, Sampling, stop_ids
from persona_vectors.engines.vllm.selftest import SelfTest
from persona_vectors.engines.vllm.setup import (
    available,
    choose_sizes,
    cpu_cache_bytes,
    devices,
    lora_arguments,
    process_of_its_own,
)
from persona_vectors.engines.vllm.slots import Allocation, SlotTable
from persona_vectors.errors import UserError, first_line

CONFIG_KEY = "persona_vectors_steering"  # in additional_config, which is part of the key of compiled graphs
REQUEST_KEY = "persona_vectors_slots"  # in SamplingParams.extra_args


class VLLMEngine:
    """Implements :class:`persona_vectors.engines.base.Engine` with vLLM.

    Args:
        path: base model and, over it, perhaps a LoRA adapter (which then makes all answers).
        max_model_len: longest prompt plus ``max_tokens``, in tokens.
        dtype: ``float32``, ``bfloat16``, ``float16``; ``auto`` is bfloat16 on a GPU and float32 on a CPU.
        tensor_parallel_size: GPUs that share each layer; by default as many of those visible as the model can be divided by.
        pipeline_parallel_size: groups of GPUs that divide the layers among them.
        data_parallel_size: copies of the model, each in a process and on GPUs of its own; by default as many as the GPUs
            are enough for, and one where ``tensor_parallel_size`` is given.
        gpu_memory_utilization: the part of each GPU's memory to use (on a CPU: a quarter of what is free).
        enforce_eager: without torch.compile and CUDA graphs; by default on a CPU only.
        distributed_executor_backend: ``ray`` for several machines; by default vLLM's choice.
        trust_remote_code: run code that comes with the model.
        steer: without it vLLM runs with its own worker, and requests must not be steered.
        slots: different settings (per request at most 3) that may be under way at a time, plus one.
        rows: different vectors (times coefficients) in them, plus one.
        ablations: directions that one request may ablate at one layer. Costs a little per layer in compiled graphs,
            also when nobody ablates, so none unless asked for.
        options: further ``vllm.EngineArgs``, as they are.

    Raises:
        UserError: vLLM cannot run here, cannot load this model, or cannot steer it.
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
        from vllm.platforms import current_platform

        cpu = current_platform.is_cpu()
        if distributed_executor_backend is not None:  # GPUs of other machines are not ours to count
            data_parallel_size = data_parallel_size or 1
        tensor_parallel_size, data_parallel_size = choose_sizes(
            path, trust_remote_code, tensor_parallel_size, pipeline_parallel_size, data_parallel_size
        )
        self.tokenizer = models.load_tokenizer(path, trust_remote_code)
        self.max_model_len = max_model_len
        arguments = {
            "model": path.base,
            "skip_tokenizer_init": True,  # token ids in, token ids out; the text is made here
            "trust_remote_code": trust_remote_code,
            "max_model_len": max_model_len,
            "dtype": ("float32" if cpu else "bfloat16") if dtype == "auto" else dtype,
            "tensor_parallel_size": tensor_parallel_size,
            "pipeline_parallel_size": pipeline_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            # (vLLM's eager pipeline on a CPU skips the start-up run that makes its buffers, and fails.)
            "enforce_eager": cpu and pipeline_parallel_size == 1 if enforce_eager is None else enforce_eager,
            "distributed_executor_backend": distributed_executor_backend,
            "enable_prefix_caching": True,
            "disable_log_stats": True,
        }
        if cpu:
            arguments["kv_cache_memory_bytes"] = cpu_cache_bytes()
            # Cutting up the prompt of a request with a seed, vLLM sets its generator back; a CPU's cannot do that.
            arguments["enable_chunked_prefill"] = False
        arguments |= lora_arguments(path)
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
        self._window = 2 * config.scheduler_config.max_num_seqs  # requests given to each copy at a time
        generation = self._copies[0].model_config.try_get_generation_config()
        self._stop_ids = stop_ids(generation.get("eos_token_id"), self.tokenizer)
        self._adapter = self._load_adapter(path)
        self._slots = self._steering(slots, rows, ablations) if steer else None
        if steer:
            self._self_test(ablations)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Answer]:
        """Answers in the order in which they finish; every request is checked before the first is begun.

        Raises:
            UserError: a prompt that is empty or too long, or interventions that cannot be served.
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
            # Everything that a model's generation config could change is said here.
            return SamplingParams(
                max_tokens=min(sampling.max_tokens, self.max_model_len - len(request.prompt_ids)),
                min_tokens=sampling.min_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=0,
                min_p=0.0,
                repetition_penalty=1.0,
                stop_token_ids=self._stop_ids,
                seed=request.seed,
            )

        return (
            Answer.of(request, list(output.token_ids), output.finish_reason, self.tokenizer)
            for request, output in self.outputs(requests, params)
        )

    def outputs(self, requests: Sequence[Request], params: Callable) -> Iterator[tuple]:
        """Pairs of a request and vLLM's finished ``CompletionOutput``; ``params(request)`` are its ``SamplingParams``.

        Requests wait here while those under way occupy all slots. What is unfinished when the caller stops is aborted.
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
                            yield request, result.outputs[0]
        finally:
            for copy, llm in enumerate(self._copies):
                llm.abort_request([name for name, (_, _, where) in running.items() if where == copy])
            for _, allocation, _ in running.values():
                self._release(allocation)

    def _add(self, waiting: deque, running: dict, load: list[int], params: Callable, digests: dict) -> None:
        """Begin as many of the waiting requests as there is place for, each on the copy with the least to do."""
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
            prompt = tokens_input(request.prompt_ids, cache_salt=allocation.salt)
            settings = params(request)
            settings.output_kind = RequestOutputKind.FINAL_ONLY
            settings.detokenize = False
            settings.extra_args = {REQUEST_KEY: list(allocation.slots)} if any(allocation.slots) else None
            self._copies[copy].add_request(name, prompt, settings, lora_request=self._adapter_of(request))
            running[name] = request, allocation, copy
            load[copy] += 1

    def _adapter_of(self, _request: Request):
        return self._adapter

    def _release(self, allocation: Allocation) -> None:
        if self._slots is not None:
            self._slots.release(allocation)

    def _write_tables(self) -> None:
        """Bring the workers' tables up to date, before the first request that needs what is new."""
        if self._slots is None or not self._slots.writes:
            return
        writes = self._slots.take_writes()
        rows = np.stack(writes.rows).tobytes() if writes.rows else b""
        for llm in self._copies:
            llm.collective_rpc("steering_write", args=(writes.row_numbers, rows, writes.slots))

    def close(self) -> None:
        """End vLLM's processes and give its memory back."""
        for llm in self._copies:
            llm.engine_core.shutdown()
        self._copies = []
        from vllm.distributed import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()

    def _start(self, arguments: dict, replica: tuple[int, int] | None):
        """One copy of the model; of several, number ``replica[0]`` on ``replica[1]`` GPUs of its own."""
        from vllm import EngineArgs, LLMEngine

        with devices(replica):
            try:
                return LLMEngine.from_engine_args(EngineArgs(**arguments))
            except (ValueError, OSError, RuntimeError) as error:
                raise UserError(f"vLLM cannot load {arguments['model']}: {first_line(error)}") from error

    def _load_adapter(self, path: models.ModelPath):
        """The ``LoRARequest`` that goes with every prompt, or None; loaded now, so that a refusal comes now."""
        if not path.adapter:
            return None
        from vllm.lora.request import LoRARequest

        adapter = LoRARequest(path.basename, 1, path.adapter)
        try:
            for llm in self._copies:
                llm.add_lora(adapter)
        except Exception as error:  # ValueError, or whatever it becomes on its way from another process
            self.close()
            raise UserError(f"vLLM cannot use the adapter {path.adapter}: {first_line(error)}") from error
        return adapter

    def _steering(self, slots: int, rows: int, ablations: int) -> SlotTable:
        for llm in self._copies:
            shapes = llm.collective_rpc("steering_shape")
            refusal = next((shape["refusal"] for shape in shapes if shape["refusal"]), None)
            if refusal:
                self.close()
                raise UserError(refusal)
        return SlotTable(shapes[0]["layers"], shapes[0]["hidden"], slots, rows, ablations)

    def _self_test(self, ablations: int) -> None:
        """Refuse to run if a large vector at some layer changes nothing: a graph compiled without the hooks, say.

        Raises:
            UserError: with the architecture and the layers.
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
            dtype = str(self._copies[0].model_config.dtype).removeprefix("torch.")
            self.close()
            raise UserError(OVERFLOW.format(dtype=dtype))
        dead = test.dead(seen)
        if dead:
            architecture = self._copies[0].model_config.architecture
            self.close()
            raise UserError(f"vLLM cannot steer {architecture}: a large vector changes nothing at layer {dead}")
