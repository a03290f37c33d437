"""Keyword over environment over retune.toml over default; a wrong value is refused by name."""

import os
from pathlib import Path

import pytest

from agent import paths
from agent.errors import RetuneError, SettingsError
from agent.settings import Settings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working folder, apart, with no RETUNE_ variable but the home."""
    for name in [name for name in os.environ if name.startswith("RETUNE_")]:
        monkeypatch.delenv(name)
    (tmp_path / "place").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path / "place"))
    return tmp_path / "place"


def test_without_any_word_the_defaults_hold(place: Path) -> None:
    settings = Settings.load()
    assert settings == Settings(home=place)
    assert (settings.encoder, settings.generator, settings.engine) == ("minilm", "smollm2", "auto")
    assert settings.cores == os.cpu_count()


def test_each_source_stands_over_the_next(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "retune.toml").write_text("threads = 1\n", encoding="utf-8")
    assert Settings.load().threads == 1
    Path("retune.toml").write_text("threads = 2\nmax_new_tokens = 7\n", encoding="utf-8")
    assert Settings.load().threads == 2
    monkeypatch.setenv("RETUNE_THREADS", "3")
    assert Settings.load().threads == 3
    assert Settings.load(threads=4) == Settings(home=place, threads=4, max_new_tokens=7)


def test_a_keyword_that_is_none_says_nothing(place: Path) -> None:
    assert Settings.load(threads=None, home=None) == Settings(home=place)


def test_the_home_is_a_keyword_or_the_environment_or_the_platforms_folder(
        place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load(home=str(tmp_path)).home == tmp_path
    assert Settings.load(home="~/somewhere").home == Path.home() / "somewhere"
    assert Settings.load().home == paths.default_home() == place
    monkeypatch.delenv("RETUNE_HOME")
    assert Settings.load().home.name == "retune"


def test_the_retune_toml_of_the_home_that_was_given_is_read(place: Path, tmp_path: Path) -> None:
    (place / "retune.toml").write_text("threads = 1\n", encoding="utf-8")
    assert Settings.load(home=tmp_path / "elsewhere").threads == 0


def test_the_database_lies_in_the_home_unless_it_is_given(place: Path) -> None:
    assert Settings.load().database_url == paths.database_url(place)
    assert Settings.load(database="postgresql://host/db").database_url == "postgresql://host/db"


def test_threads_that_are_given_are_the_cores(place: Path) -> None:
    assert Settings.load(threads=3).cores == 3


def test_settings_are_frozen(place: Path) -> None:
    with pytest.raises(AttributeError):
        Settings.load().threads = 2


def test_nothing_is_created_by_reading_settings(place: Path) -> None:
    Settings.load(home=place / "new")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(("given", "told"), [
    ({"thread": 2}, ["'thread'", "known settings: capture_content, database, encoder"]),
    ({"engine": "vroom"}, ["'vroom'", "auto, onnx, transformers, vllm"]),
    ({"threads": "two"}, ["threads", "'two'", "whole number"]),
    ({"max_new_tokens": ""}, ["max_new_tokens", "whole number"]),
    ({"max_message": [1]}, ["max_message", "whole number"]),
    ({"theme": "pink"}, ["theme is 'pink'", "dark, light, contrast"]),
    ({"theme": 1}, ["theme is 1", "dark, light, contrast"]),
    ({"keys": "f8"}, ["keys is 'f8'", "table of actions"]),
    ({"keys": {"answer.up": ["a", "b"]}}, ["answer.up are ['a', 'b']", "must be a text"]),
    ({"keys": {"answer": {"up": 5}}}, ["answer.up are 5", "must be a text"]),
])
def test_a_wrong_setting_is_refused_with_what_would_do(place: Path, given: dict, told: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**given)
    assert [each for each in told if each not in str(caught.value)] == []
    assert isinstance(caught.value, RetuneError)


def test_a_wrong_value_in_the_environment_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_ENGINE", "vroom")
    with pytest.raises(SettingsError, match="engine is 'vroom'"):
        Settings.load()


@pytest.mark.parametrize("text", [b"threads = ", b"threads = 1\nthreads = 2", b'encoder = "caf\xe9"'])
def test_a_broken_retune_toml_is_named(place: Path, text: bytes) -> None:
    (place / "retune.toml").write_bytes(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert str(place / "retune.toml") in str(caught.value) and "correct it" in str(caught.value)


def test_an_unknown_key_in_retune_toml_is_refused(place: Path) -> None:
    (place / "retune.toml").write_text("[server]\nport = 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="no setting 'server'"):
        Settings.load()


@pytest.mark.parametrize("given", [
    {"threads": -1}, {"threads": 2.7}, {"threads": True}, {"max_new_tokens": 0}, {"max_message": -5}, {"encoder": 5},
    {"home": 5}, {"database": ["a"]},
], ids=str)
def test_a_value_of_the_wrong_kind_or_sign_is_refused(place: Path, given: dict) -> None:
    with pytest.raises(SettingsError):
        Settings.load(**given)


def test_a_wrong_value_in_the_environment_names_the_variable(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_THREADS", "two")
    with pytest.raises(SettingsError, match="RETUNE_THREADS"):
        Settings.load()


def test_an_unknown_key_is_refused_with_the_file_that_holds_it(place: Path) -> None:
    (place / "retune.toml").write_text("thread = 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"retune\.toml"):
        Settings.load()


def test_keys_are_a_table_of_retune_toml_and_the_nearer_one_stands(place: Path) -> None:
    assert (Settings.load().keys, Settings.load().theme) == ({}, "dark")
    (place / "retune.toml").write_text('theme = "light"\n[keys]\n"answer.correct" = "=,f8"\n', encoding="utf-8")
    assert (Settings.load().keys, Settings.load().theme) == ({"answer.correct": "=,f8"}, "light")
    Path("retune.toml").write_text('[keys]\nhelp = ""\nanswer.up = "plus"\nanswer.down = "minus"\n', encoding="utf-8")
    assert Settings.load().keys == {"help": "", "answer.up": "plus", "answer.down": "minus"}
    assert Settings.load(keys={"help": "f9"}, theme="contrast").keys == {"help": "f9"}


def test_keys_of_the_wrong_kind_are_refused_with_their_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "retune.toml").write_text('[keys]\n"answer.up" = 5\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"answer\.up are 5 \(in .*retune\.toml\)"):
        Settings.load()
    monkeypatch.setenv("RETUNE_KEYS", "f8")
    with pytest.raises(SettingsError, match="in the environment, RETUNE_KEYS"):
        Settings.load()


def test_settings_with_keys_still_tell_each_other_apart(place: Path) -> None:
    one, other = Settings.load(keys={"help": "f9"}), Settings.load(keys={"help": "f8"})
    assert one != other and len({one, other}) == 2
