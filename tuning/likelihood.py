"""How likely a model finds a text that somebody else wrote: one forward pass, nothing is generated.

Knows tokens and adapters; what a likelihood is used for (perplexity, the frozen general set) is the caller's.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.generators.tokens import Tokens
from agent.models import BaseModel
from agent.types import Message

GENERAL = Path(__file__).with_name("general.jsonl")
"""The frozen general set: {"id", "prompt", "answer"}; never trained on, never changed without a new name."""


def general_rows(file: Path = GENERAL) -> list[dict[str, str]]:
    """Rows of the frozen general set."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def general_hash(file: Path = GENERAL) -> str:
    """sha256 of the set; a report names it, so that scores of different sets are never compared."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def general_scores(base: BaseModel, adapter: Path | None, rows: Sequence[Mapping[str, str]], threads: int) -> list[float]:
    """exp of the mean log-likelihood a token of each row's answer, 0 to 1: the chance to say it, word by word."""
    asked = [([{"role": "user", "content": row["prompt"]}], row["answer"]) for row in rows]
    return [math.exp(total / count) for total, count in log_likelihoods(base, adapter, asked, threads)]


def log_likelihoods(base: BaseModel, adapter: Path | None, rows: Sequence[tuple[list[Message], str]], threads: int,
                    size: int = 16) -> list[tuple[float, int]]:
    """(sum of log-likelihoods in nats, number of tokens) of each answer after its messages; the end token counts too.

    Batches of `size` rows of like length; the head runs on answer tokens only.
    """
    import torch

    from agent.generators.reference import TransformersDecoder

    tokens, model = Tokens(base.path), TransformersDecoder(base, adapter, threads).model
    end = min(tokens.ends)
    asked = [tokens.encode(messages) for messages, _ in rows]
    told = [[*tokens.tokenizer.encode(answer, add_special_tokens=False).ids, end] for _, answer in rows]
    order = sorted(range(len(rows)), key=lambda i: len(asked[i]) + len(told[i]))
    found: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    for start in range(0, len(order), size):
        batch = order[start:start + size]
        longest = max(len(asked[i]) + len(told[i]) for i in batch)
        ids = torch.full((len(batch), longest), end)
        mask = torch.zeros_like(ids)
        for line, i in enumerate(batch):
            own = asked[i] + told[i]
            ids[line, :len(own)], mask[line, :len(own)] = torch.tensor(own), 1
        with torch.inference_mode():
            hidden = model.model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device),
                                 use_cache=False).last_hidden_state
            for line, i in enumerate(batch):
                found[i] = _of_answer(model, hidden[line], len(asked[i]), told[i]), len(told[i])
    return found


def _of_answer(model: Any, hidden: Any, start: int, answer: list[int]) -> float:
    """Each token is foretold by the one before it: the answer by the places from `start` - 1 on."""
    import torch

    logits = model.lm_head(hidden[start - 1:start - 1 + len(answer)]).float()
    wanted = torch.tensor(answer, device=logits.device)
    return float(torch.log_softmax(logits, -1)[torch.arange(len(answer)), wanted].sum())
