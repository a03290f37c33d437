"""LoRA on a CPU, as a general plugin of vLLM: plain products over runs of tokens, and no copy of the weights for each token.

Knows vLLM's wrapper of adapter products (`PunicaWrapperCPU`) and what a step is: an index of a slot for every token, -1 for
none. Knows nothing of bundles, domains or the rest of this package: it runs in vLLM's processes, where the other libraries of
this project are missing, and imports torch and vllm when it is called.

The stock op (vllm/lora/ops/torch_ops/lora_ops.py, 0.32) copies A and B once for every token, works through slots and layers
that hold nothing, and takes the index -1 for the last slot, so that a token without an adapter gets the last one's wherever
both meet in one step. Here a step is cut into runs once (`plan`), the weights of a layer are packed once for each change of
them (`Pack`: without the rows that pad an adapter to the highest rank), and a run costs one product with all of its A and one
with each B. Several short runs, as in a step that writes one token for each of many streams, are one product with the weights
of all slots, where a mask blots out the slots that a token does not have.
"""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LONG = 16  # tokens; from here on a run is worth products of its own
KNOWN = {
    "update_metadata": ("self", "mapping", "lora_index_to_id", "max_loras", "vocab_size", "kwargs"),
    "add_lora_linear": ("self", "y", "x", "lora_a_stacked", "lora_b_stacked", "scale", "output_slices", "buffer", "kwargs"),
    "add_lora_embedding": ("self", "y", "x", "lora_b_stacked", "add_inputs", "kwargs"),
    "add_lora_logits": ("self", "y", "x", "lora_a_stacked", "lora_b_stacked", "scale", "buffer", "kwargs"),
}
log = logging.getLogger("vllm.retune_cpu_lora")


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens of one slot: rows `start` to `end` (not included)."""

    slot: int
    start: int
    end: int


@dataclass(frozen=True)
class Span:
    """Neighbouring runs. Several short ones have `slots`, the index of every row (-1: none), and are worked on at once."""

    start: int
    end: int
    runs: tuple[Run, ...]
    slots: "torch.Tensor | None" = None


@dataclass(frozen=True)
class Plan:
    """What a step applies to which rows; `masks` holds those of mixed spans, made when the first layer asks for them."""

    tokens: int
    spans: tuple[Span, ...]
    masks: dict[tuple, "torch.Tensor"] = field(default_factory=dict)


def plan(indices: "torch.Tensor") -> Plan:
    """Cut the slots of a step's tokens, [tokens] of int64 with -1 for no adapter, into spans."""
    import torch

    slots, counts = torch.unique_consecutive(indices, return_counts=True)
    spans, short, start = [], [], 0
    for slot, count in zip(slots.tolist(), counts.tolist()):
        run = Run(slot, start, start := start + count)
        if count < LONG:
            short.append(run)
            continue
        spans += _together(short, indices)
        spans += _together([run], indices)
        short = []
    return Plan(len(indices), tuple(spans + _together(short, indices)))


def _together(runs: list[Run], indices: "torch.Tensor") -> list[Span]:
    """One span of these neighbours, or none where no adapter is asked for."""
    used = tuple(run for run in runs if run.slot >= 0)
    if not used:
        return []
    start, end = used[0].start, used[-1].end
    return [Span(start, end, used, indices[start:end].clone() if len(used) > 1 else None)]


