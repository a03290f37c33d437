"""Recipes are complete, and a mistake in one names its key and its file."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from agent import paths
from agent.errors import DataError
from tuning import recipe

TEXT = (paths.RECIPES / "default.toml").read_text(encoding="utf-8")


def written(tmp_path: Path, old: str, new: str, count: int = 1) -> Path:
    """The default recipe with one place changed."""
    assert old in TEXT
    file = tmp_path / "mine.toml"
    file.write_text(TEXT.replace(old, new, count), encoding="utf-8")
    return file


@pytest.mark.parametrize("file", sorted(paths.RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_shipped_recipe_loads_and_goes_by_the_name_of_its_file(file: Path):
    assert recipe.load(file.stem).name == file.stem


def test_a_saved_recipe_reads_back_as_it_was():
    read = recipe.load("default")
    assert recipe.of_table(read.table(), "recipe.json") == read


def test_every_key_is_asked_for_by_its_name():
    whole = tomllib.loads(TEXT)
    for part, table in ((key, value) for key, value in whole.items() if isinstance(value, dict)):
        for key in table:
            short = whole | {part: {name: value for name, value in table.items() if name != key}}
            with pytest.raises(DataError, match=rf"here: \[{part}\]: {key} is missing"):
                recipe.of_table(short, "here")


def test_every_number_has_a_range_and_every_word_its_choices():
    parts = (recipe.RouterRecipe, recipe.GeneratorRecipe, recipe.AugmentRecipe, recipe.PreferenceRecipe, recipe.SearchRecipe)
    for part in parts:
        for field in dataclasses.fields(part):
            assert field.name in (recipe.CHOICES if field.type is str else recipe.RANGES)


@pytest.mark.parametrize(("old", "new", "said"), [
    ("rank = 16", "rank = 0", "rank = 0 must lie between 1 and 1024"),
    ("rank = 16", "rank = 1.5", "rank = 1.5 must be a whole number"),
    ("rank = 16", "rank = true", "rank = True must be a whole number"),
    ("learning_rate = 1e-3", "learning_rate = nan", "learning_rate = nan must be a number"),
    ("learning_rate = 1e-3", "learning_rate = -1", "learning_rate = -1 must lie between"),
    ('optimiser = "adamw"', 'optimiser = "lion"', "optimiser = 'lion' must be one of 'adamw', 'adam', 'sgd', 'adafactor'"),
    ('method = "none"', 'method = "lora"', r"\[preference\] method = 'lora' must be one of 'none', 'dpo'"),
    ("patience = 3", "patience = 3\npatienc = 2", "there is no key 'patienc'"),
    ("[search]", "[serch]", "search is missing"),
    ("seed = 7", 'seed = "7"', "seed = '7' must be a whole number"),
    ("seed = 7", "seed =", "is not TOML"),
])
def test_a_wrong_value_is_refused_with_its_key_and_file(tmp_path: Path, old: str, new: str, said: str):
    with pytest.raises(DataError, match=f"(?s)mine.toml.*{said}"):
        recipe.load(written(tmp_path, old, new))


def test_a_generator_has_no_head_to_train_alone(tmp_path: Path):
    file = tmp_path / "mine.toml"
    start, middle, end = TEXT.partition("[generator]")
    file.write_text(start + middle + end.replace('"lora"', '"head"', 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"mine.toml: \[generator\] method = 'head' is for routers"):
        recipe.load(file)
