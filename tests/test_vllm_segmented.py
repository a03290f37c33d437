"""The products that the plugin for vLLM puts in the place of the stock op, beside a reference that takes token by token."""

import logging
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.vllm.segmented import LONG, Pack, apply, plan, register, segmented, unknown

ROOT = Path(__file__).parent.parent
SLOTS, HIGHEST, WIDE = 4, 16, 24  # slots, the rank that vLLM keeps room for, features that go in
SIZES = {"one": (40,), "qkv": (24, 8, 8), "gate_up": (48, 48)}
STEPS = {
    "one prompt": [2] * 50,
    "one token": [1],
    "one token without an adapter": [-1],
    "streams of one adapter": [3] * 9,
    "streams of all adapters": [0, 3, -1, 2, 1, 1, 0, -1, 3, 2, 0],
    "two streams, so that a product for each costs less": [0, -1, 3],
    "streams and two prompts": [-1, 0, 2, -1, 1] + [3] * 20 + [-1] * 30 + [0, 1] + [1] * 17 + [-1],
    "no adapter": [-1] * 40,
}


def weights(sizes: Sequence[int], ranks: Sequence[int], dtype: torch.dtype) -> tuple[tuple, tuple]:
    """A and B of every slice as vLLM keeps them: zeros past each slot's rank, and rank 0 for a slot with nothing in it."""
    a = tuple(torch.randn(SLOTS, 1, HIGHEST, WIDE).to(dtype) for _ in sizes)
    b = tuple(torch.randn(SLOTS, 1, size, HIGHEST).to(dtype) for size in sizes)
    for slot, rank in enumerate(ranks):
        for stack in a:
            stack[slot, 0, rank:] = 0
        for stack in b:
            stack[slot, 0, :, rank:] = 0
    return a, b


def by_token(y: torch.Tensor, x: torch.Tensor, a: tuple, b: tuple, step: list[int], scale: float) -> torch.Tensor:
    """What a LoRA layer is, in double precision: y + scale B A x with each token's own slot, nothing for -1."""
    out = y.double().clone()
    for token, slot in enumerate(step):
        offset = 0
        for lower, upper in zip(a, b):
            width = upper.shape[2]
            if slot >= 0:
                low = lower[slot, 0].double() @ x[token].double()
                out[token, offset:offset + width] += scale * (upper[slot, 0].double() @ low)
            offset += width
    return out


@pytest.mark.parametrize("dtype, near", [(torch.float32, 1e-4), (torch.bfloat16, 0.25)])  # values reach 100: bf16 keeps 8 bits
@pytest.mark.parametrize("slices", SIZES)
@pytest.mark.parametrize("name", STEPS)
def test_every_token_gets_its_own_adapter_and_no_other(name: str, slices: str, dtype: torch.dtype, near: float) -> None:
    torch.manual_seed(0)
    step, sizes = STEPS[name], SIZES[slices]
    a, b = weights(sizes, (16, 8, 3, 16), dtype)
    x, y = torch.randn(len(step), WIDE).to(dtype), torch.randn(len(step), sum(sizes)).to(dtype)
    expected = by_token(y, x, a, b, step, 0.5)
    bare = torch.tensor([slot < 0 for slot in step])
    before = y.clone()
    apply(y, x, Pack(a, b, dtype), plan(torch.tensor(step)), sizes, 0.5)
    torch.testing.assert_close(y.double(), expected, atol=near, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5)
    assert torch.equal(y[bare], before[bare])  # to the bit: a token without an adapter is the base's
    assert bare.all() or not torch.equal(y[~bare], before[~bare])


@pytest.mark.parametrize("where", ["a", "b"])
def test_a_broken_adapter_breaks_no_answer_but_its_own(where: str) -> None:
    torch.manual_seed(0)
    a, b = weights((24, 8, 8), (16, 8, 3, 16), torch.float32)
    step = [0, 1, -1, 2, 3, 1, 0, 2]
    x, own = torch.randn(len(step), WIDE), torch.tensor([slot == 1 for slot in step])
    whole = by_token(torch.zeros(len(step), 40), x, a, b, step, 1.0)
    {"a": a, "b": b}[where][0][1, 0, 0, 0] = torch.nan
    y = torch.zeros(len(step), 40)
    apply(y, x, Pack(a, b, torch.float32), plan(torch.tensor(step)), (24, 8, 8), 1.0)
    torch.testing.assert_close(y[~own].double(), whole[~own], atol=1e-4, rtol=1e-5)
    assert y[own].isnan().any(1).all()


