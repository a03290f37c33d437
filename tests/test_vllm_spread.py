"""Which server has which bundle is seen from outside, before any agent asks for it."""

import pytest
from faults.server import FaultServer
from webapp import Call, Typist, agent_of

from agent.domain import Domain, shipped
from agent.registry import Registry
from agent.settings import Settings
from agent.surfaces.http.app import make_app
from agent.vllm.adapters import adapter_name
from agent.vllm.spread import spread
from agent.vllm.wire import Limits, Server

SHORT = Limits(connect=2, first_token=2, total=2)


@pytest.fixture
def two():
    with FaultServer("smollm2") as one, FaultServer("smollm2") as other:
        yield one, other


def test_a_champion_on_some_servers_only_is_a_mixed_window(home, two, tmp_path):
    settings = Settings.load(home=home)
    servers = [Server(one.url, one.key, SHORT) for one in two]
    name = adapter_name(Registry(Domain.load("finance"), home).get())
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    told = spread(settings, servers)
    assert [row["bundle"] for row in told["bundles"]] == [f"{domain}@0001" for domain in shipped()]
    assert not told["mixed"] and all(row["on"] == [] and row["of"] == 2 for row in told["bundles"])
    servers[0].load(name, str(tmp_path))
    told = spread(settings, servers)
    assert told["mixed"] and {row["bundle"]: row["on"] for row in told["bundles"]}["finance@0001"] == [servers[0].url]
    servers[1].load(name, str(tmp_path))
    assert not spread(settings, servers)["mixed"]


def test_a_server_that_is_away_has_nothing(home, two):
    gone = Server("http://127.0.0.1:9", "", SHORT)
    told = spread(Settings.load(home=home), [gone, Server(two[0].url, two[0].key, SHORT)])
    assert not told["mixed"] and all(row["on"] == [] and row["of"] == 2 for row in told["bundles"])


def test_readiness_tells_the_mixed_window_until_every_server_has_the_champion(home, two, tmp_path):
    settings = Settings.load(home=home, vllm=",".join(one.url for one in two), vllm_key=two[0].key)
    servers = [Server(one.url, one.key, SHORT) for one in two]
    name = adapter_name(Registry(Domain.load("customer_service"), home).get())
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    agent = agent_of(settings, Typist())
    app = make_app([agent])
    seen = []
    for server in servers:
        server.load(name, str(tmp_path))
        app.state.shared.looked_at = 0.0
        checks = {each["name"]: each for each in Call(app)("GET", "/readyz").json()["checks"]}
        assert checks["servers"]["ok"] and "2 of 2" in checks["servers"]["detail"]
        seen.append(checks["adapters"]["detail"])
    agent.close()
    assert "lack a champion" in seen[0] and "Every server has every champion" in seen[1]