class Pack:
    """The adapters of one layer, ready for plain products.

    Takes for each slice of the layer (q, k and v, say) A of [slots, 1, rank, in] and B of [slots, 1, out, rank], as vLLM keeps
    them; without A for an embedding. `slots` has, for each slot that changes anything, A of all slices one below the other,
    [ranks, in], and for each slice (B of [out, rank], its first and last column in `x @ A.T`).
    """

    def __init__(self, a: "tuple[torch.Tensor, ...]", b: "tuple[torch.Tensor, ...]", dtype: "torch.dtype"):
        self.sources, self.dtype, self.version = (*a, *b), dtype, versions(*a, *b)
        ranks = [_ranks(lower, upper) for lower, upper in zip(a or [None] * len(b), b)]
        self.slots: dict[int, tuple[torch.Tensor | None, list[tuple[torch.Tensor, int, int]]]] = {}
        for slot, used in enumerate(zip(*ranks)):
            if any(used):
                self.slots[slot] = self._of_slot(a, b, slot, used)
        self.layout = tuple((slot, *(last - first for _, first, last in parts)) for slot, (_, parts) in self.slots.items())
        self._all: tuple | None = None
        # 0 * NaN is NaN: with an adapter that is broken every run stays for itself, so that it breaks no answer but its own.
        self.mixable = bool(a) and all(bool(stack.isfinite().all()) for stack in b)

    def _of_slot(self, a: tuple, b: tuple, slot: int, used: tuple[int, ...]) -> tuple:
        import torch

        parts, first = [], 0
        for upper, rank in zip(b, used):
            parts.append((upper[slot, 0, :, :rank].to(self.dtype).contiguous(), first, first + rank))
            first += rank
        lower = [stack[slot, 0, :rank] for stack, rank in zip(a, used)]
        return (torch.cat(lower).to(self.dtype) if lower else None), parts

    def mixes(self, span: Span) -> bool:
        """Whether one product with all slots costs less than one for each run: where there are runs enough for the slots."""
        return span.slots is not None and self.mixable and 0 < len(self.layout) <= 2 * len(span.runs)

    def whole(self) -> tuple:
        """A of all slots, [ranks, in], in the order slice, slot; for each slice (B, first and last column); each row's slot."""
        import torch

        if self._all is None:
            lower, upper, owner, first = [], [], [], 0
            for piece in range(len(self.layout[0]) - 1):
                columns = []
                for slot, (a, parts) in self.slots.items():
                    b, start, end = parts[piece]
                    lower.append(a[start:end])
                    columns.append(b)
                    owner += [slot] * (end - start)
                upper.append((torch.cat(columns, 1), first, len(owner)))
                first = len(owner)
            self._all = torch.cat(lower), upper, torch.tensor(owner)
        return self._all


def versions(*stacks: "torch.Tensor") -> int:
    """A number that grows with every change that is made in place; vLLM fills a slot in no other way."""
    return sum(stack._version for stack in stacks)


def _ranks(a: "torch.Tensor | None", b: "torch.Tensor") -> list[int]:
    """For each slot the rank up to which A and B both have something in them; 0 for an empty one."""
    import torch

    some = (b != 0).any(2)[:, 0]  # [slots, rank]
    if a is not None:
        some = some & (a != 0).any(3)[:, 0]
    places = torch.arange(1, some.shape[1] + 1, device=some.device)
    return (some * places).amax(1).tolist()


def apply(y: "torch.Tensor", x: "torch.Tensor", pack: Pack, spans: Plan, sizes: tuple[int, ...], scale: float) -> None:
    """Add `scale * x @ A.T @ B.T` of every row's slot to y, [tokens, out], in place; `sizes` are the widths of the slices."""
    x = x.to(y.dtype)
    for number, span in enumerate(spans.spans):
        if pack.mixes(span):
            a, parts, owner = pack.whole()
            key = (number, pack.layout)
            if key not in spans.masks:
                spans.masks[key] = owner[None] != span.slots[:, None]
            low = (x[span.start:span.end] @ a.T).masked_fill_(spans.masks[key], 0)  # no product: inf * 0 is NaN
            _expand(y[span.start:span.end], low, parts, sizes, scale)
            continue
        for run in span.runs:
            if run.slot in pack.slots:
                a, parts = pack.slots[run.slot]
                rows = x[run.start:run.end]
                _expand(y[run.start:run.end], rows @ a.T if a is not None else rows, parts, sizes, scale)


def _expand(y: "torch.Tensor", low: "torch.Tensor", parts: list, sizes: tuple[int, ...], scale: float) -> None:
    offset = 0
    for (b, first, last), size in zip(parts, sizes):
        if last > first:
            width = min(b.shape[0], y.shape[1] - offset)  # of a vocabulary that is padded in one of the two
            y[:, offset:offset + width].addmm_(low[:, first:last], b[:width].T, alpha=scale)
        offset += size


