"""From the command to the app: settings, domains, and how an agent is loaded behind the screen."""

import getpass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent import paths
from agent.settings import Settings
from agent.surfaces.tui.app import RetuneApp

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.models import Step

FIRST = "the first start reads the articles of {name}, a minute or two; what you send meanwhile is answered then …"
STAGES = {"download": "fetching", "unpack": "verifying", "convert": "converting (once, about half a minute)"}


def open_app(domain: str | None, home: Path | None) -> None:
    """Run the app until the person leaves; what runs then is logged first. Traced where OTEL_* says so."""
    from agent import tracing
    from agent.domain import shipped

    settings, end_tracing = Settings.load(home=home), tracing.start()
    app = RetuneApp(lambda name: _load(app, name), [domain] if domain else shipped(), settings, getpass.getuser())
    try:
        app.run()
    finally:
        app.close()
        end_tracing()


def _load(app: RetuneApp, name: str) -> "Agent":
    """In a thread: the first import of the models' libraries takes longer than the screen."""
    from agent.agent import Agent

    if len(list(paths.index(app.settings.home).glob("*.npy"))) < len(app.domains):  # read once, then kept there
        app.progress(FIRST.format(name=name))
    try:
        agent = Agent.load(name, home=app.settings.home, watch=partial(_progress, app, name), follow=True, on_notice=app.told)
    finally:
        app.progress("")
    return agent


def _progress(app: RetuneApp, name: str, step: "Step") -> None:
    if step.stage == "convert" and step.done:
        app.progress(FIRST.format(name=name))
        return
    share = f" {step.done / step.total:.0%}" if step.total else ""
    app.progress(f"base models: {STAGES.get(step.stage, step.stage)}{share} …")
