"""vLLM asked plainly, as if there were no agent: the other side of every comparison, and weights made for speed alone.

Knows the server's chat route and the shapes of a Llama; nothing about domains or turns.
"""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2
import numpy as np

from agent.types import Message

# hidden, layers, heads, heads of keys and values, inner: Llamas of about that many parameters with SmolLM2's vocabulary
SIZES = {"0.1B": (576, 30, 9, 3, 1536), "1B": (2048, 16, 32, 8, 8192), "2B": (2560, 24, 20, 4, 8192),
         "4B": (3072, 38, 24, 8, 8192)}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and its times, in seconds from the question on."""

    began: float
    """time.perf_counter() at the question."""
    first: float
    whole: float
    text: str
    tokens: int


class Plain:
    """`chat` sends a prompt and reads the stream, as briefly as httpx2 can; connections are kept, which the agent does not."""

    def __init__(self, url: str, key: str) -> None:
        head = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.AsyncClient(base_url=url, headers=head, timeout=600, trust_env=False,
                                          limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def chat(self, model: str, messages: Sequence[Message], tokens: int, salt: str = "", exact: bool = False) -> Answer:
        """A greedy answer of at most so many tokens; with `exact` of just so many.

        salt: prompts of one salt share the server's prefix cache with each other and with no others.
        """
        body: dict[str, Any] = {"model": model, "messages": list(messages), "max_tokens": tokens, "temperature": 0.0,
                                "stream": True, "stream_options": {"include_usage": True}}
        body |= ({"cache_salt": salt} if salt else {}) | ({"ignore_eos": True} if exact else {})
        began, first, text, count = time.perf_counter(), 0.0, "", 0
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as came:
            if came.status_code != 200:
                raise RuntimeError(f"the server says {came.status_code}: {(await came.aread())[:300]!r}")
            async for line in came.aiter_lines():
                if not line.startswith("data:") or line == "data: [DONE]":
                    continue
                table = json.loads(line[5:])
                if table.get("model") != model:  # another adapter's words, or an error in mid-answer
                    raise RuntimeError(f"{model} was asked and the server says {line[:300]}")
                piece = table["choices"][0]["delta"].get("content") or "" if table["choices"] else ""
                if piece and not first:
                    first = time.perf_counter() - began
                text += piece
                count = (table.get("usage") or {}).get("completion_tokens") or count
        whole = time.perf_counter() - began
        return Answer(began, first or whole, whole, text, count)


async def side_by_side(jobs: Iterable[Callable[[], Awaitable[Any]]], streams: int) -> tuple[list[Any], float]:
    """Do the jobs, so many at once; their results in order, and the seconds from the first question to the last answer."""
    waiting, done = list(enumerate(jobs)), {}
    waiting.reverse()

    async def work() -> None:
        while waiting:
            number, job = waiting.pop()
            done[number] = await job()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(streams)))
    return [done[number] for number in sorted(done)], time.perf_counter() - began


def make_base(size: str, tokenizer: Path, out: Path) -> Path:
    """Random weights in bf16 (a server's speed depends on shapes alone), with the tokenizer of a model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, heads, key_heads, inner = SIZES[size]
    told = json.loads((tokenizer / "config.json").read_text(encoding="utf-8"))
    config = LlamaConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=key_heads,
                         intermediate_size=inner, vocab_size=told["vocab_size"], tie_word_embeddings=True,
                         max_position_embeddings=8192, bos_token_id=told["bos_token_id"], eos_token_id=told["eos_token_id"],
                         pad_token_id=told["pad_token_id"], dtype=torch.bfloat16)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        LlamaForCausalLM(config).save_pretrained(out)
    finally:
        torch.set_default_dtype(before)
    for file in TOKENIZER:
        if (tokenizer / file).is_file():
            shutil.copyfile(tokenizer / file, out / file)
    return out


def make_adapter(base: Path, rank: int, seed: int, out: Path) -> Path:
    """A random LoRA adapter for all linear layers of a Llama folder, too faint to matter for what is said."""
    from safetensors.numpy import save_file

    told = json.loads((base / "config.json").read_text(encoding="utf-8"))
    hidden, inner, heads = told["hidden_size"], told["intermediate_size"], told["num_attention_heads"]
    width = told.get("head_dim") or hidden // heads
    queries, keys = heads * width, told.get("num_key_value_heads", heads) * width
    shapes = {"self_attn.q_proj": (hidden, queries), "self_attn.k_proj": (hidden, keys), "self_attn.v_proj": (hidden, keys),
              "self_attn.o_proj": (queries, hidden), "mlp.gate_proj": (hidden, inner), "mlp.up_proj": (hidden, inner),
              "mlp.down_proj": (inner, hidden)}
    drawn, tensors = np.random.default_rng(seed), {}
    for layer in range(told["num_hidden_layers"]):
        for name, (into, from_) in shapes.items():
            key = f"base_model.model.model.layers.{layer}.{name}.lora_"
            tensors[f"{key}A.weight"] = drawn.normal(0, 0.01, (rank, into)).astype(np.float16)
            tensors[f"{key}B.weight"] = drawn.normal(0, 0.01, (from_, rank)).astype(np.float16)
    out.mkdir(parents=True)
    save_file(tensors, out / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "bias": "none",
              "target_modules": sorted(name.partition(".")[2] for name in shapes), "base_model_name_or_path": "",
              "inference_mode": True}
    (out / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return out


def linked(source: Path, out: Path) -> Iterator[Path]:
    """Folder after folder with the same adapter: to a server each is another one."""
    shutil.rmtree(out, ignore_errors=True)
    number = 0
    while True:
        folder = out / f"{number:04}"
        folder.mkdir(parents=True)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            try:
                os.link(source / file, folder / file)
            except OSError:  # another file system
                shutil.copyfile(source / file, folder / file)
        yield folder
        number += 1
