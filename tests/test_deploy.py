"""What `deploy/` starts exists: commands, options, settings, health; nothing is open that need not be."""

import os
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from agent.settings import Settings
from agent.surfaces import cli
from agent.vllm import flags
from tuning import plan

DEPLOY = Path(__file__).parent.parent / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
ENTRYPOINT = DEPLOY / "entrypoint.sh"
OURS = ("retune", "schedule", "models")
HOME = "/var/lib/retune"


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([sm])", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def vllm_words() -> list[str]:
    return SERVICES["vllm"]["command"][0].split()


def commands() -> list[list[str]]:
    """Every `retune ...` that is run or told of, in words."""
    told = re.findall(r"(?:run --rm retune |\()(retune [^\n()]+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    written = [re.findall(r'"([^"]+)"', line) for line in DOCKERFILE.splitlines() if line.startswith('CMD ["retune"')]
    return [SERVICES[name]["command"] for name in OURS] + written + [line.split() for line in told]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_and_option_is_retunes(words: list[str]) -> None:
    assert words[0] == "retune"
    command: click.Command = typer.main.get_command(cli.app)
    rest = list(words[1:])
    while hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"{name} of {' '.join(words)}"
        command = command.commands[name]
    known = {option for each in command.params for option in each.opts if option.startswith("--")}
    assert {word for word in rest if word.startswith("--")} <= known


def test_every_variable_of_retunes_is_a_setting() -> None:
    known = {f"RETUNE_{field.name.upper()}" for field in fields(Settings)}
    for name in OURS:
        said = {variable.removesuffix("_FILE") for variable in SERVICES[name]["environment"] if variable.startswith("RETUNE_")}
        assert said <= known and "RETUNE_DATABASE" in said
    assert set(re.findall(r"RETUNE_[A-Z_]+(?==)", DOCKERFILE)) == {"RETUNE_HOME"}
    assert set(re.findall(r"RETUNE_[A-Z_]+", ENTRYPOINT.read_text(encoding="utf-8"))) <= known


def test_what_a_service_waits_for_says_when_it_is_well() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            waited = SERVICES[other]
            if how["condition"] == "service_completed_successfully":
                assert waited["restart"] == "no"
            else:
                assert how["condition"] == "service_healthy" and "test" in waited["healthcheck"], f"{name} waits for {other}"
            # a service of a profile is left out with it, and then nobody may insist on it
            assert how.get("required", True) is not bool(waited.get("profiles"))
    assert "/healthz" in re.search(r"HEALTHCHECK[^\n]*\\\n[^\n]*", DOCKERFILE).group()
    assert f":{option(SERVICES['retune']['command'], '--port')}/healthz" in DOCKERFILE
    for name in ("schedule", "models"):  # which answer nobody
        assert SERVICES[name]["healthcheck"] == {"disable": True}


def test_a_stop_waits_longer_than_open_answers_may_take() -> None:
    service = SERVICES["retune"]
    assert seconds(service["stop_grace_period"]) >= int(option(service["command"], "--grace")) + 10


def test_nothing_is_published_but_retune_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["retune"] and all(port.startswith("127.0.0.1:") for port in published["retune"])
    assert not any(service.get("network_mode") or service.get("privileged") for service in SERVICES.values())


def test_retune_runs_as_nobody_much_on_a_root_that_it_cannot_write() -> None:
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.M) == ["10001:10001"]
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]


def test_versions_are_pinned_and_no_secret_is_written_down() -> None:
    for service in SERVICES.values():
        assert re.search(r":v?\d+\.\d+", service["image"])
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(?:PASSWORD|KEY): \S", text) and "://retune@postgres/" in text
    assert all(re.fullmatch(r"\./secrets/\w+", secret["file"]) for secret in COMPOSE["secrets"].values())
    ignored = (DEPLOY.parent / ".gitignore").read_text(encoding="utf-8").split()
    assert {"deploy/secrets/", "deploy/.env"} <= set(ignored)
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])


def test_the_image_gets_what_it_is_made_of_and_nothing_else() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.M) for word in line.split()[:-1]
              if not word.startswith("--")}
    assert "*" in lines and kept == copied
    assert all((DEPLOY.parent / name).exists() for name in copied)


def test_vllm_finds_base_and_adapters_where_retune_has_them() -> None:
    words = vllm_words()
    assert f"RETUNE_HOME={HOME}" in DOCKERFILE
    for name in (*OURS, "vllm"):
        assert [each.split(":")[1] for each in SERVICES[name]["volumes"] if each.startswith("home:")] == [HOME]
    name = option(words, "--served-model-name")
    assert name == Settings(Path(HOME)).generator and f"{HOME}/models/{name}" in words
    assert "--enable-lora" in words and SERVICES["vllm"]["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    example = dict(line.split("=", 1) for line in (DEPLOY / "env.example").read_text(encoding="utf-8").splitlines() if line[0] != "#")
    assert example["RETUNE_VLLM"] == f"http://vllm:{option(words, '--port')}" and SERVICES["vllm"]["profiles"] == [
        example["COMPOSE_PROFILES"]]


def test_vllm_has_room_for_every_domain_that_ships(home: Path) -> None:
    widest, words = flags.ranks(home), vllm_words()
    assert int(option(words, "--max-lora-rank")) >= max(widest.values())
    assert int(option(words, "--max-loras")) >= len(widest) + 2


def test_the_schedule_is_one_that_retune_reads(home: Path) -> None:
    (home / "schedule.toml").write_text((DEPLOY / "schedule.toml").read_text(encoding="utf-8"), encoding="utf-8")
    assert set(plan.load(home)) == {"customer_service", "finance", "medical"}
    assert f"./schedule.toml:{HOME}/schedule.toml:ro" in SERVICES["schedule"]["volumes"]


def test_secrets_come_as_files_and_a_missing_one_is_told(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("o'ne $two `three`\n", encoding="utf-8")

    def started(file: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([ENTRYPOINT, "sh", "-c", 'printf "%s|%s" "$RETUNE_VLLM_KEY" "${PGPASSWORD-none}"'], text=True,
                              capture_output=True, env={"PATH": os.environ["PATH"], "RETUNE_VLLM_KEY_FILE": str(file)})

    assert started(secret).stdout == "o'ne $two `three`|none"
    gone = started(tmp_path / "gone")
    assert gone.returncode != 0 and "gone" in gone.stderr
