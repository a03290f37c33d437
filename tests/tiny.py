"""A base model of two layers that loads in no time, and real adapters for it: shared by the tests of served adapters."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from agent.bundle import Bundle, content_hash
from agent.models import BaseModel, sha256

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def base(folder: Path, seed: int = 0, width: int = 32) -> BaseModel:
    """Llama with random weights, large enough to be sure of its next token; its tokens are bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({sign: number for number, sign in enumerate([*alphabet, "<end>"])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}<end>{% endfor %}assistant: "
    said = {"chat_template": template, "eos_token": "<end>", "bos_token": "<end>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=257, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=256, eos_token_id=256, initializer_range=0.25,
        tie_word_embeddings=False))
    model.save_pretrained(folder)
    return BaseModel("tiny", folder, content_hash({"model.safetensors": sha256(folder / "model.safetensors")}))


def adapter(base: BaseModel, folder: Path, seed: int = 1, strength: float = 0.3, **config: Any) -> Path:
    """A LoRA folder as PEFT writes it, its B random too."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    said = {"r": 8, "lora_alpha": 8, "target_modules": list(TARGETS), "task_type": "CAUSAL_LM"} | config
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base.path), LoraConfig(**said))
    for name, values in model.named_parameters():
        if "lora_B" in name or "lora_A" in name:
            torch.nn.init.normal_(values, std=strength if "lora_B" in name else 0.2)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


def tensors(file: Path) -> dict[str, np.ndarray]:
    """What a safetensors file holds, each as it is typed there."""
    from safetensors.numpy import load_file

    return load_file(file)


def bundle(folder: Path, part: Path | None, domain: str = "customer_service", version: int = 7) -> Bundle:
    """A bundle whose generator is a copy of `part`; it has no router."""
    import shutil

    folder.mkdir(parents=True)
    if part:
        shutil.copytree(part, folder / "generator")
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = {"files": files, "content": content_hash(files)}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Bundle.read(domain, version, folder)
