"""Losses against values worked out by hand, and adversarial noise that is as long and as bad as it says."""

import math

import pytest

from tuning import losses

torch = pytest.importorskip("torch")

LOGITS = [[2.0, 0.0, -1.0], [0.5, 1.5, 0.0], [0.0, 0.0, 3.0]]
TARGET = [0, 0, 2]


def tensors():
    return torch.tensor(LOGITS), torch.tensor(TARGET)


def shares(row: list[float]) -> list[float]:
    raised = [math.exp(value) for value in row]
    return [value / sum(raised) for value in raised]


def row_losses(smoothing: float = 0.0) -> list[float]:
    """Cross-entropy of each row against its smoothed target."""
    out = []
    for row, target in zip(LOGITS, TARGET):
        wanted = [smoothing / 3 + (1 - smoothing) * (i == target) for i in range(3)]
        out.append(-sum(w * math.log(p) for w, p in zip(wanted, shares(row))))
    return out


def test_cross_entropy_and_its_smoothing_are_those_of_the_formula():
    assert float(losses.mean_loss(*tensors())) == pytest.approx(sum(row_losses()) / 3)
    assert float(losses.mean_loss(*tensors(), smoothing=0.3)) == pytest.approx(sum(row_losses(0.3)) / 3)


def test_focal_loss_scales_each_row_by_what_is_missing_to_certainty():
    sure = [shares(row)[target] for row, target in zip(LOGITS, TARGET)]
    wanted = sum((1 - p) ** 2 * loss for p, loss in zip(sure, row_losses())) / 3
    assert float(losses.mean_loss(*tensors(), loss="focal", gamma=2.0)) == pytest.approx(wanted)
    assert float(losses.mean_loss(*tensors(), loss="focal", gamma=0.0)) == pytest.approx(float(losses.mean_loss(*tensors())))


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_class_weights_weigh_rows_by_their_intent(loss: str):
    weights = torch.tensor([1.0, 5.0, 4.0])
    wanted = (row_losses()[0] + row_losses()[1] + 4 * row_losses()[2]) / 6
    assert float(losses.mean_loss(*tensors(), loss=loss, gamma=0.0, weights=weights)) == pytest.approx(wanted)


def test_balanced_classes_weigh_the_same_together():
    weights = losses.balanced([0, 0, 0, 1, 3, 3], 4)
    assert [weights[i] * count for i, count in enumerate([3, 1, 0, 2])] == pytest.approx([2, 2, 0, 2])


def test_contrast_is_less_where_likes_lie_together_and_leaves_out_of_scope_rows_alone():
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), dim=1)
    together, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert float(losses.contrastive(near, together, 9)) < float(losses.contrastive(near, mixed, 9))
    assert float(losses.contrastive(near, torch.tensor([9, 9, 0, 1]), 9)) == 0.0  # nobody has a like


@pytest.mark.parametrize("trained", [True, False])
def test_adversarial_noise_has_its_length_and_raises_the_loss(trained: bool):
    torch.manual_seed(1)
    words = torch.nn.Embedding(20, 8)
    words.requires_grad_(trained)  # LoRA leaves the words alone, and noise has to find its direction all the same
    layer = torch.nn.Linear(8, 3)
    adversary = losses.Adversary(words, 0.5)
    ids, target = torch.randint(0, 20, (4, 5)), torch.tensor([0, 1, 2, 0])

    def loss():
        return torch.nn.functional.cross_entropy(layer(torch.tanh(words(ids)).mean(1)), target)

    clean = loss()
    with adversary.watching():
        watched = loss()
        watched.backward()
    alone = layer.weight.grad.clone()
    with adversary.pushing():
        pushed = loss()
        pushed.backward()
    assert adversary.noise.flatten(1).norm(dim=1).tolist() == pytest.approx([0.5] * 4, rel=1e-5)
    clean, watched, pushed = (value.item() for value in (clean, watched, pushed))
    assert watched == clean and pushed > clean + 1e-3
    assert not torch.allclose(layer.weight.grad, alone)  # both passes have left their gradient
    assert loss().item() == clean  # and nothing is left afterwards

    turned = adversary.noise.flip(1)  # of the same length, another direction: less bad
    adversary.noise = turned
    with adversary.pushing():
        assert loss().item() < pushed
