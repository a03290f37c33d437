"""What the label of a medicine says, and which two do not go together.

Knows `medicines.csv` and `interactions.csv`; has no figure for a prescription dose, on purpose.
Does not know the person, and a pair that is not in the table is never called safe.
"""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field

from tools import tables


class Medicine(BaseModel):
    medicine: str = Field(
        min_length=2, max_length=80, description="name of a medicine, generic or brand"
    )


class Pair(Medicine):
    other: str = Field(
        min_length=2, max_length=80, description="name of the other medicine, generic or brand"
    )


@tool(args_schema=Medicine)
def medicine_facts(medicine: str, config: RunnableConfig) -> dict[str, Any]:
    """What a medicine is for and how to take it."""
    row = _row(config, medicine)
    return {
        "summary": f"{_name(row)} is used for {row['use']}. {row['how']}",
        "data": _data(row, "use", "how"),
    }


@tool(args_schema=Medicine)
def label_dose(medicine: str, config: RunnableConfig) -> dict[str, Any]:
    """How much of a medicine its label allows an adult."""
    row = _row(config, medicine)
    if row["max"]:
        said = (
            f"{_name(row)}, adults, as on the US label: {row['dose']}. Most allowed: {row['max']}. "
            "Follow your own package where it differs."
        )
    else:
        said = (
            f"{_name(row)}: take it {row['dose']}; the right amount differs from person to person. "
            "Ask the prescriber or a pharmacist before any change."
        )
    return {"summary": f"{said}", "data": _data(row, "dose", "max")}


@tool(args_schema=Medicine)
def side_effects(medicine: str, config: RunnableConfig) -> dict[str, Any]:
    """Side effects of a medicine and who should not take it."""
    row = _row(config, medicine)
    return {
        "summary": (f"{_name(row)} can cause {row['side_effects']}. {row['cautions']}"),
        "data": _data(row, "side_effects", "cautions"),
    }


@tool(args_schema=Pair)
def interaction(medicine: str, other: str, config: RunnableConfig) -> dict[str, Any]:
    """Whether two medicines may be taken together."""
    one, two = _row(config, medicine), _row(config, other)
    a, b = one["name"], two["name"]
    if a == b:
        raise ToolException(
            f"Both names mean {a}: taking it from two packages can be too much, so ask a "
            "pharmacist first."
        )
    for row in tables.rows(config, "interactions"):
        if {row["a"], row["b"]} == {a, b}:
            return {
                "summary": f"{_name(one)} with {b}: {row['severity']}. {row['what']}",
                "data": {"medicine": a, "other": b, "known": True, **row},
            }
    return {
        "summary": (
            f"{_name(one)} with {b}: there is no entry in our table. That does not mean it is "
            "safe; "
            "ask a pharmacist before you take them together."
        ),
        "data": {"medicine": a, "other": b, "known": False},
    }


def _row(config: RunnableConfig, medicine: str) -> tables.Row:
    row = tables.find(config, "medicines", medicine)
    if row is None:
        raise ToolException(
            f"{medicine} is not in our table of medicines; check the spelling or ask a pharmacist."
        )
    return row


def _name(row: tables.Row) -> str:
    return row["name"][0].upper() + row["name"][1:]


def _data(row: tables.Row, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in ("name", *names, "source")}
