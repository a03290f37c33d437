"""What tests/benchmarks/serving.py measured, as Markdown, and on what machine; knows its JSON and nothing else."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any


def markdown(table: dict[str, Any]) -> str:
    """A section for each part that was run."""
    found = [f"# vLLM {table['vllm']} with {table['base']} on {table['device']}"]
    for name, made in table["parts"].items():
        found.append(SECTIONS[name.partition("_")[0] if name.startswith("adapters") else name](name, made))
    return "\n\n".join(found)


def device() -> str:
    """The GPU's name where there is one, else the CPU's, with the cores that may be used."""
    with suppress(OSError, subprocess.CalledProcessError):
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        if found := subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip().splitlines():
            return found[0]
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return "unknown"


def overhead(name: str, made: dict[str, Any]) -> str:
    """Of the agent, to the first token."""
    lines = [f"| first token, one stream, {made['n']} questions | ms |", "|---|---|",
             f"| agent (routing, retrieval, session on disk) | {made['agent_ms']:.0f} |",
             f"| vLLM alone, the same prompts | {made['vllm_ms']:.0f} |",
             f"| difference, median of pairs | {made['median_ms']:.1f} |",
             f"| difference, 95th percentile | {made['p95_ms']:.1f} |",
             f"| of it routing | {made['route_ms']:.1f} |", f"| of it retrieval | {made['retrieve_ms']:.1f} |"]
    if made["whole_turns"]:
        lines.append(f"| whole turn, log on disk: difference, median of {made['whole_turns']} "
                     f"| {made['whole_turn_median_ms']:.1f} |")
    return "\n".join(lines)


def throughput(name: str, made: dict[str, Any]) -> str:
    """Of many streams."""
    return "\n".join([
        f"| {made['streams']} streams, {made['answers']} answers a side | tokens a second |", "|---|---|",
        f"| agent | {made['agent_tokens_s']:.1f} |", f"| vLLM alone, the same prompts | {made['vllm_tokens_s']:.1f} |",
        f"| ratio | {made['ratio']:.3f} |", "",
        f"Tokens are the server's own count. {made['left_out']} prompts were left out, whose answer repeats a sentence and "
        f"would be ended by the agent; {made['without_tokens']} turns that it ended early all the same count as none."])


def adapters(name: str, made: dict[str, Any]) -> str:
    """Base, one adapter, several."""
    op = name.partition("_")[2]
    lines = [f"| adapters of rank {made['adapter']} in {made['layers']} of the layers, {OPS.get(op, op)} | streams "
             "| first token, ms | to base | tokens a second | to base |", "|---|---|---|---|---|---|"]
    lines += [f"| {arm} | {wide} | {row['first_ms']:.0f} | {row['first_ratio']:.2f} | {row['tokens_s']:.1f} "
              f"| {row['tokens_ratio']:.2f} |" for arm, found in made["arms"].items() for wide, row in found.items()]
    return "\n".join([*lines, "", f"Prompts of about {made['prompt_tokens']} tokens that the server had not seen, answers of "
                                  f"{made['tokens']} tokens each; medians."])


def swaps(name: str, made: dict[str, Any]) -> str:
    """Versions under streams."""
    calm, under = made["first_token_calm_ms"], made["first_token_swapping_ms"]
    return "\n".join([
        f"| {made['swaps']} swaps under {made['streams']} streams, {made['published']} new versions, {made['rollbacks']} rollbacks | |", "|---|---|",
        f"| answers | {made['answers']} |", f"| failed | {made['failed']} |", f"| words of two versions in one answer | {made['mixed']} |",
        f"| answered by an old version after the new was announced | {made['stale']} |",
        f"| without the version's word | {made['without_a_word']} |",
        f"| turns told / logged whole / logged as errors | {made['told']} / {made['logged']} / {made['logged_as_error']} |",
        f"| published to loaded beside, s: median, p99 | {made['ahead_s']['p50']:.1f}, {made['ahead_s']['p99']:.1f} |",
        f"| promoted to serving, s: median, p99 | {made['swap_s']['p50']:.2f}, {made['swap_s']['p99']:.2f} |",
        f"| promoted to the first token of a new turn, s: median, p99 | {made['first_word_s']['p50']:.2f}, "
        f"{made['first_word_s']['p99']:.2f} |",
        f"| first token without swaps, ms: median, p99 of {calm['n']} | {calm['p50']:.0f}, {calm['p99']:.0f} |",
        f"| first token with swaps, ms: median, p99 of {under['n']} | {under['p50']:.0f}, {under['p99']:.0f} |"])


def swaps_plain(name: str, made: dict[str, Any]) -> str:
    """Names changed under streams, without an agent."""
    return "\n".join([
        f"| {made['swaps']} swaps under {made['streams']} streams, server alone | |", "|---|---|",
        f"| answers | {made['answers']} |", f"| failed, or under another name | {made['failed']} |",
        f"| loading, s: median, p99 | {made['load_s']['p50']:.2f}, {made['load_s']['p99']:.2f} |",
        f"| gone over to first token, s: median, p99 | {made['first_word_s']['p50']:.2f}, {made['first_word_s']['p99']:.2f} |",
        f"| first token, ms: median, p99 | {made['first_token_ms']['p50']:.0f}, {made['first_token_ms']['p99']:.0f} |"])


OPS = {"plugin": "with this project's LoRA op", "stock": "with vLLM's own LoRA op"}
SECTIONS = {"overhead": overhead, "throughput": throughput, "adapters": adapters, "swaps": swaps, "swaps_plain": swaps_plain}
