"""Who comes in over HTTP, how often and with how much; every refusal has OpenAI's shape and a sentence."""

import asyncio
import json
import re

import httpx2
import pytest
from webapp import ASK, SAID, Call, Typist, agent_of, client, closing_all, fresh_home, served, until

from agent import keys
from agent.errors import StoreError
from agent.surfaces.http.app import make_app
from agent.surfaces.http.errors import Refused
from agent.surfaces.http.gate import Gate, is_loopback
from agent.surfaces.http.limits import Allowances, Turns

WRONG = "rtk_" + "x" * 43


@pytest.fixture
def agent(tmp_path):
    made = agent_of(fresh_home(tmp_path), Typist())
    yield made
    closing_all([made])


@pytest.fixture
def call(agent):
    return Call(make_app([agent]))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """An app that never has a key."""
    made = agent_of(fresh_home(tmp_path_factory.mktemp("http")), Typist())
    yield Call(make_app([made]))
    closing_all([made])


def error(came: httpx2.Response, status: int) -> dict:
    assert came.status_code == status, came.text
    told = came.json()["error"]
    assert set(told) == {"message", "type", "param", "code"} and told["message"][-1] in ".`" and told["code"]
    return told


def test_without_any_key_this_machine_may_do_everything(here):
    assert here.ask("hello")["retune"]["intent"] == "greeting"
    for path in ("/v1/sessions", "/v1/handoffs", "/v1/bundles/customer_service", "/v1/models", "/healthz", "/docs",
                 "/openapi.json"):
        assert here("GET", path).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", "", "[",
                                  "localhost.x"])
def test_without_a_key_a_foreign_host_is_turned_away_so_that_no_name_can_be_bent_to_this_machine(here, host):
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/"), ("GET", "/v1/models")):
        came = here(method, path, ASK if method == "POST" else None, headers={"Host": host})
        assert error(came, 403)["code"] == "foreign_host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.8.8.8", "[::1]:8080"])
def test_every_name_of_this_machine_is_no_foreign_host(here, host):
    assert here("GET", "/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8080"])
def test_without_a_key_a_page_of_another_origin_is_turned_away(here, origin):
    assert error(here("POST", "/v1/chat/completions", ASK, headers={"Origin": origin}), 403)["code"] == "foreign_origin"


def test_the_page_of_this_server_is_let_in_and_no_other_page_may_read(here):
    came = here("POST", "/v1/chat/completions", ASK, headers={"Origin": "http://127.0.0.1:8080"})
    assert came.status_code == 200 and "access-control-allow-origin" not in came.headers


def test_pages_that_the_settings_name_may_ask_from_a_browser(tmp_path):
    from agent.settings import Settings

    agent = agent_of(Settings.load(home=tmp_path, serve_origins="https://shop.example/"), Typist())
    try:
        call = Call(make_app([agent]))
        ask = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST",
               "Access-Control-Request-Headers": "authorization,content-type"}
        assert call("OPTIONS", "/v1/chat/completions", headers=ask).headers["access-control-allow-origin"] == "https://shop.example"
        assert call("POST", "/v1/chat/completions", ASK, headers={"Origin": "https://shop.example"}).status_code == 200
        assert call("OPTIONS", "/v1/chat/completions", headers=ask | {"Origin": "https://evil.example"}).status_code == 400
    finally:
        closing_all([agent])


def test_from_the_first_key_on_everybody_needs_one_also_when_it_is_revoked(call, agent):
    secret, _ = keys.add(agent.store, "web", "acme", ["chat"])
    assert error(call("GET", "/v1/models"), 401)["code"] == "missing_api_key"
    assert error(call("GET", "/v1/models", key=WRONG), 401)["code"] == "invalid_api_key"
    assert error(call("GET", "/v1/models", headers={"Authorization": f"Basic {secret}"}), 401)
    assert call("GET", "/v1/models", key=secret).status_code == 200
    assert call("GET", "/", headers={"Host": "chat.example"}).status_code == 200, "a key is not sent by itself"
    keys.revoke(agent.store, "web")
    assert error(call("GET", "/v1/models", key=secret), 401)
    assert error(call("GET", "/v1/models"), 401)


def test_off_loopback_nobody_comes_in_without_a_key_though_none_was_made(agent):
    call = Call(make_app([agent], "0.0.0.0"))
    for path in ("/v1/models", "/v1/nothing", "/metrics", "/v1"):
        assert error(call("GET", path), 401)
    assert call("GET", "/healthz").status_code == 200


