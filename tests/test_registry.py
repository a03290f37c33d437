"""Versions are whole or not there, never change, and one of them is champion by everybody's consent."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.domain import Domain
from agent.errors import BundleError
from agent.models import BaseModel
from agent.prompt import prompt_hash
from agent.registry import MANIFEST, Bundle, Canary, Registry

ROOT = Path(__file__).parent.parent
ENCODER, GENERATOR = BaseModel("minilm", Path("e"), "print-of-encoder"), BaseModel("smollm2", Path("g"), "print-of-generator")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A domain named "shop" with one article question, as small as it may be."""
    made = tmp_path / "shop"
    made.mkdir()
    (made / "domain.toml").write_text('name = "shop"\npersona = "p"\nunknown = "u"\n[intents.returns]\nanswer = "docs"\n',
                                      encoding="utf-8")
    (made / "intents.jsonl").write_text('{"text": "send it back", "intent": "returns"}\n', encoding="utf-8")
    for name in ("oos.jsonl", "dialogues.jsonl"):
        (made / name).touch()
    return made


@pytest.fixture
def registry(folder: Path, tmp_path: Path) -> Registry:
    return Registry(Domain.load(folder), tmp_path / "home")


def build(folder: Path, words: str = "weights") -> Path:
    """What a training run leaves behind."""
    (folder / "router" / "adapter").mkdir(parents=True)
    (folder / "router" / "adapter" / "adapter_model.safetensors").write_text(words, encoding="utf-8")
    (folder / "recipe.json").write_text("{}", encoding="utf-8")
    return folder


def manifest(domain: Domain, **changed: str) -> dict[str, str]:
    made = {"encoder": ENCODER.fingerprint, "generator": GENERATOR.fingerprint, "prompt": prompt_hash(domain)}
    return made | changed


def publish(registry: Registry, tmp_path: Path, name: str, starter: bool = False) -> Bundle:
    made = manifest(registry.domain)
    return registry.publish(build(tmp_path / name, name), made, registry.domain.models if starter else None)


# ---- versions

def test_a_registry_without_bundles_says_how_to_make_one(registry: Registry) -> None:
    assert (registry.versions(), registry.aliases()) == ([], {})
    with pytest.raises(BundleError) as caught:
        registry.get()
    assert str(caught.value) == "shop has no bundle 'champion' (there are: none); make one with `retune train shop`."


def test_the_starter_is_version_one_and_champion(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "first", starter=True)
    assert (made.name, made.path) == ("shop@0001", registry.domain.models)
    assert registry.aliases() == {"champion": 1} and registry.get() == made


def test_versions_made_here_follow_the_starter_whether_or_not_there_is_one(registry: Registry, tmp_path: Path) -> None:
    assert [publish(registry, tmp_path, name).version for name in ("second", "third")] == [2, 3]
    publish(registry, tmp_path, "first", starter=True)
    assert [bundle.name for bundle in registry.versions()] == ["shop@0001", "shop@0002", "shop@0003"]
    assert registry.aliases() == {"champion": 1}  # to publish is not to promote


def test_a_bundle_is_found_by_alias_number_and_name(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "first", starter=True)
    second = publish(registry, tmp_path, "second")
    assert registry.get("2") == registry.get("0002") == registry.get("shop@0002") == second
    registry.promote(2, 1, "better", "anna")
    assert registry.get("champion") == second and registry.get("previous").version == 1


@pytest.mark.parametrize("name", ["3", "shop@0003", "challenger", "best", "", "@", "-1", "2.0", "0"])
def test_a_bundle_that_is_not_there_is_refused_with_those_that_are(registry: Registry, tmp_path: Path, name: str) -> None:
    publish(registry, tmp_path, "second")
    with pytest.raises(BundleError) as caught:
        registry.get(name)
    assert repr(name) in str(caught.value) and "there are: shop@0002" in str(caught.value)


def test_a_name_of_another_domain_is_refused(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "second")
    with pytest.raises(BundleError):
        registry.get("finance@0002")


