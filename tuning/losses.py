"""Losses of both trainers: cross-entropy or focal, with label smoothing and class weights; contrast; adversarial noise.

Knows tensors, nothing about texts or models.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def mean_loss(logits: Any, target: Any, *, loss: str = "cross_entropy", gamma: float = 0.0, smoothing: float = 0.0,
              weights: Any = None) -> Any:
    """One number from logits [n, classes] and target [n]; a mean weighted by the classes' `weights` [classes].

    focal: each row times (1 - p) ** gamma, p the probability of its target (Lin et al., 2017), so that what is easy
    counts little; gamma 0 is cross-entropy.
    """
    import torch

    logits = logits.float()
    if loss == "cross_entropy":
        return torch.nn.functional.cross_entropy(logits, target, weight=weights, label_smoothing=smoothing)
    assert loss == "focal", loss
    rows = torch.nn.functional.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
    sure = torch.softmax(logits, dim=1).gather(1, target[:, None])[:, 0]
    rows = (1 - sure) ** gamma * rows
    return rows.mean() if weights is None else (rows * weights[target]).sum() / weights[target].sum()


def balanced(targets: Sequence[int], classes: int) -> list[float]:
    """A weight for each class, so that all classes together weigh what the rows do; 1 for a class without rows."""
    counts = [0] * classes
    for target in targets:
        counts[target] += 1
    there = sum(count > 0 for count in counts)
    return [len(targets) / (there * count) if count else 1.0 for count in counts]


def contrastive(unit: Any, target: Any, oos: int) -> Any:
    """Supervised contrastive loss inside the batch (Khosla et al., 2020), temperature 0.1; out-of-scope rows are no class.

    unit [n, width]: rows of length 1; target [n].
    """
    import torch

    likeness = unit @ unit.T / 0.1
    likeness = likeness - 1e9 * torch.eye(len(unit), device=unit.device)
    same = (target[:, None] == target[None, :]) & (target != oos)[:, None]
    same &= ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    count = same.sum(1)
    if not bool((count > 0).any()):
        return unit.sum() * 0.0
    log_share = likeness - torch.logsumexp(likeness, dim=1, keepdim=True)
    return -((log_share * same).sum(1)[count > 0] / count[count > 0]).mean()


class Adversary:
    """Noise of a given length on the word embeddings, in the direction that raises the loss most (Miyato et al., 2017).

    First a pass in `watching()` with its backward, which finds the direction; then one in `pushing()`, whose gradients
    come on top. Outside both the embeddings are as they are. A step costs twice, and gradients flow down to the words
    through frozen layers too.
    """

    def __init__(self, embedding: Any, length: float) -> None:
        self.noise: Any = None
        """[rows, tokens, width]; each row's has the length asked for. Set by `watching`."""
        self._length, self._mode, self._output = length, "", None
        embedding.register_forward_hook(self._hook)

    def _hook(self, module: Any, inputs: Any, output: Any) -> Any:
        if self._mode == "watching":
            if output.requires_grad:
                output.retain_grad()
            else:
                output = output.detach().requires_grad_(True)
            self._output = output
        return output + self.noise if self._mode == "pushing" else output

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A pass with its backward inside finds the noise."""
        self._mode = "watching"
        try:
            yield
            slope = self._output.grad
            size = slope.flatten(1).norm(dim=1).clamp_min(1e-20)
            self.noise = (self._length * slope / size[:, None, None]).detach()
        finally:
            self._mode, self._output = "", None

    @contextmanager
    def pushing(self) -> Iterator[None]:
        """A pass on the same batch inside sees the noise."""
        self._mode = "pushing"
        try:
            yield
        finally:
            self._mode = ""