def test_a_key_does_what_its_scopes_say_and_nothing_else(call, agent):
    secrets = {scope: keys.add(agent.store, scope, "acme", [scope])[0] for scope in keys.SCOPES}
    id = call.ask("hello", secrets["chat"])["id"]
    tried = {"chat": ("GET", "/v1/sessions", None), "feedback": ("POST", "/v1/feedback", {"answer_id": id, "kind": "up"}),
             "review": ("GET", "/v1/handoffs", None), "admin": ("GET", "/v1/bundles/customer_service", None)}
    for needed, (method, path, body) in tried.items():
        for scope, secret in secrets.items():
            came = call(method, path, body, secret)
            if scope == needed:
                assert came.status_code == 200, came.text
            else:
                assert error(came, 403)["code"] == "missing_scope"
    came = call("POST", "/v1/feedback", {"answer_id": id, "kind": "reply", "value": "x"}, secrets["feedback"])
    assert error(came, 403)["code"] == "missing_scope"
    assert error(call("GET", "/metrics", key=secrets["admin"]), 404), "no metrics here"


def test_a_secret_is_told_once_and_kept_nowhere(agent, tmp_path, caplog, capfd):
    secret, key = keys.add(agent.store, "web", "acme", ["chat"])
    call = Call(make_app([agent]))
    call.ask("hello", secret)
    call("GET", "/v1/models", key=secret[:-1])
    call("POST", "/v1/chat/completions", {"model": secret}, secret)
    assert secret.startswith("rtk_") and len(secret) >= 47 and key in keys.listed(agent.store)
    out = capfd.readouterr()
    assert secret not in caplog.text + out.out + out.err
    agent.store.close()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), f"{file.name} holds the secret"


@pytest.mark.parametrize("body, kind, status", [
    (b"[1, 2]", "application/json", 400), (b"null", "application/json", 400), (b'"hi"', "application/json", 400),
    (b"{", "application/json", 400), (b"\xff\xfe{}", "application/json", 400), (b'{"model": "\xff"}', "application/json", 400),
    (b"", "application/json", 400), (b"{}", "application/json", 400), (b"{}", "text/plain", 400), (b"a=1", "", 400),
    (b'{"model": NaN}', "application/json", 400), (b"[" * 100_000, "application/json", 400),
    (b'{"model": ' + b"9" * 5000 + b"}", "application/json", 400), (json.dumps(ASK).encode(), "text/plain", 400),
    (json.dumps(ASK | {"stream": "yes"}).encode(), "application/json", 400),
    (json.dumps(ASK | {"max_tokens": "5"}).encode(), "application/json", 400),
    (json.dumps(ASK | {"messages": {"role": "user"}}).encode(), "application/json", 400),
    (json.dumps(ASK | {"\ud800": 1}).encode(), "application/json", 400),
    (json.dumps(ASK | {"model": "\ud800"}).encode(), "application/json", 400),
])
def test_a_malformed_body_is_refused_with_a_sentence(here, body, kind, status):
    told = error(here("POST", "/v1/chat/completions", content=body, headers={"Content-Type": kind} if kind else {}), status)
    assert told["type"] == "invalid_request_error"


def test_signs_that_utf8_cannot_hold_are_answered_like_any_others(here):
    messages = [{"role": "user", "content": "hello \ud83d there"}]
    came = here("POST", "/v1/chat/completions", content=json.dumps(ASK | {"messages": messages}).encode(),
                headers={"Content-Type": "application/json"})
    assert came.status_code == 200
    session = came.json()["retune"]["session"]
    assert here("GET", f"/v1/sessions/{session}").json()["exchanges"][0]["question"].startswith("hello")


def test_a_body_over_the_limit_is_refused_before_it_is_read_and_while_it_comes(tmp_path):
    from agent.settings import Settings

    agent = agent_of(Settings.load(home=tmp_path, serve_body=2000), Typist())
    try:
        call = Call(make_app([agent]))
        long = json.dumps(ASK | {"user": "x" * 2000}).encode()
        said = {"Content-Type": "application/json"}
        assert error(call("POST", "/v1/chat/completions", content=long, headers=said), 413)

        async def pieces():
            for begin in range(0, len(long), 500):
                yield long[begin:begin + 500]

        assert error(call("POST", "/v1/chat/completions", content=pieces(), headers=said), 413)
        assert error(call("POST", "/v1/chat/completions", content=b"", headers={"Content-Length": "-5"}), 413)
        assert call.ask("hello")["retune"]["state"] == "answered"
    finally:
        closing_all([agent])


