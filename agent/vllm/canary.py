"""Proof that a server answers with the bundle: greedy answers to fixed prompts and how sure it is of each token, there and here.

`expect` computes them once with the reference engine, for the base and with the adapter; `judge` asks a server for the same
ones. Some answers begin with what the base would have said: of its own words an adapter is sure whatever its scale, there it
is not. A server that lacks the adapter answers like the base, one with another base like neither, damaged weights give no
numbers. Knows tokens, not domains.
"""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from agent import weights
from agent.errors import BundleError, Rejected
from agent.generators.tokens import Tokens
from agent.models import BaseModel
from agent.types import Message
from agent.vllm.wire import Server

TOKENS = 8  # of each answer at most
BEGUN = 4  # ... that the base has said before
MARGIN = 0.3  # an answer ends before a token that another one nearly beats: rounding may choose that one (log probability)
AGREES = 0.9  # share of tokens that the server has to choose too
APART = 0.1  # mean difference of log probabilities over an answer that rounding explains (bf16 beside float32), at most
SHARE = 0.2  # ... and this much of the way from base to adapter
EFFECT = 0.02  # an adapter that moves log probabilities by less cannot be told from the base


@dataclass(frozen=True, slots=True)
class Probe:
    """Tokens, the greedy answer to them, and the log probability of each of its tokens by base and by adapter."""

    ids: list[int]
    answer: list[int]
    base: list[float]
    tuned: list[float]
    """As `base` where there is no adapter."""
    plain: tuple[int, ...] = ()
    """What the base answers; empty where that is not known."""

    @property
    def effect(self) -> float:
        """Mean difference of log probabilities between adapter and base."""
        return _apart(zip(self.tuned, self.base, strict=True))


def expect(base: BaseModel, adapter: Path | None, prompts: Sequence[Sequence[Message]], threads: int) -> list[Probe]:
    """What the reference engine answers to each prompt, and to the first once more where the base has begun; in float32.

    Raises BundleError if the adapter does not fit the base, is damaged, or changes nothing.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    tokens = Tokens(base.path)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    plain = weights.read(base.path / "model.safetensors")
    merged = weights.merge(plain, adapter) if adapter else {}
    changed = {name: array for name, array in merged.items() if array is not plain[name]}

    def put(arrays: dict) -> None:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)

    def chances(ids: list[int], answer: list[int]) -> "torch.Tensor":
        with torch.inference_mode():
            return model(torch.tensor([ids + answer])).logits[0, len(ids) - 1:-1].log_softmax(-1)

    def scores(ids: list[int], answer: list[int]) -> list[float]:
        return chances(ids, answer).gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()

    def answer(ids: list[int]) -> list[int]:
        """Without what rounding could turn; one token at least."""
        with torch.inference_mode():
            whole = model.generate(torch.tensor([ids]), max_new_tokens=TOKENS, do_sample=False)[0].tolist()[len(ids):]
        first, second = chances(ids, whole).topk(2).values.T
        return whole[:max(1, next((i for i, gap in enumerate((first - second).tolist()) if gap < MARGIN), len(whole)))]

    asked = [tokens.encode(messages) for messages in prompts]
    if adapter:
        asked.append(asked[0] + answer(asked[0])[:BEGUN])
    said = [answer(ids) for ids in asked]
    put(changed)
    found = [(ids, answer(ids)) for ids in asked]
    tuned = [scores(*one) for one in found]
    put({name: plain[name] for name in changed})
    probes = [Probe(*one, scores(*one), after, tuple(own)) for one, after, own in zip(found, tuned, said, strict=True)]
    if adapter and effect(probes) < EFFECT:
        raise BundleError(f"{adapter} changes what the base answers by so little that nobody could tell which one answers; "
                          "train it for longer, or serve the base.")
    return probes


def effect(probes: Sequence[Probe]) -> float:
    """Mean difference of log probabilities between adapter and base, over all."""
    return _apart(pair for probe in probes for pair in zip(probe.tuned, probe.base, strict=True))


def judge(server: Server, name: str, probes: Sequence[Probe]) -> dict[str, float]:
    """Ask the server for the same answers: {"agreement", "apart", "effect"}.

    Raises Rejected if they are not those of this adapter on this base, or not finite, EngineError if it cannot be asked.
    """
    with ThreadPoolExecutor(len(probes), thread_name_prefix="canary") as pool:  # one batch there takes as long as one alone
        told = list(pool.map(lambda probe: server.score(name, probe.ids, probe.answer), probes))
    if not all(math.isfinite(value) for row in told for value in row):
        raise Rejected(f"{server.url} answers with {name} by values that are not finite; restart that server, and choose "
                       "another version if it does so again.")
    agreement = sum(map(len, told)) / sum(len(probe.answer) for probe in probes)
    apart = _apart(pair for probe, row in zip(probes, told, strict=True) for pair in zip(row, probe.tuned))
    from_base = _apart(pair for probe, row in zip(probes, told, strict=True) for pair in zip(row, probe.base))
    moved = effect(probes)
    far = [probe for probe, row in zip(probes, told, strict=True)
           if _apart(zip(row, probe.tuned)) > max(APART, SHARE * probe.effect)]
    if agreement >= AGREES and not far:
        return {"agreement": agreement, "apart": apart, "effect": moved}
    if moved > EFFECT and (from_base < apart or _is_plain(server, name, probes)):
        raise Rejected(f"{server.url} answers to {name} as the base does, without the adapter; restart that server.")
    raise Rejected(f"{server.url} answers to {name} otherwise than its weights do here ({agreement:.0%} of the tokens are the "
                   f"same; log probabilities differ by {apart:.2f}): it serves another base model. Start it with the base that "
                   "the bundle was tuned on.")


def _is_plain(server: Server, name: str, probes: Sequence[Probe]) -> bool:
    """Whether it says what the base says wherever that is not what the adapter says."""
    differing = [probe for probe in probes if probe.plain and list(probe.plain) != probe.answer[:len(probe.plain)]]
    return bool(differing) and all(len(server.score(name, probe.ids, probe.plain)) == len(probe.plain) for probe in differing)


def _apart(pairs: Iterable[tuple[float, float]]) -> float:
    """Mean difference of what stands in pairs; 0 of none."""
    return fmean([abs(one - other) for one, other in pairs] or [0.0])
