"""Does steering reach every layer of this vLLM? A large vector must change the first token's log-probability.

A graph compiled without the hooks, or hooks in the wrong place, would look like vectors that do nothing.
"""

import torch

from persona_vectors.steering.intervention import Intervention


class SelfTest:
    """Trials to run, and what their outcomes say.

    Attributes:
        prompt: token ids.
        trials: interventions by name; ``0`` is without any.
    """

    def __init__(self, layers: int, hidden: int, ablations: int, max_length: int) -> None:
        draw = torch.Generator().manual_seed(0)
        vector = 100 * torch.where(torch.rand(hidden, generator=draw) < 0.5, 1.0, -1.0)
        self.prompt = list(range(1, min(9, max_length)))
        self._layers = range(1, layers + 1)
        push = {layer: Intervention(layer, vector, 1.0, "all") for layer in self._layers}
        self.trials: dict[str, tuple[Intervention, ...]] = {"0": ()}
        self.trials |= {str(layer): (push[layer],) for layer in self._layers}
        if ablations:
            for layer in self._layers[1:]:
                ablation = Intervention(layer, vector, positions="all", kind="ablate")
                self.trials[f"{layer} (ablation)"] = (push[1], ablation)

    def dead(self, seen: dict[str, tuple[int, float]]) -> str:
        """The layers where nothing happened, in words; empty if there are none. ``seen``: token and log-probability."""

        def differs(name: str) -> bool:
            token, logprob = seen[name]
            without, its_logprob = seen["1" if "ablation" in name else "0"]
            return token != without or abs(logprob - its_logprob) > 0.01  # rounding differs within a batch

        return ", ".join(name for name in self.trials if name != "0" and not differs(name))
