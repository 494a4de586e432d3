"""vLLM workers that steer: vLLM's own worker class plus hooks and tables, installed when the model is loaded.

vLLM takes a worker class by name (``worker_cls``). Its ``load_model`` runs before profiling, compilation and CUDA graph
capture. A request carries its slots (see :mod:`persona_vectors.engines.vllm.slots`) in ``SamplingParams.extra_args``.
Before every step, the slots of the scheduled tokens are set by absolute position; so chunked prefill, prefix caching
and recomputation after preemption need no special case.

Only vLLM's worker processes import this module; the engine's process does not.
"""

from types import MethodType

import numpy as np
from vllm.config import CompilationMode, CUDAGraphMode
from vllm.platforms import current_platform
from vllm.utils.torch_utils import async_tensor_h2d

from persona_vectors.engines.vllm.engine import CONFIG_KEY, REQUEST_KEY
from persona_vectors.engines.vllm.hooks import ResidualTables
from persona_vectors.errors import UserError

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Worker
else:
    from vllm.v1.worker.gpu_worker import Worker


class SteeringWorker(Worker):
    """A vLLM worker whose model can be steered; if it cannot, ``steering_refusal`` has the reason."""

    steering_refusal: str | None = None

    def load_model(self, **kwargs) -> None:
        super().load_model(**kwargs)
        try:
            self._install_steering()
        except UserError as error:
            # Raised here, it would be a traceback in another process. The engine asks for it and raises it.
            self.steering_refusal = str(error)

    def _install_steering(self) -> None:
        config = self.vllm_config
        parallel = config.parallel_config
        if parallel.enable_dbo or config.speculative_config is not None:
            raise UserError("vLLM cannot steer with dual-batch overlap or speculative decoding")
        if parallel.prefill_context_parallel_size > 1:
            raise UserError("vLLM cannot steer with prefill context parallelism")
        compilation = config.compilation_config
        scheduled = config.scheduler_config.max_num_batched_tokens
        graphs = compilation.cudagraph_capture_sizes or [0]
        self.steering = ResidualTables(
            self.model_runner.get_model(),
            layers=config.model_config.get_total_num_hidden_layers(),
            hidden=config.model_config.get_hidden_size(),
            sizes=config.additional_config[CONFIG_KEY],
            tokens=max(scheduled, *graphs),
            dtype=config.model_config.dtype,
            device=self.device,
            eager=compilation.mode == CompilationMode.NONE and compilation.cudagraph_mode == CUDAGraphMode.NONE,
        )
        watch = watch_v2_runner if self.use_v2_model_runner else watch_v1_runner
        watch(self.model_runner, self.steering)

    def steering_shape(self) -> dict:
        """``{"refusal", "layers", "hidden"}``: why this worker cannot steer, or None, and the model's sizes."""
        model_config = self.vllm_config.model_config
        return {
            "refusal": self.steering_refusal,
            "layers": model_config.get_total_num_hidden_layers(),
            "hidden": model_config.get_hidden_size(),
        }

    def steering_write(self, row_numbers: list[int], rows: bytes, slots: list) -> None:
        """See :meth:`ResidualTables.write`."""
        self.steering.write(row_numbers, rows, slots)


def spans_of(slots: list[int], prompt_length: int, start: int, position: int, count: int) -> list[tuple[int, int, int]]:
    """The steered spans (first token in the batch, end, slot) of one request's tokens in a step.

    Args:
        slots: for the prompt without its last token, the last prompt token, and generated tokens; 0 is not steered. A
            fourth number takes the place of ``prompt_length``: where what follows in the prompt is a given answer.
        prompt_length: tokens of the prompt.
        start: index in the batch of the request's first token in this step.
        position: index of that token in its sequence, from 0.
        count: tokens of the request in this step.

    Example:
        spans_of([1, 2, 3], prompt_length=5, start=10, position=3, count=2)  # [(10, 11, 1), (11, 12, 2)]
    """
    body, last, generated, *told = slots
    answer = told[0] if told else prompt_length
    stretches = ((0, answer - 1, body), (answer - 1, answer, last), (answer, None, generated))
    spans = []
    for first, end, slot in stretches:
        first = max(first, position)
        end = position + count if end is None else min(end, position + count)
        if slot and first < end:
            spans.append((start + first - position, start + end - position, slot))
    return spans


def watch_v1_runner(runner, tables: ResidualTables) -> None:
    """Write the tokens' slots before each step of vLLM's V1 model runner (CPU, and GPUs without Triton)."""
    prepare_inputs = runner._prepare_inputs

    def prepare_inputs_and_slots(self, scheduler_output, num_scheduled_tokens: np.ndarray):
        prepared = prepare_inputs(scheduler_output, num_scheduled_tokens)
        spans, start = [], 0
        batch = self.input_batch
        for index, (req_id, count) in enumerate(zip(batch.req_ids, num_scheduled_tokens.tolist(), strict=True)):
            request = self.requests[req_id]  # kept until the request ends, even if it is preempted
            slots = (request.sampling_params.extra_args or {}).get(REQUEST_KEY)
            if slots:
                position = int(batch.num_computed_tokens_cpu[index])
                spans += spans_of(slots, request.num_prompt_tokens, start, position, count)
            start += count
        tables.fill(spans, async_tensor_h2d)
        return prepared

    runner._prepare_inputs = MethodType(prepare_inputs_and_slots, runner)


def watch_v2_runner(runner, tables: ResidualTables) -> None:
    """The same for vLLM's V2 model runner. It does not keep a request's parameters, so they are recorded on arrival.

    A preempted request is removed and added again. Its output then counts as prefill, but ``prompt_len`` is unchanged.
    """
    known: dict[str, tuple[list[int], int]] = {}
    add_requests, remove_request, prepare_inputs = runner.add_requests, runner._remove_request, runner.prepare_inputs

    def add_and_note(self, scheduler_output) -> None:
        add_requests(scheduler_output)
        for request in scheduler_output.scheduled_new_reqs:
            params = request.sampling_params
            slots = params is not None and (params.extra_args or {}).get(REQUEST_KEY)
            if slots:
                known[request.req_id] = slots, request.prompt_len

    def remove_and_forget(self, req_id: str) -> bool:
        known.pop(req_id, None)
        return remove_request(req_id)

    def prepare_inputs_and_slots(self, *args, **kwargs):
        batch = prepare_inputs(*args, **kwargs)
        spans, start = [], 0
        counts, positions = batch.num_scheduled_tokens.tolist(), batch.num_computed_tokens_np.tolist()
        for req_id, count, position in zip(batch.req_ids, counts, positions, strict=True):
            if req_id in known:
                spans += spans_of(*known[req_id], start, position, count)
            start += count
        tables.fill(spans, async_tensor_h2d)
        return batch

    runner.add_requests = MethodType(add_and_note, runner)
    runner._remove_request = MethodType(remove_and_forget, runner)
    runner.prepare_inputs = MethodType(prepare_inputs_and_slots, runner)