def segmented(stock: type) -> type:
    """vLLM's wrapper for a CPU with the products of this file; what this file does not know is left to it."""

    class SegmentedPunicaWrapperCPU(stock):
        """`PunicaWrapperCPU` whose products go over runs of tokens."""

        def update_metadata(self, mapping: Any, lora_index_to_id: list, max_loras: int, vocab_size: int, **kwargs: Any) -> None:
            """Once for every step: read which token has which slot."""
            super().update_metadata(mapping, lora_index_to_id, max_loras, vocab_size, **kwargs)
            self._tokens, self._sampled = plan(self.token_lora_indices), plan(self.sampler_indices)

        def add_lora_linear(self, y: Any, x: Any, lora_a_stacked: tuple, lora_b_stacked: tuple, scale: float,
                            output_slices: tuple, *, buffer: Any = None, **kwargs: Any) -> None:
            """One linear layer, or several that vLLM has made one, each with its slice of y."""
            if not self._add(y, x, lora_a_stacked, lora_b_stacked, output_slices, scale, "_tokens"):
                super().add_lora_linear(y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, buffer=buffer, **kwargs)

        def add_lora_embedding(self, y: Any, x: Any, lora_b_stacked: Any, add_inputs: bool = True, **kwargs: Any) -> None:
            """The embedding: x is already each token's row of A."""
            if not add_inputs or not self._add(y, x, (), (lora_b_stacked,), (y.shape[-1],), 1.0, "_tokens"):
                super().add_lora_embedding(y, x, lora_b_stacked, add_inputs, **kwargs)

        def add_lora_logits(self, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, *,
                            buffer: Any = None, **kwargs: Any) -> None:
            """The output layer, for the tokens that are sampled from."""
            if not self._add(y, x, (lora_a_stacked,), (lora_b_stacked,), (y.shape[-1],), scale, "_sampled"):
                super().add_lora_logits(y, x, lora_a_stacked, lora_b_stacked, scale, buffer=buffer, **kwargs)

        def _add(self, y: Any, x: Any, a: tuple, b: tuple, sizes: tuple, scale: float, which: str) -> bool:
            """Whether it is done; False, with nothing touched, for shapes and weights that only the stock op knows."""
            spans = getattr(self, which, None)
            y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
            if spans is None or not spans.tokens == len(x) == len(y) or b[0].is_inference():
                return False
            if spans.spans:
                apply(y, x, self._pack(a, b, y.dtype), spans, sizes, scale)
            return True

        def _pack(self, a: tuple, b: tuple, dtype: Any) -> Pack:
            """The packed weights of a layer, made anew when vLLM has changed them; a Pack keeps its sources, so ids stay."""
            packs = self.__dict__.setdefault("_packs", {})
            pack = packs.get(id(b[0]))
            if pack is None or pack.version != versions(*a, *b) or pack.dtype != dtype:
                pack = packs[id(b[0])] = Pack(a, b, dtype)
            return pack

    return SegmentedPunicaWrapperCPU


def unknown(stock: type) -> list[str]:
    """What this vLLM has otherwise than the one that the plugin was written for; empty: nothing."""
    import inspect

    wrong = [name for name in ("token_lora_indices", "sampler_indices") if not isinstance(getattr(stock, name, None), property)]
    for name, parameters in KNOWN.items():
        method = getattr(stock, name, None)
        if method is None or tuple(inspect.signature(method).parameters) != parameters:
            wrong.append(name)
    return wrong


def register() -> None:
    """Put the wrapper in the place of vLLM's own, on a CPU alone; where vLLM has changed, say so and leave it as it is."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.punica_wrapper import punica_cpu

    stock = punica_cpu.PunicaWrapperCPU
    if stock.__name__ == "SegmentedPunicaWrapperCPU":  # vLLM may load a plugin more than once
        return
    if wrong := unknown(stock):
        log.warning("LoRA stays with the stock op, which is slow on a CPU: this vLLM has another %s.", ", ".join(wrong))
        return
    punica_cpu.PunicaWrapperCPU = segmented(stock)
    log.info("LoRA uses segmented products in place of the stock op.")
