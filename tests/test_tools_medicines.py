"""Medicines: the label's figures over the counter, none on prescription, and no false safety."""

import csv
import re
from pathlib import Path

import pytest
from langchain_core.tools import ToolException

from tools.medicines import interaction, label_dose, medicine_facts, side_effects

DATA = Path(__file__).parent.parent / "domains" / "medical" / "data"
CONFIG = {"configurable": {"data": DATA}}


def rows(name):
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("medicine", "most"),
    [
        ("ibuprofen", "1,200 mg"),
        ("naproxen", "660 mg"),
        ("loperamide", "8 mg"),
        ("pseudoephedrine", "240 mg"),
        ("acetaminophen", "3,000 mg"),
        ("aspirin", "3,900 mg"),
        ("loratadine", "10 mg"),
    ],
)
def test_the_label_dose_names_the_most_allowed_in_a_day(medicine, most):
    summary = label_dose.invoke({"medicine": medicine}, CONFIG)["summary"]
    assert most in summary and "24 hours" in summary


@pytest.mark.parametrize("row", rows("medicines"), ids=lambda row: row["name"])
def test_every_medicine_can_be_told_and_names_a_source(row):
    for tool in (medicine_facts, label_dose, side_effects):
        told = tool.invoke({"medicine": row["name"]}, CONFIG)
        assert told["summary"].lower().startswith(row["name"][:6].lower())
        assert told["data"]["source"].startswith("https://")


@pytest.mark.parametrize(
    "row", [row for row in rows("medicines") if not row["max"]], ids=lambda row: row["name"]
)
def test_a_prescription_medicine_gets_no_figure(row):
    summary = label_dose.invoke({"medicine": row["name"]}, CONFIG)["summary"]
    assert not re.search(r"\d", summary) and "pharmacist" in summary


def test_a_brand_or_a_misspelling_finds_the_medicine():
    assert label_dose.invoke({"medicine": "ADVIL"}, CONFIG)["data"]["name"] == "ibuprofen"
    assert label_dose.invoke({"medicine": "ibuprofin"}, CONFIG)["data"]["name"] == "ibuprofen"


def test_an_unknown_medicine_is_explained():
    with pytest.raises(ToolException, match="not in our table.*pharmacist"):
        medicine_facts.invoke({"medicine": "unobtainium"}, CONFIG)


@pytest.mark.parametrize("order", [("ibuprofen", "warfarin"), ("Coumadin", "Advil")])
def test_an_interaction_is_the_same_in_either_order(order):
    told = interaction.invoke({"medicine": order[0], "other": order[1]}, CONFIG)
    assert "serious interaction" in told["summary"] and "bleeding" in told["summary"]


def test_a_pair_without_an_entry_is_not_called_safe():
    told = interaction.invoke({"medicine": "metformin", "other": "loratadine"}, CONFIG)
    assert not told["data"]["known"]
    assert "no entry" in told["summary"] and "does not mean it is safe" in told["summary"]


def test_two_brands_of_one_medicine_are_a_warning():
    with pytest.raises(ToolException, match="Both names mean ibuprofen"):
        interaction.invoke({"medicine": "Advil", "other": "Motrin"}, CONFIG)


def test_the_table_of_pairs_is_sound():
    names, pairs = {row["name"] for row in rows("medicines")}, rows("interactions")
    assert len(names) >= 26 and len(pairs) >= 40
    assert all({row["a"], row["b"]} <= names for row in pairs)
    assert len({frozenset((row["a"], row["b"])) for row in pairs}) == len(pairs)