def ask_gate(agent, messages, **given) -> list[dict]:
    """What a gate sends to a caller whose body comes as these ASGI messages; a float among them is a wait."""
    sent: list[dict] = []
    left = list(messages)

    async def receive() -> dict:
        while left and isinstance(left[0], float):
            await asyncio.sleep(left.pop(0))
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    async def app(scope, receive, send) -> None:
        raise AssertionError("it must not come so far")

    gate = Gate(app, agent.store, Turns(2), True, 1000, **given)
    scope = {"type": "http", "method": "POST", "path": "/v1/feedback", "headers": [(b"host", b"localhost")]}
    asyncio.run(gate(scope, receive, send))
    return sent


def test_a_body_that_comes_too_slowly_or_breaks_off_is_refused(agent):
    part = {"type": "http.request", "body": b"{", "more_body": True}
    assert ask_gate(agent, [part, 30.0, part], body_s=0.05)[0]["status"] == 408
    sent = ask_gate(agent, [part, {"type": "http.disconnect"}])
    assert sent[0]["status"] == 400 and b"broke off" in sent[1]["body"]


def test_unknown_addresses_and_methods_have_the_same_shape(here):
    for path in ("/v1/nothing", "/nothing", "/static/x.js"):
        assert error(here("GET", path), 404)


def test_a_method_that_an_address_does_not_take_is_answered_with_all_that_it_takes(here):
    api = here.app.openapi()["paths"]
    assert sum(len(methods) > 1 for methods in api.values()) >= 2, "else nothing here could be left out"
    for path, methods in api.items():
        came = here("OPTIONS", re.sub("{.*?}", "x", path))
        assert error(came, 405) and came.headers["allow"].split(", ") == sorted(name.upper() for name in methods), path


def test_a_mistake_of_ours_is_an_error_without_a_trace(agent, caplog):
    app = make_app([agent])

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    app.state.shared.catalogue.find = broken

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as at:
            return await at.post("/v1/chat/completions", json=ASK)

    came = asyncio.run(ask())
    assert error(came, 500) and "secret detail" not in came.text and "Traceback" not in came.text


def test_a_database_that_cannot_be_used_is_told_without_its_path(agent, tmp_path):
    call = Call(make_app([agent]))

    def full(*_: object, **__: object) -> None:
        raise StoreError(f"{tmp_path}/retune.db could not be written because the disk is full; free some space.")

    agent.store.sessions = full
    came = call("GET", "/v1/sessions")
    assert error(came, 503)["code"] == "unavailable" and str(tmp_path) not in came.text and came.headers["retry-after"]


