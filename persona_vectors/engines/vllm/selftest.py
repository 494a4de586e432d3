"""A self-test that steering reaches every layer: a large vector must change the first token's log-probability.

Without it, a graph compiled without the hooks, or hooks in the wrong place, would look like vectors without effect.
"""

import torch

from persona_vectors.steering.intervention import Intervention


class SelfTest:
    """Trials to run, and the verdict on their outcomes.

    Attributes:
        prompt: token ids.
        trials: interventions by trial name; ``0`` is the unsteered baseline.

    Example:
        test = SelfTest(layers=28, hidden=3584, ablations=0, max_length=2048)
        test.dead({name: first_token_and_logprob(test.prompt, acts) for name, acts in test.trials.items()})
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
        """Names of the trials without effect, joined; "" if there are none. ``seen``: first token and its log-prob."""

        def differs(name: str) -> bool:
            token, logprob = seen[name]
            without, its_logprob = seen["1" if "ablation" in name else "0"]
            return token != without or abs(logprob - its_logprob) > 0.01  # rounding differs within a batch

        return ", ".join(name for name in self.trials if name != "0" and not differs(name))
