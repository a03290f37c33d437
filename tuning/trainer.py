"""One loop for both parts: transformers.Trainer in a thread of its own, seen from outside as a generator of steps.

Knows batches, epochs, the best held-out loss and the trainer's states; nothing about texts or what is tuned.
"""

import bisect
import hashlib
import importlib.util
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.errors import DataError
from tuning import losses, methods, optimisers, states
from tuning.recipe import PartRecipe
from tuning.states import Progress
from tuning.steps import TrainStep, device_of, in_steps


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained, on what, and how."""

    stage: str
    """router or generator."""
    net: Any
    """A torch module whose forward(**batch) gives the loss."""
    tuned: Any
    """The model in it, as `methods.apply` made it."""
    groups: list[dict[str, Any]]
    """{"params", "lr"}: what moves, and at which rate."""
    epochs: Sequence[Sequence[Any]]
    """The batches of each epoch, before they are tensors."""
    collate: Callable[[Any], dict[str, Any]]
    held_out: Callable[[], float] | None
    """Loss on the held-out rows; the net is in evaluation mode, without gradients. None: the last epoch is the best."""
    recipe: PartRecipe
    seed: int
    threads: int
    state: Path | None = None
    """Where the trainer's states lie; a run that finds one of the same recipe and rows goes on from it."""
    curves: Path | None = None
    """Where TensorBoard's files go if the recipe asks for them."""

    @property
    def total(self) -> int:
        """Steps of the optimiser in all."""
        return steps_of(self.epochs, self.recipe)


def steps_of(epochs: Sequence[Sequence[Any]], recipe: PartRecipe) -> int:
    """Steps of the optimiser over all epochs; the last may hold fewer batches."""
    return math.ceil(sum(map(len, epochs)) / recipe.accumulate)


def run(job: Job) -> Iterator[TrainStep]:
    """Train; yields steps, one more with the held-out loss after every epoch. Afterwards the net is that of the best epoch.

    A run that goes on says first how far it was, with the best held-out loss so far.

    The same recipe, rows and seed give the same steps on a CPU, whole or resumed. Under several processes no state is
    kept. Raises DataError if the loss never was a number, StoreError if a state cannot be written.
    """
    if job.recipe.report_to and not importlib.util.find_spec("tensorboard"):
        raise DataError("report_to = 'tensorboard' needs that package; install it, or leave report_to empty.")
    progress = Progress()
    last = states.last(job.state, _key(job)) if job.state else None
    if last:
        progress.read(last)
        if progress.kept:
            yield TrainStep(job.stage, bisect.bisect_left(_ends(job), progress.done), progress.done, job.total, progress.loss,
                            progress.best if job.held_out else None)
    if not progress.finished:
        yield from in_steps(lambda tell: _train(job, progress, last, tell))
    if not progress.kept:
        raise DataError(f"The {job.stage}'s held-out loss never was a number: training went astray. Lower learning_rate.")
    states.put(job.net, progress.kept)


def _train(job: Job, progress: Progress, last: Path | None, tell: Callable[[Any], None]) -> None:
    """In the trainer's own thread."""
    import torch

    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)  # moments of what has no gradient fade to numbers that cost a processor ten times as much
    with tempfile.TemporaryDirectory() as folder:
        _trainer(job, progress, tell, Path(folder)).train(resume_from_checkpoint=str(last) if last else None)