def test_a_folder_without_a_manifest_is_no_version(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    (made.path / MANIFEST).unlink()
    assert registry.versions() == []
    build(registry.domain.models)
    assert registry.aliases() == {}


def test_the_copy_of_a_publisher_that_died_is_no_version(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "second")
    left = build(registry.folder / ".0003.new")
    (left / MANIFEST).write_text("{}", encoding="utf-8")
    assert [bundle.version for bundle in registry.versions()] == [2]


def test_what_a_dead_publisher_left_does_not_get_into_the_next_version(registry: Registry, tmp_path: Path) -> None:
    registry.folder.mkdir(parents=True)
    (build(registry.folder / ".0002.new") / "generator").mkdir()
    assert publish(registry, tmp_path, "second").part("generator") is None


def test_a_bundle_shows_the_parts_that_it_has(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    assert made.part("router") == made.path / "router" and made.part("generator") is None


def test_one_damaged_manifest_does_not_hide_the_other_versions(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "second")
    (publish(registry, tmp_path, "third").path / MANIFEST).write_text("{", encoding="utf-8")
    assert registry.get("2").version == 2


def test_the_number_of_a_damaged_version_is_not_given_again(registry: Registry, tmp_path: Path) -> None:
    damaged = publish(registry, tmp_path, "second").path / MANIFEST
    damaged.write_text("{", encoding="utf-8")
    assert publish(registry, tmp_path, "third").version == 3 and damaged.read_text(encoding="utf-8") == "{"


def test_a_manifest_inside_a_part_is_a_file_like_any_other(registry: Registry, tmp_path: Path) -> None:
    built = build(tmp_path / "second")
    (built / "router" / MANIFEST).write_text("{}", encoding="utf-8")
    made = registry.publish(built, manifest(registry.domain))
    assert f"router/{MANIFEST}" in made.manifest["files"] and MANIFEST not in made.manifest["files"]
    made.verify()


def test_a_damaged_manifest_is_named(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    (made.path / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(BundleError) as caught:
        registry.get("2")
    assert str(made.path / MANIFEST) in str(caught.value) and "restore it or delete" in str(caught.value)


# ---- whole and unchanged

def test_the_manifest_names_every_file_and_keeps_what_it_was_given(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    assert set(made.manifest["files"]) == {"recipe.json", "router/adapter/adapter_model.safetensors"}
    assert manifest(registry.domain).items() <= made.manifest.items()
    assert json.loads((made.path / MANIFEST).read_text(encoding="utf-8")) == made.manifest
    made.verify()


def test_a_changed_byte_is_refused(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    file = made.path / "router" / "adapter" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        made.verify()
    assert str(file) in str(caught.value) and "shop@0002" in str(caught.value) and "retune versions shop" in str(caught.value)


def test_a_missing_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    (made.path / "recipe.json").unlink()
    with pytest.raises(BundleError, match=r"recipe\.json is damaged or missing"):
        registry.get("2").verify()


def test_a_part_that_the_manifest_does_not_name_is_not_served(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    (made.path / "generator").mkdir()
    (made.path / "generator" / "adapter_model.safetensors").write_text("from elsewhere", encoding="utf-8")
    assert made.part("generator") is None


def test_a_new_starter_takes_the_place_of_the_old_one_whole(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "first", starter=True)
    (registry.domain.models / "stray.txt").touch()
    made = publish(registry, tmp_path, "again", starter=True)
    made.verify()
    assert (made.path / "router/adapter/adapter_model.safetensors").read_text(encoding="utf-8") == "again"
    assert not (made.path / "stray.txt").exists()
    assert [path.name for path in registry.domain.folder.iterdir() if path.name.startswith(".")] == []


def test_to_publish_again_leaves_earlier_versions_as_they_were(registry: Registry, tmp_path: Path) -> None:
    second = publish(registry, tmp_path, "second")
    before = {path: path.read_bytes() for path in second.path.rglob("*") if path.is_file()}
    publish(registry, tmp_path, "third")
    assert {path: path.read_bytes() for path in second.path.rglob("*") if path.is_file()} == before


def test_two_processes_that_publish_at_once_get_different_numbers(registry: Registry, tmp_path: Path) -> None:
    code = ("import sys; from pathlib import Path; from agent.domain import Domain; from agent.registry import Registry\n"
            "folder, home, *built = map(Path, sys.argv[1:])\n"
            "registry = Registry(Domain.load(folder), home)\n"
            "print('ready', flush=True); sys.stdin.readline()\n"
            "print(*(registry.publish(each, {'by': each.name}).version for each in built))")
    runs = []
    for each in ("a", "b"):
        built = [str(build(tmp_path / f"{each}{number}", each)) for number in range(4)]
        runs.append(subprocess.Popen([sys.executable, "-c", code, str(registry.domain.folder), str(tmp_path / "home"), *built],
                                     cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    numbers = [int(number) for run in runs for number in run.communicate(timeout=60)[0].split()]
    assert sorted(numbers) == list(range(2, 10))
    for bundle in registry.versions():
        bundle.verify()
    assert sorted(bundle.manifest["by"] for bundle in registry.versions()) == [f"{a}{n}" for a in "ab" for n in range(4)]


# ---- who is champion

def test_a_stale_expectation_is_refused_and_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "first", starter=True)
    for name in ("second", "third"):
        publish(registry, tmp_path, name)
    registry.promote(2, 1, "better", "anna")
    with pytest.raises(BundleError, match="The champion is now 2, not 1; look again and retry"):
        registry.promote(3, 1, "better still", "anna")
    assert registry.aliases() == {"champion": 2, "previous": 1}


def test_the_first_champion_is_set_where_there_was_none(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "second")
    registry.promote(2, None, "the first", "anna")
    assert registry.aliases() == {"champion": 2}


def test_promotions_and_publications_leave_a_row_each(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "first", starter=True)
    second = publish(registry, tmp_path, "second")
    registry.promote(2, 1, "must_say 0.6 to 0.7", "anna")
    registry.rollback("thumbs fell", "the watch")
    rows = registry.audit()
    assert [(row["what"], row["by"]) for row in rows] == [
        ("publish", "retune"), ("publish", "retune"), ("promote", "anna"), ("rollback", "the watch")]
    assert rows[1]["detail"]["content"] == second.hash
    assert rows[2]["detail"] == {"from": {"champion": 1}, "to": {"champion": 2, "previous": 1}, "reason": "must_say 0.6 to 0.7"}
    assert rows[3]["detail"] == {"from": {"champion": 2, "previous": 1}, "to": {"champion": 1}, "reason": "thumbs fell"}
    assert all(row["at"].endswith("+00:00") for row in rows) and registry.problems() == []


def test_only_a_version_that_is_there_becomes_champion(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "first", starter=True)
    with pytest.raises(BundleError):
        registry.promote(7, 1, "a slip of the hand", "anna")


def test_damaged_aliases_are_named(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "second")
    (registry.folder / "aliases.json").write_text("", encoding="utf-8")
    with pytest.raises(BundleError, match=r"aliases\.json"):
        registry.get()


def three(registry: Registry, tmp_path: Path) -> Registry:
    """A starter that is champion, and two versions after it."""
    publish(registry, tmp_path, "first", starter=True)
    for name in ("second", "third"):
        publish(registry, tmp_path, name)
    return registry


def test_a_damaged_version_cannot_become_champion(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path)
    (registry.get("2").path / "recipe.json").unlink()
    with pytest.raises(BundleError, match="damaged or missing"):
        registry.promote(2, 1, "unseen", "anna")
    assert registry.aliases() == {"champion": 1}


def test_what_the_check_refuses_is_not_promoted(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path)
    rows = len(registry.audit())

    def lost() -> None:
        assert registry.aliases() == {"champion": 1}  # it runs before the switch
        raise BundleError("the lease is lost")

    with pytest.raises(BundleError, match="the lease is lost"):
        registry.promote(2, 1, "late", "anna", check=lost)
    assert registry.aliases() == {"champion": 1} and len(registry.audit()) == rows


def test_a_rollback_takes_the_champion_before_and_a_second_one_does_not_bring_back_what_was_taken_away(
        registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path).promote(2, 1, "better", "anna")
    assert registry.rollback("worse", "anna").version == 1
    with pytest.raises(BundleError, match="no earlier champion to go back to; choose one of `retune versions shop`"):
        registry.rollback("again", "anna")
    assert registry.aliases() == {"champion": 1}


def test_a_rollback_to_a_bundle_that_cannot_serve_is_refused_and_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path).promote(2, 1, "better", "anna")
    registry.promote(3, 2, "better", "anna")
    with pytest.raises(BundleError, match="made for another encoder"):
        registry.rollback("x", "anna", lambda old: old.check_fits(registry.domain, GENERATOR, ENCODER))
    (registry.get("2").path / "recipe.json").unlink()
    with pytest.raises(BundleError, match="damaged or missing"):
        registry.rollback("x", "anna")
    assert registry.aliases() == {"champion": 3, "previous": 2}


def test_a_challenger_is_named_and_is_none_any_more_when_promoted(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path).set_challenger(2, "just trained", "anna")
    assert registry.get("challenger").version == 2
    registry.set_challenger(None, "given up", "anna")
    assert registry.aliases() == {"champion": 1}
    registry.set_challenger(2, "just trained", "anna")
    registry.promote(2, 1, "better", "anna")
    assert registry.aliases() == {"champion": 2, "previous": 1}


def test_a_canary_has_its_share_until_it_is_promoted_or_ended(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path).set_canary(3, 0.1, "a try", "anna")
    assert registry.canary() == Canary(3, 0.1) and registry.aliases() == {"champion": 1}
    registry.promote(2, 1, "another one", "anna")
    assert registry.canary() == Canary(3, 0.1)
    registry.set_canary(None, 0, "enough", "anna")
    assert registry.canary() is None
    registry.set_canary(3, 0.5, "a try", "anna", shadow=True)
    assert registry.canary() == Canary(3, 0.5, shadow=True)
    registry.promote(3, 2, "good", "anna")
    assert registry.canary() is None


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(registry: Registry, tmp_path: Path, share: float) -> None:
    three(registry, tmp_path)
    with pytest.raises(BundleError, match="give a number from 0 to 1"):
        registry.set_canary(2, share, "x", "anna")
    assert registry.canary() is None


# ---- what is shared, and what shows a change

def test_an_equal_file_is_shared_with_the_version_before_and_a_damaged_one_is_not(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path)
    second, third = (registry.get(number).path / "recipe.json" for number in ("2", "3"))
    assert second.samefile(third)
    other = registry.get("3").path / "router/adapter/adapter_model.safetensors"
    assert not other.samefile(registry.get("2").path / "router/adapter/adapter_model.safetensors")
    third.unlink()
    third.write_text("damaged", encoding="utf-8")
    fourth = publish(registry, tmp_path, "fourth")
    fourth.verify()
    assert not (fourth.path / "recipe.json").samefile(third)


def test_the_hash_of_a_bundle_is_that_of_its_files_alone(registry: Registry, tmp_path: Path) -> None:
    first = registry.publish(build(tmp_path / "a", "same"), manifest(registry.domain, by="a"))
    second = registry.publish(build(tmp_path / "b", "same"), manifest(registry.domain, by="b"))
    third = registry.publish(build(tmp_path / "c", "other"), manifest(registry.domain, by="a"))
    assert first.hash == second.hash != third.hash and first.manifest["content"] == first.hash


def test_a_manifest_is_read_only_and_a_change_of_it_shows(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path)
    file = registry.get("2").path / MANIFEST
    assert file.stat().st_mode & 0o222 == 0
    file.chmod(0o644)
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"report": "splendid"}), encoding="utf-8")
    assert registry.problems() == ["shop@0002: its manifest.json is not the one that was published."]


def test_aliases_changed_by_hand_show(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path).promote(2, 1, "better", "anna")
    table = json.loads(registry.alias_file.read_text(encoding="utf-8"))
    registry.alias_file.write_text(json.dumps(table | {"champion": 3}), encoding="utf-8")
    assert "was changed by hand" in registry.problems()[0]


def test_newest_rows_that_were_cut_off_show(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path).promote(2, 1, "better", "anna")
    file = registry.folder / "audit.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-2]))
    assert "its newest rows are missing" in registry.problems()[0]
    registry.audit()  # what is put right after a killed process does not hide it
    assert "its newest rows are missing" in registry.problems()[0]


def test_the_number_of_a_deleted_version_is_not_given_again(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path)
    shutil.rmtree(registry.get("3").path)
    assert publish(registry, tmp_path, "fourth").version == 4


def test_a_home_of_before_there_were_hashes_goes_on(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    file = registry.folder / "audit.jsonl"
    file.write_text('{"at": "2026-11-22T02:00:00+00:00", "what": "publish", "detail": "shop@0002"}\n', encoding="utf-8")
    registry.alias_file.write_text('{"champion": 2}', encoding="utf-8")
    old = {name: value for name, value in made.manifest.items() if name != "content"}
    (made.path / MANIFEST).unlink()
    (made.path / MANIFEST).write_text(json.dumps(old), encoding="utf-8")
    assert registry.get() == Bundle("shop", 2, made.path, old) and registry.get().hash == made.hash
    publish(registry, tmp_path, "third")
    registry.promote(3, 2, "better", "anna")
    assert [row["what"] for row in registry.audit()] == ["publish", "from_here", "publish", "promote"]
    assert registry.problems() == []


# ---- what a bundle was made for

def test_a_bundle_fits_the_bases_and_the_prompt_that_it_was_made_with(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "second").check_fits(registry.domain, ENCODER, GENERATOR)


@pytest.mark.parametrize("what", ["encoder", "generator", "prompt"])
def test_what_differs_is_named(registry: Registry, tmp_path: Path, what: str) -> None:
    made = registry.publish(build(tmp_path / "second"), manifest(registry.domain, **{what: "another"}))
    with pytest.raises(BundleError, match=f"shop@0002 was made for another {what}; run `retune train shop`"):
        made.check_fits(registry.domain, ENCODER, GENERATOR)


def test_another_persona_is_another_prompt(registry: Registry, tmp_path: Path) -> None:
    made = publish(registry, tmp_path, "second")
    file = registry.domain.folder / "domain.toml"
    file.write_text(file.read_text(encoding="utf-8").replace('"p"', '"someone else"'), encoding="utf-8")
    with pytest.raises(BundleError, match="another prompt"):
        made.check_fits(Domain.load(registry.domain.folder), ENCODER, GENERATOR)
