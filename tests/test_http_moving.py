"""One conversation goes from surface to surface by its session id: HTTP, Python, the command, the terminal app."""

import asyncio
import json
from contextlib import closing

from tui import app_on, piloted, say, text_of, until
from typer.testing import CliRunner
from webapp import Call, Typist, agent_of

from agent import Agent, ScriptedGenerator
from agent.settings import Settings
from agent.store import Store
from agent.surfaces import cli
from agent.surfaces.http.app import make_app


def test_a_conversation_begun_over_http_goes_on_in_python_by_the_command_and_back(settings):
    agent = Agent.load("finance", generator=ScriptedGenerator(""), home=settings.home)
    call = Call(make_app([agent]))
    first = call.ask("What would a loan of $12,000 at 6.5% over 5 years cost me a month?", session="moving", model="finance")
    assert "$234.79" in first["choices"][0]["message"]["content"]
    then = agent.ask_sync("and over 7 years?", "moving")
    assert then.turn.slots == {"amount": 12000.0, "rate": 6.5, "years": 7.0}
    agent.close()
    done = CliRunner().invoke(cli.app, ["ask", "finance", "and over 8 years?", "--session", "moving", "--json"],
                              catch_exceptions=False)
    by_command = json.loads(done.stdout)
    assert by_command["session_id"] == "moving" and by_command["tools"][0]["arguments"]["years"] == 8.0
    again = Agent.load("finance", generator=ScriptedGenerator(""), home=settings.home)
    back = Call(make_app([again]))
    last = back.ask("and over 10 years?", session="moving", model="finance")
    assert last["retune"]["tools"][0]["arguments"] == {"amount": 12000.0, "rate": 6.5, "years": 10.0}
    assert [each["question"] for each in back("GET", "/v1/sessions/moving").json()["exchanges"]][1:] == [
        "and over 7 years?", "and over 8 years?", "and over 10 years?"]
    again.close()


def test_a_conversation_begun_over_http_goes_on_in_the_terminal_app_and_back(home):
    agent = agent_of(Settings.load(home=home), Typist())
    call = Call(make_app([agent]))
    session = call.ask("How long may I keep it?")["retune"]["session"]

    async def talk() -> None:
        app = app_on(home, Typist("Yes, the box too."))
        async with piloted(app) as pilot:
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "How long may I keep it?" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.chat.messages)
            await say(pilot, "And the box?")

    asyncio.run(talk())
    exchanges = call("GET", f"/v1/sessions/{session}").json()["exchanges"]
    assert [each["reply"] for each in exchanges] == ["You have 30 days. Keep the box.", "Yes, the box too."]
    assert call.ask("hello", session=session)["retune"]["session"] == session
    agent.close()
    with closing(Store(Settings.load(home=home).database_url)) as store:
        store.open()
        assert [row["turns"] for row in store.sessions()] == [3]