def test_every_answer_forbids_to_be_guessed_at_framed_or_kept(here):
    for path in ("/v1/models", "/v1/nothing", "/healthz"):
        head = here("GET", path).headers
        assert head["x-content-type-options"] == "nosniff" and head["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in head["content-security-policy"]


def test_a_key_may_ask_so_often_a_minute_and_then_is_told_when_to_come_again():
    now = [100.0]
    key, allowances = keys.Key("web", "acme", ("chat",), rate=3, at_once=2), Allowances(lambda: now[0])
    for _ in range(3):
        with allowances.one(key):
            pass
    with pytest.raises(Refused) as refused, allowances.one(key):
        pass
    assert refused.value.status_code == 429 and 19 <= int(refused.value.headers["Retry-After"]) <= 21
    now[0] += 20
    with allowances.one(key):
        pass
    now[0] += 3600
    with allowances.one(key), allowances.one(key):
        with pytest.raises(Refused, match="2 calls open"), allowances.one(key):
            pass
    with allowances.one(key), pytest.raises(Refused), allowances.one(key):
        pass
    other = keys.Key("other", "acme", ("chat",), rate=3)
    with allowances.one(other):
        pass


def test_the_limits_of_a_key_hold_over_http_and_are_its_own(call, agent):
    few, _ = keys.add(agent.store, "few", "acme", ["chat"], rate=2)
    many, _ = keys.add(agent.store, "many", "acme", ["chat"])
    assert [call("GET", "/v1/models", key=few).status_code for _ in range(3)] == [200, 200, 429]
    came = call("GET", "/v1/models", key=few)
    assert error(came, 429)["code"] == "rate_limit_exceeded" and int(came.headers["retry-after"]) > 0
    assert call("GET", "/v1/models", key=many).status_code == 200


def test_ten_times_too_many_calls_are_answered_or_told_to_come_again_and_never_more_run_than_may(tmp_path):
    from agent.settings import Settings

    typist = Typist()
    agent = agent_of(Settings.load(home=tmp_path, serve_turns=4), typist)
    app = make_app([agent], patience=30)
    turns = app.state.shared.turns
    typist.held = True

    async def flood() -> list[httpx2.Response]:
        async with client(app, timeout=60) as at:
            asked = [asyncio.create_task(at.post("/v1/chat/completions", json=ASK | {"stream": number % 2 == 0}))
                     for number in range(40)]
            while turns.refused + turns.running + turns.waiting < 40 or typist.at_once < 4:
                await asyncio.sleep(0.01)
            assert (turns.running, turns.waiting, turns.refused) == (4, 4, 32)
            assert (await at.get("/v1/models")).status_code == 200, "what is cheap is answered all the same"
            typist.held = False
            return await asyncio.gather(*asked)

    try:
        came = asyncio.run(flood())
        fine, told = [each for each in came if each.status_code == 200], [each for each in came if each.status_code == 429]
        assert (len(fine), len(told)) == (8, 32) and all("Keep the box." in each.text for each in fine)
        assert all(error(each, 429)["code"] == "overloaded" and 1 <= int(each.headers["retry-after"]) <= 60 for each in told)
        assert typist.most == turns.peak == 4 and turns.running == turns.waiting == len(turns.tasks) == 0
        assert sum(row["turns"] for row in agent.store.sessions(limit=100)) == 8
    finally:
        closing_all([agent])


def test_a_call_that_waits_too_long_for_a_place_is_told_to_come_again(tmp_path):
    from agent.settings import Settings

    typist = Typist()
    agent = agent_of(Settings.load(home=tmp_path, serve_turns=1), typist)
    app = make_app([agent], patience=0.05)
    typist.held = True

    async def two() -> tuple[httpx2.Response, httpx2.Response]:
        async with client(app, timeout=60) as at:
            first = asyncio.create_task(at.post("/v1/chat/completions", json=ASK))
            while not typist.at_once:
                await asyncio.sleep(0.01)
            second = await at.post("/v1/chat/completions", json=ASK)
            typist.held = False
            return await first, second

    try:
        first, second = asyncio.run(two())
        assert first.status_code == 200 and error(second, 429)["code"] == "overloaded"
        assert app.state.shared.turns.waiting == 0
    finally:
        closing_all([agent])


def test_a_place_is_free_again_whatever_becomes_of_its_call(tmp_path):
    from agent.settings import Settings

    typist = Typist()
    agent = agent_of(Settings.load(home=tmp_path, serve_turns=1), typist)
    app = make_app([agent], patience=0.05)
    call, turns = Call(app), app.state.shared.turns
    try:
        for body in ({"model": "nobody"}, {"messages": []}, {"n": 2}):
            assert call("POST", "/v1/chat/completions", ASK | body).status_code >= 400
        typist.fails = True
        for stream in (False, True):
            call("POST", "/v1/chat/completions", ASK | {"stream": stream})
        typist.fails = False
        assert turns.running == 0
        assert call.ask("x?")["choices"][0]["message"]["content"] == SAID
    finally:
        closing_all([agent])


def test_more_open_calls_than_the_server_may_have_cost_nothing_but_a_429(agent):
    sent = ask_gate(agent, [], most_open=0)
    assert sent[0]["status"] == 429 and b"overloaded" in sent[1]["body"]


@pytest.mark.parametrize("name, inside", [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
                                          ("192.168.1.4", False), ("example.org", False), ("", False)])
def test_loopback_is_told_by_the_address_alone(name, inside):
    assert is_loopback(name) is inside


def test_readiness_says_what_is_missing_and_liveness_asks_nothing(agent):
    app = make_app([agent])
    with served(app) as url:
        until(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
        ready = httpx2.get(f"{url}/readyz").json()
        assert ready == {"ready": True, "checks": [{"name": "models", "ok": True, "detail": "They are loaded."},
                                                   {"name": "database", "ok": True, "detail": "It can be written."}]}

        def locked() -> None:
            raise StoreError(f"{agent.store.path} is held by another program; wait for it or end it, then try again.")

        agent.store.writing = locked
        app.state.shared.looked_at = 0.0
        came = httpx2.get(f"{url}/readyz")
        assert came.status_code == 503 and not came.json()["ready"] and str(agent.store.path) not in came.text
        assert httpx2.get(f"{url}/healthz").json() == {"alive": True}
        app.state.shared.stopping = True
        assert "stopping" in httpx2.get(f"{url}/readyz").text
        del agent.store.writing
