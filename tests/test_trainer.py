"""The loop on a net of a few hundred numbers: goes on where it was killed, stops when told, keeps the best, reports."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.errors import DataError, StoreError
from tuning import optimisers, recipe, trainer
from tuning.steps import TrainStep, in_steps

torch = pytest.importorskip("torch")


def small(**changes: Any) -> recipe.RouterRecipe:
    plain = {"epochs": 3, "batch": 4, "save_every": 2, "learning_rate": 0.05, "weight_decay": 0.01, "patience": 9}
    return dataclasses.replace(recipe.load("default").router, **(plain | changes))


class Net(torch.nn.Module):
    """Words into one of three classes, with dropout, so that a run depends on the state of chance too."""

    def __init__(self, dropout: float = 0.3):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.out, self.dropout = torch.nn.Embedding(30, 8), torch.nn.Linear(8, 3), torch.nn.Dropout(dropout)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.words

    def forward(self, ids: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.out(self.dropout(self.words(ids)).mean(1)), target)


def rows(count: int = 20) -> list[tuple[list[int], int]]:
    drawn = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 30, (count, 4), generator=drawn).tolist()
    return [(line, sum(line) % 3) for line in ids]


def tensors(batch: list[tuple[list[int], int]]) -> dict[str, torch.Tensor]:
    return {"ids": torch.tensor([line for line, _ in batch]), "target": torch.tensor([target for _, target in batch])}


def job(told: recipe.RouterRecipe, state: Path | None = None, held: Any = None, net: Any = None, curves: Path | None = None):
    net, data = net or Net(), rows()
    epochs = [[data[i:i + told.batch] for i in range(0, len(data), told.batch)] for _ in range(told.epochs)]
    groups = [{"params": [net.words.weight], "lr": told.learning_rate}, {"params": list(net.out.parameters()), "lr": 0.02}]
    return trainer.Job("router", net, net, groups, epochs, tensors, held or (lambda: float(net(**tensors(data)))), told, 5, 1,
                       state, curves)


def losses_of(steps: list[TrainStep]) -> dict[int, float]:
    return {step.done: step.loss for step in steps if step.held_out is None}


@pytest.mark.parametrize("changes", [{}, {"optimiser": "sgd"}, {"optimiser": "adam", "schedule": "cosine"},
                                     {"optimiser": "adafactor"}, {"accumulate": 2, "fgm": 0.1}], ids=str)
def test_a_run_that_was_stopped_midway_ends_like_one_that_was_not(tmp_path: Path, changes: dict[str, Any]):
    told = small(**changes)
    whole = job(told)
    wanted = list(trainer.run(whole))
    first = trainer.run(job(told, tmp_path / "state"))
    stop = 7 if told.accumulate == 1 else 5
    for step in first:
        if step.done == stop:
            break
    first.close()
    again = job(told, tmp_path / "state")
    rest = list(trainer.run(again))
    assert losses_of(rest).keys() == set(range(stop, whole.total + 1))  # from the state of an even step on
    for done, loss in losses_of(rest).items():
        assert loss == pytest.approx(losses_of(wanted)[done], abs=1e-5)
    assert wanted[-1].held_out and wanted[-1].held_out == pytest.approx(rest[-1].held_out, abs=1e-5)
    assert torch.allclose(whole.net.words.weight, again.net.words.weight, atol=1e-5)
    assert losses_of(wanted)[whole.total] < losses_of(wanted)[1]


def test_a_finished_run_says_and_gives_its_best_again_without_a_step(tmp_path: Path):
    first = job(small(), tmp_path)
    steps = list(trainer.run(first))
    assert len(steps) == 15 + 3
    again = job(small(), tmp_path)
    said, = trainer.run(again)
    assert (said.done, said.loss, said.held_out) == (15, steps[-1].loss, min(step.held_out for step in steps if step.held_out))
    assert torch.equal(again.net.out.weight, first.net.out.weight)


def test_a_state_of_another_recipe_is_not_gone_on_from(tmp_path: Path):
    list(trainer.run(job(small(), tmp_path)))
    assert losses_of(list(trainer.run(job(small(learning_rate=0.04), tmp_path)))).keys() == set(range(1, 16))


def test_a_state_that_was_not_finished_does_not_count(tmp_path: Path):
    steps = trainer.run(job(small(), tmp_path))
    while next(steps).done < 5:
        pass
    steps.close()
    whole, = tmp_path.glob("checkpoint-*")
    (tmp_path / ".writing" / "checkpoint-6").mkdir(parents=True)  # as a kill in the middle of writing leaves it
    (tmp_path / ".writing" / "checkpoint-6" / "tuned.safetensors").write_bytes(b"half")
    assert whole.name == "checkpoint-4" and min(losses_of(list(trainer.run(job(small(), tmp_path))))) == 5


def test_closing_stops_the_trainer_at_the_step_it_is_at():
    watched = job(small(epochs=50))
    steps = trainer.run(watched)
    for _ in range(3):
        next(steps)
    steps.close()
    after = watched.net.words.weight.clone()
    assert not [thread for thread in threading.enumerate() if thread.name == "train"]
    assert torch.equal(after, watched.net.words.weight)


def test_work_waits_until_its_next_step_is_asked_for():
    reached = []

    def work(tell: Any) -> None:
        for i in range(3):
            reached.append(i)
            tell(i)

    steps = in_steps(work)
    assert next(steps) == 0 and reached == [0]
    assert list(steps) == [1, 2]


def test_an_error_of_the_loss_comes_out_of_the_generator():
    broken = job(small())
    broken.net.out = torch.nn.Linear(9, 3)
    with pytest.raises(RuntimeError, match="shape"):
        list(trainer.run(broken))


def test_training_stops_when_it_gets_no_better_and_gives_the_best_epoch():
    told, seen = iter([3.0, 2.0, 2.5, 2.6, 2.7, 2.8]), []
    net = Net()

    def held() -> float:
        seen.append(net.words.weight.detach().clone())
        return next(told)

    steps = list(trainer.run(job(small(epochs=6, patience=1), held=held, net=net)))
    assert [step.held_out for step in steps if step.held_out] == [3.0, 2.0, 2.5, 2.6]
    assert torch.equal(net.words.weight, seen[1]) and not torch.equal(seen[1], seen[3])


def test_what_was_best_before_a_stop_is_still_the_best_after_it(tmp_path: Path):
    net, seen = Net(), []

    def held_first() -> float:
        seen.append(net.words.weight.detach().clone())
        return 1.0

    first = trainer.run(job(small(), tmp_path, held_first, net))
    while next(first).done < 9:  # the first epoch has five steps
        pass
    first.close()
    again = job(small(), tmp_path, lambda: 2.0)
    list(trainer.run(again))
    assert torch.equal(again.net.words.weight, seen[0])


def test_a_loss_that_is_no_number_is_said():
    with pytest.raises(DataError, match="Lower learning_rate"):
        list(trainer.run(job(small(), held=lambda: float("nan"))))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("file", ["progress.json", "optimizer.pt", "trainer_state.json"])
def test_a_full_disk_in_mid_training_is_a_sentence_and_leaves_the_last_whole_state(tmp_path: Path, file: str):
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    steps = trainer.run(job(small(), state))
    while next(steps).done < 3:
        pass
    (elsewhere / "checkpoint-4").mkdir(parents=True)
    (elsewhere / "checkpoint-4" / file).symlink_to("/dev/full")
    (state / ".writing").rmdir()
    (state / ".writing").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="make room on the disk"):
        list(steps)
    assert [path.name for path in state.glob("checkpoint-*")] == ["checkpoint-2"]


def test_accumulated_batches_move_like_one_batch_of_their_size():
    plain = {"optimiser": "sgd", "epochs": 1, "schedule": "constant", "warmup": 0.0}
    one, two = job(small(batch=4, **plain), net=Net(0.0)), job(small(batch=2, accumulate=2, **plain), net=Net(0.0))
    steps = [list(trainer.run(each)) for each in (one, two)]
    assert losses_of(steps[0]) == pytest.approx(losses_of(steps[1]), abs=1e-6) and one.total == two.total == 5
    assert torch.allclose(one.net.words.weight, two.net.words.weight, atol=1e-6)


def test_bf16_computes_in_half_and_keeps_whole_weights():
    exact, half = job(small(bf16="off"), net=Net(0.0)), job(small(bf16="on"), net=Net(0.0))
    seen = []
    half.net.out.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype) if module.training else None)
    losses = [losses_of(list(trainer.run(each))) for each in (exact, half)]
    assert set(seen) == {torch.bfloat16} and half.net.out.weight.dtype == torch.float32
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


def test_adversarial_noise_changes_what_is_learned():
    plain, pushed = job(small(epochs=1), net=Net(0.0)), job(small(epochs=1, fgm=0.5), net=Net(0.0))
    first = [losses_of(list(trainer.run(each)))[1] for each in (plain, pushed)]
    assert first[0] == first[1]  # what is reported is the loss without noise
    assert not torch.allclose(plain.net.words.weight, pushed.net.words.weight, atol=1e-4)


def test_curves_are_written_where_tensorboard_reads_them(tmp_path: Path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    steps = list(trainer.run(job(small(report_to="tensorboard"), curves=tmp_path)))
    read = events.EventAccumulator(str(tmp_path))
    read.Reload()
    assert [event.step for event in read.Scalars("train/loss")] == list(range(1, 16))
    assert [event.value for event in read.Scalars("train/loss")] == pytest.approx(list(losses_of(steps).values()), rel=1e-5)
    assert [event.step for event in read.Scalars("held_out")] == [5, 10, 15]


@pytest.mark.parametrize(("changes", "wanted"), [
    ({"schedule": "constant", "warmup": 0.2}, {0: 0.5, 1: 1.0, 5: 1.0, 9: 1.0}),
    ({"schedule": "linear", "warmup": 0.2}, {0: 0.5, 1: 0.9, 5: 0.5, 9: 0.1}),
    ({"schedule": "inverse_time", "warmup": 0.0, "decay": 0.5}, {0: 1.0, 1: 1 / 1.5, 2: 0.5, 9: 1 / 5.5}),
    ({"schedule": "inverse_time", "warmup": 0.2, "decay": 0.5}, {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.5}),
    ({"schedule": "cosine", "warmup": 0.2}, {0: 0.5, 1: 1.0, 2: 1.0, 6: 0.525}),
], ids=lambda value: value.get("schedule") if isinstance(value, dict) else None)
def test_rates_run_as_their_formulas_say(changes: dict[str, Any], wanted: dict[int, float]):
    rate = optimisers.rate(small(**changes), 10)
    assert {step: rate(step) for step in wanted} == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor"])
def test_weight_decay_reaches_every_optimiser(name: str):
    def length(decay: float) -> float:
        weight = torch.nn.Parameter(torch.ones(4, 4))
        made = optimisers.make(small(optimiser=name, weight_decay=decay), [{"params": [weight], "lr": 0.05}])
        for _ in range(3):
            weight.grad = torch.full((4, 4), 1e-6)
            made.step()
        return float(weight.norm())

    assert length(0.5) < length(0.0)