def test_a_step_is_cut_into_runs_and_short_ones_are_taken_together() -> None:
    spans = plan(torch.tensor([-1, 0, -1, 2] + [1] * LONG + [-1] * LONG + [3])).spans
    assert [(span.start, span.end, [run.slot for run in span.runs]) for span in spans] == [
        (1, 4, [0, 2]), (4, 4 + LONG, [1]), (4 + 2 * LONG, 5 + 2 * LONG, [3])]
    assert spans[0].slots.tolist() == [0, -1, 2]
    assert [span.slots for span in spans[1:]] == [None, None]
    assert plan(torch.tensor([], dtype=torch.long)).spans == ()


def test_a_pack_leaves_out_the_padding_and_the_slots_with_nothing_in_them() -> None:
    torch.manual_seed(0)
    a, b = weights((24, 8), (16, 0, 3, 5), torch.float32)
    b[1][2] = 0  # in slot 2 the second slice has no adapter
    pack = Pack(a, b, torch.float32)
    assert pack.layout == ((0, 16, 16), (2, 3, 0), (3, 5, 5))
    assert {slot: tuple(lower.shape) for slot, (lower, _) in pack.slots.items()} == {0: (32, WIDE), 2: (3, WIDE), 3: (10, WIDE)}


@pytest.mark.parametrize("step", [[0, 1, 2, 3] * 3, [2] * 20])
def test_a_layer_that_no_adapter_changes_costs_nothing_and_stays(step: list[int]) -> None:
    a, b = weights((40,), (0, 0, 0, 0), torch.float32)
    y = torch.randn(len(step), 40)
    before = y.clone()
    apply(y, torch.randn(len(step), WIDE), Pack(a, b, torch.float32), plan(torch.tensor(step)), (40,), 1.0)
    assert torch.equal(y, before)


class Stock:
    """vLLM's wrapper as far as the plugin knows it: the same names and parameters, and products that say they were used."""

    def __init__(self) -> None:
        self.fell_back: list[str] = []

    @property
    def token_lora_indices(self) -> torch.Tensor:
        return self._indices[0]

    @property
    def sampler_indices(self) -> torch.Tensor:
        return self._indices[1]

    def update_metadata(self, mapping: Any, lora_index_to_id: list, max_loras: int, vocab_size: int, **kwargs: Any) -> None:
        self._indices = tuple(torch.tensor(part) for part in mapping)

    def add_lora_linear(self, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, output_slices: Any, *,
                        buffer: Any = None, **kwargs: Any) -> None:
        self.fell_back.append("linear")

    def add_lora_embedding(self, y: Any, x: Any, lora_b_stacked: Any, add_inputs: bool = True, **kwargs: Any) -> None:
        self.fell_back.append("embedding")

    def add_lora_logits(self, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, *, buffer: Any = None,
                        **kwargs: Any) -> None:
        self.fell_back.append("logits")


def wrapper(tokens: list[int], sampled: list[int]) -> Any:
    """The plugin's wrapper in the middle of a step."""
    made = segmented(Stock)()
    made.update_metadata((tokens, sampled), [], SLOTS, 0)
    return made


def test_the_wrapper_follows_its_step_and_a_slot_that_is_filled_anew_also_under_inference_mode() -> None:
    torch.manual_seed(0)
    a, b = weights((24, 8, 8), (16, 8, 3, 16), torch.float32)
    made, x = wrapper([2] * 20, [2]), torch.randn(20, WIDE)
    for step in ([2] * 20, [1, 0] * 10):
        made.update_metadata((step, [2]), [], SLOTS, 0)
        for _ in range(2):  # as it was, and with another adapter in slot 2 and 1
            with torch.inference_mode():
                y = torch.zeros(20, 40)
                made.add_lora_linear(y, x, a, b, 1.0, (24, 8, 8))
                torch.testing.assert_close(y.double(), by_token(torch.zeros(20, 40), x, a, b, step, 1.0), atol=1e-4, rtol=1e-5)
                for stack in (*a, *b):
                    for slot in (1, 2):
                        stack[slot] = 0
                        stack[slot, 0, :2, :2].copy_(torch.randn(2, 2))
    assert made.fell_back == []


