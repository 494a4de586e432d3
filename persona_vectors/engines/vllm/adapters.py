"""The LoRA adapter of a vLLM engine: put on, and swapped for another over the same base, which stays loaded.

Knows vLLM's LoRA requests; which adapters an engine has room for is decided when it starts (``setup.lora_arguments``).
"""

from collections.abc import Sequence
from typing import Any

from persona_vectors import models
from persona_vectors.engines.vllm.setup import lora_arguments
from persona_vectors.errors import UserError, first_line


class AdapterInPlace:
    """The ``LoRARequest`` that goes with every prompt, None without an adapter.

    Args:
        copies: vLLM engines, all with the same model.
    """

    def __init__(self, copies: Sequence[Any]) -> None:
        self.copies, self.request, self._count = copies, None, 0

    def has_room_for(self, path: models.ModelPath) -> bool:
        """Whether the engines were started for adapters of this rank; for a model without one they always are."""
        lora = self.copies[0].vllm_config.lora_config
        return lora_arguments(path).get("max_lora_rank", 0) <= (lora.max_lora_rank if lora else 0)

    def put_on(self, path: models.ModelPath) -> None:
        """Load the adapter of ``path`` in the place of the one before; now, so that errors appear at once.

        Raises:
            UserError: vLLM cannot use it.
        """
        from vllm.lora.request import LoRARequest

        before, self.request = self.request, None
        if path.adapter:
            self._count += 1
            # vLLM caches prompts by an adapter's name and path: under another's, activations of the other would be reused
            self.request = LoRARequest(f"{path.basename} {self._count}", self._count, path.adapter)
            try:
                for llm in self.copies:
                    llm.add_lora(self.request)
            except Exception as error:  # a ValueError, or what it becomes on its way from another process
                raise UserError(f"vLLM cannot use the adapter {path.adapter}: {first_line(error)}") from error
        if before is not None:
            for llm in self.copies:
                llm.remove_lora(before.lora_int_id)
