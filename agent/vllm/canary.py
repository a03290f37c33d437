"""Proof that a server answers with the bundle: log probabilities of fixed answers, there and in process.

`expect` computes them once with the reference engine, for the base and with the adapter; `judge` asks a server for the same
ones. What the base would have said is scored too: of its own words an adapter is sure whatever its scale, of those it is not.
A server that lacks the adapter answers like the base, one with another base like neither, damaged weights give no
numbers. Knows tokens, not domains.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from agent import weights
from agent.errors import BundleError, Rejected
from agent.generators.tokens import Tokens
from agent.models import BaseModel
from agent.types import Message
from agent.vllm.wire import Server

TOKENS = 16  # of each answer
AGREES = 0.9  # share of tokens that the server would have chosen too, greedily
APART = 0.1  # mean difference of log probabilities over an answer that rounding explains (bf16 beside float32), at most
SHARE = 0.2  # ... and this much of the way from base to adapter
EFFECT = 0.02  # an adapter that moves log probabilities by less cannot be told from the base


@dataclass(frozen=True, slots=True)
class Probe:
    """One prompt and an answer, with the log probability of each of its tokens by base and by adapter."""

    ids: list[int]
    answer: list[int]
    base: list[float]
    tuned: list[float]
    """As `base` where there is no adapter."""
    greedy: bool = True
    """Whether the answer is the adapter's own, or what the base says."""

    @property
    def effect(self) -> float:
        """Mean difference of log probabilities between adapter and base."""
        return _apart(self.tuned, self.base)


def expect(base: BaseModel, adapter: Path | None, prompts: Sequence[Sequence[Message]], threads: int) -> list[Probe]:
    """What the reference engine answers to each prompt, and the base to the first, with how sure it is; in float32.

    Raises BundleError if the adapter does not fit the base, is damaged, or changes nothing.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    tokens = Tokens(base.path)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()

    def scores(ids: list[int], answer: list[int]) -> list[float]:
        with torch.inference_mode():
            logits = model(torch.tensor([ids + answer])).logits[0, len(ids) - 1:-1]
        return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()

    plain = weights.read(base.path / "model.safetensors")
    merged = weights.merge(plain, adapter) if adapter else {}
    changed = {name: array for name, array in merged.items() if array is not plain[name]}

    def put(arrays: dict) -> None:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)

    def answer(ids: list[int]) -> list[int]:
        with torch.inference_mode():
            return model.generate(torch.tensor([ids]), max_new_tokens=TOKENS, do_sample=False)[0].tolist()[len(ids):]

    asked = [tokens.encode(messages) for messages in prompts]
    own = [(asked[0], answer(asked[0]))] if adapter else []
    put(changed)
    found = [(ids, answer(ids)) for ids in asked]
    tuned = [scores(*one) for one in (*found, *own)]
    put({name: plain[name] for name in changed})
    probes = [Probe(*one, scores(*one), after, number < len(found))
              for number, (one, after) in enumerate(zip((*found, *own), tuned, strict=True))]
    if adapter and effect(probes) < EFFECT:
        raise BundleError(f"{adapter} changes what the base answers by so little that nobody could tell which one answers; "
                          "train it for longer, or serve the base.")
    return probes


def effect(probes: Sequence[Probe]) -> float:
    """Mean difference of log probabilities between adapter and base, over all."""
    return _apart([value for probe in probes for value in probe.tuned], [value for probe in probes for value in probe.base])


def judge(server: Server, name: str, probes: Sequence[Probe]) -> dict[str, float]:
    """Ask the server for the same log probabilities: {"agreement", "apart", "effect"}.

    Raises Rejected if they are not finite or not those of this adapter on this base, EngineError if it cannot be asked.
    """
    told = [server.score(name, probe.ids, probe.answer) for probe in probes]
    values = [value for row in told for value, _ in row]
    tuned, base = [v for probe in probes for v in probe.tuned], [v for probe in probes for v in probe.base]
    if not all(math.isfinite(value) for value in values):
        raise Rejected(f"{server.url} answers with {name} by values that are not finite; restart that server, and choose "
                       "another version if it does so again.")
    agreement = fmean(rank == 1 for probe, row in zip(probes, told) if probe.greedy for _, rank in row)
    apart, moved = _apart(values, tuned), effect(probes)
    far = [probe for probe, row in zip(probes, told)
           if _apart([value for value, _ in row], probe.tuned) > max(APART, SHARE * probe.effect)]
    if moved > EFFECT and _apart(values, base) < apart:
        raise Rejected(f"{server.url} answers to {name} as the base does, without the adapter; restart that server.")
    if agreement < AGREES or far:
        raise Rejected(f"{server.url} answers to {name} otherwise than its weights do here (it would choose {agreement:.0%} of "
                       f"{len(values)} tokens; log probabilities differ by {apart:.2f}): it serves another base model. Start "
                       "it with the base that the bundle was tuned on.")
    return {"agreement": agreement, "apart": apart, "effect": moved}


def _apart(some: Sequence[float], others: Sequence[float]) -> float:
    return fmean(abs(a - b) for a, b in zip(some, others, strict=True))
