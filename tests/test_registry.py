"""Versions are whole or not there, never change, and one of them is champion by everybody's consent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.domain import Domain
from agent.errors import BundleError
from agent.models import BaseModel
from agent.prompt import prompt_hash
from agent.registry import MANIFEST, Bundle, Registry

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
    registry.set_champion(2, 1, "better")
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
    registry.set_champion(2, 1, "better")
    with pytest.raises(BundleError, match="The champion is now 2, not 1; look again and retry"):
        registry.set_champion(3, 1, "better still")
    assert registry.aliases() == {"champion": 2, "previous": 1}


def test_the_first_champion_is_set_where_there_was_none(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "second")
    registry.set_champion(2, None, "the first")
    assert registry.aliases() == {"champion": 2}


def test_promotions_and_publications_leave_a_row_each(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "first", starter=True)
    publish(registry, tmp_path, "second")
    registry.set_champion(2, 1, "must_say 0.6 to 0.7")
    registry.set_champion(1, 2, "rollback")
    rows = [json.loads(line) for line in (registry.folder / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["what"], row["detail"]) for row in rows] == [
        ("publish", "shop@0001"), ("publish", "shop@0002"), ("champion", "1 -> 2: must_say 0.6 to 0.7"),
        ("champion", "2 -> 1: rollback")]
    assert all(row["at"].endswith("+00:00") for row in rows)


def test_only_a_version_that_is_there_becomes_champion(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "first", starter=True)
    with pytest.raises(BundleError):
        registry.set_champion(7, 1, "a slip of the hand")


def test_damaged_aliases_are_named(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, "second")
    (registry.folder / "aliases.json").write_text("", encoding="utf-8")
    with pytest.raises(BundleError, match=r"aliases\.json"):
        registry.get()


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
