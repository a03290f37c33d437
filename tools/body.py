"""Body measures.

Knows the formula of the body mass index and the CDC's categories for adults; does not know
children's percentiles, muscle, or what to do about it.
"""

from typing import Any

from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field

from tools import wording

ADULT = 20  # years: below that the CDC reads the index by age and sex
SOURCE = "https://www.cdc.gov/bmi/adult-calculator/bmi-categories.html"
CATEGORIES = (  # from this index upwards
    (40.0, "class 3 obesity (severe)"),
    (35.0, "class 2 obesity"),
    (30.0, "class 1 obesity"),
    (25.0, "overweight"),
    (18.5, "healthy weight"),
    (0.0, "underweight"),
)


class Measures(BaseModel):
    height: float = Field(ge=100, le=250, allow_inf_nan=False, description="height in centimetres")
    weight: float = Field(ge=20, le=400, allow_inf_nan=False, description="weight in kilograms")
    age: float | None = Field(None, ge=0, le=120, description="age in years, if known")


@tool(args_schema=Measures)
def body_mass_index(height: float, weight: float, age: float | None = None) -> dict[str, Any]:
    """The body mass index of an adult, from height and weight."""
    if age is not None and age < ADULT:
        raise ToolException(
            f"The adult categories are for ages {ADULT} and over; for someone younger a doctor or "
            "nurse reads the index by age and sex."
        )
    metres = height / 100
    index = round(weight / metres**2, 1)
    category = next(name for least, name in CATEGORIES if index >= least)
    low, high = 18.5 * metres**2, 24.9 * metres**2
    return {
        "summary": (
            f"A height of {wording.figure(height, 1)} cm and a weight of "
            f"{wording.figure(weight, 1)} kg give a body "
            f"mass index of {index}, in the CDC category: {category}. For this height the healthy "
            "range of "
            f"18.5 to 24.9 is {low:.1f} to {high:.1f} kg. The categories are for adults of {ADULT} "
            "and over, "
            "and the index is a screening measure, not a diagnosis."
        ),
        "data": {
            "bmi": index,
            "category": category,
            "healthy_kg": [round(low, 1), round(high, 1)],
            "source": SOURCE,
        },
    }
