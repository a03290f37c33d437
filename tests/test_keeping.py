"""What a person types to promote, take back, try and look into: exit codes, JSON and one sentence for every refusal."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.domain import Domain
from agent.errors import BundleError
from agent.registry import Canary, Registry
from agent.surfaces.keeping import app


@pytest.fixture
def registry(home: Path, tmp_path: Path) -> Registry:
    """After the starter: 2 to be promoted, 3 refused, 4 never compared."""
    made = Registry(Domain.load("finance"), home)
    starter = made.get().manifest
    for number, verdict in ((2, {"decision": "promote"}), (3, {"decision": "refuse"}), (4, None)):
        built = tmp_path / f"built{number}"
        (built / "router").mkdir(parents=True)
        (built / "router" / "head.safetensors").write_text(str(number), encoding="utf-8")
        told = {name: starter[name] for name in ("encoder", "generator", "prompt", "made", "recipe")}
        made.publish(built, told | ({"verdict": verdict} if verdict else {}))
    return made


def run(*arguments: str, code: int = 0) -> Any:
    """What a command prints as JSON."""
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return json.loads(done.output)


def refused(*arguments: str) -> str:
    """The sentence of a refusal; `main` prints it and leaves with 1."""
    with pytest.raises(BundleError) as caught:
        CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    return str(caught.value)


def test_a_version_whose_report_says_so_is_promoted_and_taken_back(registry: Registry) -> None:
    assert run("promote", "finance", "2")["champion"] == "finance@0002"
    assert registry.aliases() == {"champion": 2, "previous": 1}
    assert run("rollback", "finance", "--reason", "thumbs fell") == {"champion": "finance@0001", "left": "finance@0002",
                                                                     "reason": "thumbs fell"}
    assert "no earlier champion" in refused("rollback", "finance")


@pytest.mark.parametrize("version, word", [("3", "says refuse"), ("finance@0004", "was never compared"), ("9", "there are:")])
def test_a_version_whose_report_does_not_say_so_is_refused(registry: Registry, version: str, word: str) -> None:
    assert word in refused("promote", "finance", version) and registry.aliases() == {"champion": 1}


def test_force_promotes_it_all_the_same_and_the_audit_says_so(registry: Registry) -> None:
    run("promote", "finance", "3", "--force", "--reason", "I know better")
    row = run("audit", "finance")[-1]
    assert (row["what"], row["detail"]["reason"]) == ("promote", "I know better (forced)")
    assert registry.aliases()["champion"] == 3 and row["by"]


def test_a_canary_is_set_seen_and_ended(registry: Registry) -> None:
    assert run("canary", "finance") == {"canary": None}
    run("canary", "finance", "4", "--share", "0.2", "--shadow")
    assert registry.canary() == Canary(4, 0.2, shadow=True)
    assert [row["alias"] for row in run("versions", "finance")] == ["champion", None, None, "shadow"]
    assert run("canary", "finance", "--off") == {"canary": None} and registry.canary() is None


def test_versions_tell_the_verdict(registry: Registry) -> None:
    assert [row["verdict"] for row in run("versions", "finance")] == [None, "promote", "refuse", None]


def test_a_share_out_of_range_is_a_slip_of_usage(registry: Registry) -> None:
    assert CliRunner().invoke(app, ["canary", "finance", "2", "--share", "1.5"]).exit_code == 2


def test_an_audit_that_was_tampered_with_is_exit_1(registry: Registry) -> None:
    run("promote", "finance", "2")
    assert run("audit", "finance", "--verify") == {"sound": True, "problems": []}
    file = registry.folder / "audit.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("asked for by", "begged for by"), encoding="utf-8")
    found = run("audit", "finance", "--verify", code=1)
    assert not found["sound"] and "was changed after it was written" in found["problems"][0]


def test_the_lines_for_a_person_name_who_what_and_why(registry: Registry) -> None:
    run("promote", "finance", "2", "--reason", "must_say rose")
    shown = CliRunner().invoke(app, ["audit", "finance"]).output
    assert "champion 1 -> champion 2, previous 1: must_say rose" in shown and "version 2, content" in shown
