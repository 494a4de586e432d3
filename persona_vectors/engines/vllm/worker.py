"""vLLM workers that steer: the released vLLM's own, with hooks and tables put in place when the model is loaded.

vLLM takes a worker class by name (``worker_cls``); ``load_model`` runs before profiling, compilation and the capture of
CUDA graphs. A request brings the numbers of its slots (see :mod:`persona_vectors.engines.vllm.slots`) in
``SamplingParams.extra_args``; before every step the slots of the scheduled tokens are written down by their absolute
positions, which settles chunked prefill, prefix caching and recomputation after preemption alike.

Imported by vLLM's worker processes only; the engine's process does not import this module.
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
    """A worker whose model can be steered, or that knows why it cannot."""

    steering_refusal: str | None = None

    def load_model(self, **kwargs) -> None:
        super().load_model(**kwargs)
        try:
            self._install_steering()
        except UserError as error:
            # Raised here it would be a traceback in another process; the engine asks and says it.
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
        """For the engine: why this worker cannot steer, or None; layers and width of the model."""
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
    """The steered stretches (first token in the batch, end, slot) of one request's tokens in a step.

    Args:
        slots: of the prompt without its last token, of the last prompt token, of generated tokens; 0 is not steered.
        start: of the request's tokens in the batch.
        position: of the first of them in its sequence, from 0.
        count: of its tokens in this step.
    """
    body, last, generated = slots
    answer = prompt_length
    stretches = ((0, answer - 1, body), (answer - 1, answer, last), (answer, None, generated))
    spans = []
    for first, end, slot in stretches:
        first = max(first, position)
        end = position + count if end is None else min(end, position + count)
        if slot and first < end:
            spans.append((start + first - position, start + end - position, slot))
    return spans


def watch_v1_runner(runner, tables: ResidualTables) -> None:
    """Before each step of vLLM's first model runner (CPU, and GPUs without Triton) write the tokens' slots."""
    prepare_inputs = runner._prepare_inputs

    def prepare_inputs_and_slots(self, scheduler_output, num_scheduled_tokens: np.ndarray):
        prepared = prepare_inputs(scheduler_output, num_scheduled_tokens)
        spans, start = [], 0
        batch = self.input_batch
        for index, (req_id, count) in enumerate(zip(batch.req_ids, num_scheduled_tokens.tolist(), strict=True)):
            request = self.requests[req_id]  # kept by the runner while the request lives, preempted or not
            slots = (request.sampling_params.extra_args or {}).get(REQUEST_KEY)
            if slots:
                position = int(batch.num_computed_tokens_cpu[index])
                spans += spans_of(slots, request.num_prompt_tokens, start, position, count)
            start += count
        tables.fill(spans, async_tensor_h2d)
        return prepared

    runner._prepare_inputs = MethodType(prepare_inputs_and_slots, runner)


def watch_v2_runner(runner, tables: ResidualTables) -> None:
    """The same for vLLM's second model runner, which does not keep a request's parameters: they are noted as it comes.

    A preempted request is removed and comes again; then its output counts as prefill, but ``prompt_len`` stays.
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
