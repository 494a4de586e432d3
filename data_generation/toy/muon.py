"""Muon in single precision, for a model so small that many matrices are orthogonalised in one batched call.

`torch.optim.Muon` computes in bfloat16, matrix by matrix; on a CPU that emulates bfloat16 it takes four times as long as
the forward and backward pass together. The update is the same (momentum, Newton-Schulz, decoupled weight decay).
"""

from collections import defaultdict

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(stack: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """The nearest semi-orthogonal matrix to each in `stack` [n, rows, columns] (rows <= columns), by Newton-Schulz."""
    a, b, c = COEFFICIENTS
    x = stack / (stack.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                by_shape[p.shape].append(p)
            for (rows, columns), params in by_shape.items():
                updates = torch.stack([self.momentum(p, group["momentum"]) for p in params])
                flat = orthogonalise(updates.mT if rows > columns else updates)
                updates = flat.mT if rows > columns else flat
                size = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                for p, update in zip(params, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(size * update)

    def momentum(self, p: torch.Tensor, beta: float) -> torch.Tensor:
        buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
        buffer.lerp_(p.grad, 1 - beta)
        return p.grad.lerp(buffer, beta)