def _trainer(job: Job, progress: Progress, tell: Callable[[Any], None], scratch: Path) -> Any:
    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.integrations import TensorBoardCallback

    recipe, device = job.recipe, device_of(torch)
    half = recipe.bf16 == "on" or (recipe.bf16 == "auto" and device == "cuda")
    ends = _ends(job)
    adversary = losses.Adversary(job.tuned.get_input_embeddings(), recipe.fgm) if recipe.fgm else None

    class Tuner(Trainer):
        """Our batches in our order, our loss, our optimiser; whole states, or none."""

        def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
            with torch.autocast(device, torch.bfloat16, enabled=half):
                return model(**inputs)

        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
            if adversary is None:
                return super().training_step(model, inputs, num_items_in_batch)
            with adversary.watching():
                loss = super().training_step(model, inputs, num_items_in_batch)
            with adversary.pushing():
                super().training_step(model, inputs, num_items_in_batch)
            return loss

        def create_optimizer(self, model: Any = None) -> Any:
            self.optimizer = optimisers.make(recipe, job.groups)
            return self.optimizer

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, optimisers.rate(recipe, job.total))
            return self.lr_scheduler

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)  # the plan is mixed already

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log(logs, start_time)
            self.state.log_history.clear()  # else it would grow with every step, and every state with it

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            progress.write(Path(output_dir), job.net, methods.allocator(job.tuned))

        def _load_from_checkpoint(self, folder: str, model: Any = None) -> None:
            states.put(job.net, states.tensors(Path(folder), "now"))
            methods.set_allocator(job.tuned, states.tensors(Path(folder), "more"))

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            write = super()._save_checkpoint
            states.publish(job.state, self.state.global_step, lambda: write(model, trial))

        def _get_output_dir(self, trial: Any) -> str:
            return str(states.scratch(job.state) if job.state else scratch)

    class Watch(TrainerCallback):
        """Tells the steps, measures after every epoch, keeps the best, stops early."""

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            methods.allocate(job.tuned, state.global_step + 1)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" not in logs:  # the summary at the end
                return
            done, loss = progress.done, progress.loss = state.global_step, logs["loss"]
            epoch = bisect.bisect_left(ends, done)
            tell(TrainStep(job.stage, epoch, done, job.total, loss))
            if done not in ends:
                return
            job.net.eval()
            with torch.no_grad():
                held = job.held_out() if job.held_out else None
            if held is None or held < progress.best:
                progress.best, progress.worse = progress.best if held is None else held, 0
                progress.keep(job.net)
            else:
                progress.worse += 1
            if curves and held is not None:
                curves.tb_writer.add_scalar("held_out", held, done)
            tell(TrainStep(job.stage, epoch, done, job.total, loss, held))
            progress.finished = done == job.total or progress.worse > recipe.patience
            if progress.finished and done < job.total:
                control.should_training_stop, control.should_save = True, bool(job.state)

    many = int(os.environ.get("WORLD_SIZE", "1")) > 1
    args = TrainingArguments(
        output_dir=str(scratch), num_train_epochs=1, per_device_train_batch_size=1, max_grad_norm=1.0, seed=job.seed,
        gradient_accumulation_steps=recipe.accumulate, use_cpu=device == "cpu", save_steps=recipe.save_every,
        save_strategy="steps" if job.state and not many else "no", logging_steps=1, disable_tqdm=True, report_to="none",
        remove_unused_columns=False, dataloader_pin_memory=device == "cuda")
    args._n_gpu = min(1, args.n_gpu)  # several GPUs by several processes, never by torch's DataParallel
    batches = [batch for epoch in job.epochs for batch in epoch]
    trainer = Tuner(model=job.net, args=args, train_dataset=batches, data_collator=lambda items: job.collate(items[0]),
                    callbacks=[Watch()])
    trainer.remove_callback(PrinterCallback)
    curves = None
    if recipe.report_to:
        from torch.utils.tensorboard import SummaryWriter

        curves = TensorBoardCallback(SummaryWriter(str(job.curves or scratch)))
        trainer.add_callback(curves)
    return trainer


def _ends(job: Job) -> list[int]:
    """The step at which each epoch ends."""
    return [math.ceil(count / job.recipe.accumulate) for count in itertools.accumulate(map(len, job.epochs))]


def _key(job: Job) -> str:
    """Names this very run: recipe, seed, base and rows."""
    words = float(job.tuned.get_input_embeddings().weight.detach().double().sum())
    shapes = [(name, tuple(value.shape)) for name, value in states.moving(job.net)]
    said = repr((asdict(job.recipe), job.seed, words, shapes, [len(epoch) for epoch in job.epochs], list(job.epochs[0])))
    return hashlib.sha256(said.encode()).hexdigest()