def test_the_output_layer_goes_by_the_tokens_that_are_sampled_and_stops_at_the_end_of_a_padded_vocabulary() -> None:
    torch.manual_seed(0)
    a, b = weights((64,), (4, 4, 4, 4), torch.float32)
    x, y = torch.randn(3, WIDE), torch.zeros(3, 60)
    made = wrapper([0] * 30, [3, -1, 0])
    made.add_lora_logits(y, x, a[0], b[0], 1.0)
    expected = by_token(torch.zeros(3, 64), x, a, b, [3, -1, 0], 1.0)[:, :60]
    torch.testing.assert_close(y.double(), expected, atol=1e-4, rtol=1e-5)
    assert made.fell_back == []


@pytest.mark.parametrize("step", [[1] * 20, [0, 3, -1, 2, 0, 3], [-1, -1]])
def test_an_embedding_adds_what_its_rows_of_a_give(step: list[int]) -> None:
    torch.manual_seed(0)
    _, b = weights((40,), (16, 8, 3, 16), torch.float32)
    x = torch.randn(len(step), HIGHEST)
    y, made = torch.zeros(len(step), 40), wrapper(step, [])
    made.add_lora_embedding(y, x, b[0], add_input=True)
    expected = torch.stack([b[0][slot, 0] @ row if slot >= 0 else torch.zeros(40) for slot, row in zip(step, x)])
    torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-5)
    assert made.fell_back == []


def test_what_the_plugin_does_not_know_is_left_to_the_stock_op_untouched() -> None:
    a, b = weights((40,), (16, 8, 3, 16), torch.float32)
    y = torch.zeros(5, 40)
    fresh = segmented(Stock)()
    fresh.add_lora_linear(y, torch.randn(5, WIDE), a, b, 1.0, (40,))  # no step was announced
    made = wrapper([0] * 6, [0])
    made.add_lora_linear(y, torch.randn(5, WIDE), a, b, 1.0, (40,))  # not as many rows as tokens
    made.add_lora_embedding(y, torch.randn(5, HIGHEST), b[0], add_inputs=False)
    with torch.inference_mode():
        born = tuple(stack.clone() for stack in b)  # keeps no count of its changes
    made.add_lora_linear(torch.zeros(6, 40), torch.randn(6, WIDE), a, born, 1.0, (40,))
    assert (fresh.fell_back, made.fell_back) == (["linear"], ["linear", "embedding", "linear"])
    assert not y.any()


class Newer(Stock):
    """A later vLLM, where a name is gone and a product wants other things."""

    sampler_indices = None

    def add_lora_linear(self, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, output_slices: Any) -> None:
        """The scale is gone."""


def test_another_vllm_is_told_by_its_parameters() -> None:
    assert unknown(Stock) == []
    assert unknown(Newer) == ["sampler_indices", "add_lora_linear"]


@pytest.mark.parametrize("stock, is_cpu, then, told", [
    (Stock, True, "SegmentedPunicaWrapperCPU", ["LoRA uses segmented products in place of the stock op."]),
    (Stock, False, "Stock", []),
    (Newer, True, "Newer",
     ["LoRA stays with the stock op, which is slow on a CPU: this vLLM has another sampler_indices, add_lora_linear."]),
])
def test_the_wrapper_is_put_in_place_on_a_cpu_and_in_a_vllm_that_it_knows(
        stock: type, is_cpu: bool, then: str, told: list, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    names = ["vllm", "vllm.lora", "vllm.lora.punica_wrapper", "vllm.lora.punica_wrapper.punica_cpu", "vllm.platforms"]
    modules = {name: types.ModuleType(name) for name in names}
    cpu = modules["vllm.lora.punica_wrapper"].punica_cpu = modules["vllm.lora.punica_wrapper.punica_cpu"]
    cpu.PunicaWrapperCPU = stock
    modules["vllm.platforms"].current_platform = types.SimpleNamespace(is_cpu=lambda: is_cpu)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    with caplog.at_level(logging.INFO, "vllm.retune_cpu_lora"):
        register()
        placed = cpu.PunicaWrapperCPU
        assert (placed.__name__, [record.message for record in caplog.records]) == (then, told)
        register()
    assert cpu.PunicaWrapperCPU is placed  # vLLM may call a plugin more than once


def test_the_plugin_is_imported_with_nothing_but_the_standard_library() -> None:
    code = "import sys; import agent.vllm.segmented; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr  # -S: no installed package can be found at all
    assert {"agent", "logging"} <= set(done.stdout.split())
    assert logging.getLogger("vllm.retune_cpu_lora").handlers == []
