"""A person's risk profile as an investor, as a score with its parts.

Knows three questions and how they are weighed; does not know income, debts or knowledge, so it is a
start of a talk with an adviser and no recommendation.
"""

from typing import Any, Literal

from langchain_core.tools import tool
from pydantic import BaseModel, Field

from tools import wording

REACTIONS = {"sell everything": 0, "sell some": 13, "hold": 27, "buy more": 40}
SHORT = 3  # years: money needed so soon is kept cautious whatever the nerve
CATEGORIES = ((65, "growth"), (35, "balanced"), (0, "cautious"))  # from this score upwards


class Profile(BaseModel):
    age: float = Field(ge=18, le=110, allow_inf_nan=False, description="age in years, adults only")
    horizon: float = Field(
        ge=0, le=60, allow_inf_nan=False, description="years until the money is needed"
    )
    reaction: Literal["sell everything", "sell some", "hold", "buy more"] = Field(
        description="what the person would do if the investments fell 20% in a month"
    )


@tool(args_schema=Profile)
def risk_profile(age: float, horizon: float, reaction: str) -> dict[str, Any]:
    """A risk score from 0 (cautious) to 100 (bold), with its category."""
    parts = {
        "horizon": round(min(horizon, 20) / 20 * 40),  # 40 points at 20 years and more
        "reaction": REACTIONS[reaction],
        "age": round(max(0.0, min(1.0, (70 - age) / 40)) * 20),  # 20 points up to 30, none from 70
    }
    score = sum(parts.values())
    capped = horizon < SHORT and score >= 35
    score = 34 if capped else score
    category = next(name for least, name in CATEGORIES if score >= least)
    why = f", kept there because the money is needed within {SHORT} years" if capped else ""
    return {
        "summary": (
            f"The risk score is {score} of 100, which is {category}{why}. It adds "
            f"{parts['horizon']} of 40 points "
            f"for a horizon of {wording.span(horizon)}, {parts['reaction']} of 40 for the reaction "
            f'"{reaction}" and '
            f"{parts['age']} of 20 for the age of {wording.figure(age)}. Cautious is below 35, "
            "balanced 35 to 64, "
            "growth 65 and over."
        ),
        "data": {"score": score, "category": category, "parts": parts, "capped": capped},
    }
