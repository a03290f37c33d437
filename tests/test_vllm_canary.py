"""A server is believed when it scores fixed answers as the weights do here, and not when it lacks them, or has others."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import save_file

from agent import prompt
from agent.domain import Domain
from agent.errors import BundleError, Rejected
from agent.models import BaseModel
from agent.types import Message
from agent.vllm import canary
from agent.vllm.adapters import FILES
from agent.vllm.canary import Probe, effect, expect, judge


class Scored:
    """A server whose models are real and here: each is a base with an adapter or without, in the given precision."""

    url = "http://10.0.0.1:8000"

    def __init__(self, base: BaseModel, part: Path | None = None, kind: str = "float32") -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
        if part:
            model = PeftModel.from_pretrained(model, part)
        self.model = model.to(getattr(torch, kind)).eval()

    def score(self, model: str, ids: Sequence[int], answer: Sequence[int]) -> list[float]:
        """As vLLM gives them: of each token of the answer that it chooses too, up to the first other one."""
        import torch

        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([[*ids, *answer]])).logits[0, len(ids) - 1:-1].float()
        told = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()
        same = logits.argmax(-1) == torch.tensor(answer)
        return told[:int(same.long().cumprod(0).sum())] if logits.isfinite().all() else [float("nan")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """Two layers, 32 wide."""
    return tiny.base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def part(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of rank 8, by PEFT itself."""
    return tiny.adapter(base, tmp_path_factory.mktemp("adapter") / "generator")


@pytest.fixture(scope="module")
def prompts() -> list[list[Message]]:
    """Those of a real domain."""
    domain = Domain.load("customer_service")
    return [prompt.render(domain, [], (), question) for question in domain.examples[:3]]


@pytest.fixture(scope="module")
def probes(base: BaseModel, part: Path, prompts: list[list[Message]]) -> list[Probe]:
    """Of the base with the adapter."""
    return expect(base, part, prompts, 1)


def test_probes_are_answers_of_both_models_and_these_differ_in_them(probes: list[Probe]) -> None:
    assert len(probes) == 4 and probes[3].ids[:len(probes[0].ids)] == probes[0].ids != probes[3].ids
    assert all(1 <= len(probe.answer) <= canary.TOKENS for probe in probes)
    assert all(len(probe.answer) == len(probe.base) == len(probe.tuned) for probe in probes)
    assert all(value <= 0 for probe in probes for value in (*probe.base, *probe.tuned)) and effect(probes) > 10 * canary.EFFECT


def test_the_right_adapter_passes_and_is_as_near_as_float32_is(base: BaseModel, part: Path, probes: list[Probe]) -> None:
    found = judge(Scored(base, part), "finance@0001", probes)
    assert found["agreement"] == 1 and found["apart"] < 1e-3 and found["effect"] == effect(probes)


def test_the_rounding_of_bfloat16_passes(base: BaseModel, part: Path, probes: list[Probe]) -> None:
    found = judge(Scored(base, part, "bfloat16"), "finance@0001", probes)
    assert 1e-4 < found["apart"] < canary.SHARE * found["effect"] and found["agreement"] >= canary.AGREES


def test_a_server_without_the_adapter_is_told_apart(base: BaseModel, probes: list[Probe]) -> None:
    for kind in ("float32", "bfloat16"):
        with pytest.raises(Rejected, match="without the adapter; restart that server"):
            judge(Scored(base, None, kind), "finance@0001", probes)


def test_a_server_with_another_base_is_told_apart(base: BaseModel, part: Path, probes: list[Probe], tmp_path: Path) -> None:
    other = tiny.base(tmp_path / "other", seed=9)
    with pytest.raises(Rejected):
        judge(Scored(other, part), "finance@0001", probes)
    plain = [Probe(probe.ids, probe.answer, probe.tuned, probe.tuned) for probe in probes]  # as where there is no adapter
    with pytest.raises(Rejected, match="another base model. Start it with the base"):
        judge(Scored(other), "smollm2", plain)


def test_another_adapter_of_the_same_base_is_told_apart(base: BaseModel, probes: list[Probe], tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        judge(Scored(base, tiny.adapter(base, tmp_path / "other", seed=7)), "finance@0001", probes)


@pytest.mark.parametrize("wrong", [{"lora_alpha": 16}, {"lora_alpha": 3}, {"use_rslora": True}])
def test_another_scale_of_the_same_weights_is_told_apart(wrong: dict, base: BaseModel, part: Path, probes: list[Probe],
                                                         tmp_path: Path) -> None:
    import json

    shutil.copytree(part, tmp_path / "scaled")
    config = json.loads((part / FILES[0]).read_text(encoding="utf-8")) | wrong
    (tmp_path / "scaled" / FILES[0]).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(Rejected):
        judge(Scored(base, tmp_path / "scaled"), "finance@0001", probes)


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf")])
def test_one_value_that_is_not_finite_is_refused(value: float, place: int, base: BaseModel, part: Path,
                                                 probes: list[Probe]) -> None:
    right, seen, one_at_a_time = Scored(base, part), [], threading.Lock()

    class Bad:
        url = "http://10.0.0.2:8000"

        def score(self, model: str, ids: Sequence[int], answer: Sequence[int]) -> list[float]:
            with one_at_a_time:
                seen.extend(found := right.score(model, ids, answer))
                begin = len(seen) - len(found)
            return [value if begin + number == place else said for number, said in enumerate(found)]

    with pytest.raises(Rejected, match="not finite; restart that server"):
        judge(Bad(), "finance@0001", probes)
    assert len(seen) > place


def test_weights_that_are_not_finite_are_refused_before_any_server(base: BaseModel, part: Path,
                                                                   prompts: list[list[Message]], tmp_path: Path) -> None:
    shutil.copytree(part, tmp_path / "nan")
    table = tiny.tensors(part / FILES[1])
    key = sorted(table)[0]
    save_file(table | {key: np.full_like(table[key], np.nan)}, tmp_path / "nan" / FILES[1])
    with pytest.raises(BundleError, match="not finite"):
        expect(base, tmp_path / "nan", prompts, 1)


@pytest.mark.parametrize("strength", [0.0, 1e-5])
def test_an_adapter_without_effect_is_refused(strength: float, base: BaseModel, prompts: list[list[Message]],
                                              tmp_path: Path) -> None:
    weak = tiny.adapter(base, tmp_path / "weak", strength=strength)
    with pytest.raises(BundleError, match="nobody could tell which one answers; train it for longer"):
        expect(base, weak, prompts, 1)


def test_what_is_expected_with_the_adapter_does_not_depend_on_the_order(base: BaseModel, part: Path, probes: list[Probe],
                                                                        prompts: list[list[Message]]) -> None:
    plain = expect(base, None, prompts, 1)
    assert all(probe.base == probe.tuned for probe in plain)
    assert expect(base, part, prompts[::-1], 1)[:3] == probes[2::-1]
    found = judge(Scored(base), "smollm2", plain)
    assert found["agreement"] == 1 and found["effect"] == 0 and found["apart"] < 1e-3
