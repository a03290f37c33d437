"""What stands beside the chat over HTTP: feedback, sessions, hand-offs and bundles, each confined to its tenant."""

import pytest
from webapp import Call, Typist, agent_of, closing_all, fresh_home

from agent import keys
from agent.registry import Registry
from agent.surfaces.http.app import make_app

Q = "How long may I keep it?"


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    settings = fresh_home(tmp_path_factory.mktemp("http"))
    made = [agent_of(settings, Typist(), name) for name in ("customer_service", "finance")]
    yield made
    closing_all(made)


@pytest.fixture(scope="module")
def call(agents):
    return Call(make_app(agents))


@pytest.fixture(scope="module")
def key(agents):
    """Secrets by name: two of acme, one of zeta."""
    every = list(keys.SCOPES)
    return {name: keys.add(agents[0].store, name, tenant, every, 10_000)[0]
            for name, tenant in (("ann", "acme"), ("ben", "acme"), ("zoe", "zeta"))}


def told(came, status: int) -> str:
    assert came.status_code == status, came.text
    return came.json()["error"]["message"]


def test_feedback_is_kept_under_the_keys_name_and_taken_back_by_the_same_author_alone(call, key, agents):
    id = call.ask(Q, key["ann"])["id"]
    up = call("POST", "/v1/feedback", {"answer_id": id, "kind": "up", "user": "Mia"}, key["ann"]).json()
    assert [(each["author"], each["kind"]) for each in up["data"]] == [("ann/Mia", "up")] and up["answer_id"] == id
    down = call("POST", "/v1/feedback", {"answer_id": id, "kind": "down", "user": "Mia"}, key["ann"]).json()
    assert [each["kind"] for each in down["data"]] == ["down"], "one takes the other back"
    call("POST", "/v1/feedback", {"answer_id": id, "kind": "correction", "value": "Write to x@example.org"}, key["ben"])
    said = {row["author"]: row["value"] for row in agents[0].store.feedback_of(id.removeprefix("chatcmpl-"))}
    assert said == {"ann/Mia": None, "ben": "Write to [EMAIL_1]"}
    assert "nothing to take back" in told(call("DELETE", f"/v1/feedback?answer_id={id}&kind=down", key=key["ann"]), 404)
    left = call("DELETE", f"/v1/feedback?answer_id={id}&kind=down&user=Mia", key=key["ann"]).json()["data"]
    assert [each["author"] for each in left] == ["ben"]


@pytest.mark.parametrize("body, status, param", [
    ({"kind": "up"}, 400, "answer_id"), ({"answer_id": "chatcmpl-0", "kind": "up"}, 404, "answer_id"),
    ({"answer_id": "ID", "kind": "love"}, 400, "kind"), ({"answer_id": "ID", "kind": "correction"}, 400, None),
    ({"answer_id": "ID", "kind": "up", "value": "so"}, 400, None),
    ({"answer_id": "ID", "kind": "intent", "value": "x"}, 400, None),
    ({"answer_id": "ID", "kind": "reply", "value": "x"}, 400, None), ({"answer_id": "ID", "kind": "up", "x": 1}, 400, "x"),
])
def test_feedback_that_cannot_be_is_refused_with_a_sentence(call, key, body, status, param):
    id = call.ask(Q, key["ann"])["id"]
    came = call("POST", "/v1/feedback", {name: id if value == "ID" else value for name, value in body.items()}, key["ann"])
    assert len(told(came, status)) > 20 and came.json()["error"]["param"] == param


def test_a_conversation_is_listed_read_whole_named_and_laid_away(call, key):
    first = call.ask(Q, key["ann"], "talk-1")
    call.ask("hello", key["ann"], "talk-1")
    call("POST", "/v1/feedback", {"answer_id": first["id"], "kind": "up"}, key["ann"])
    (row,) = [each for each in call("GET", "/v1/sessions?domain=customer_service&limit=100", key=key["ben"]).json()["data"]
              if each["id"] == "talk-1"]
    assert row["first"] == Q and row["turns"] == 2 and row["author"] == "ann"
    whole = call("GET", "/v1/sessions/talk-1", key=key["ann"]).json()
    assert [each["question"] for each in whole["exchanges"]] == [Q, "hello"]
    assert whole["exchanges"][0]["answer_id"] == first["id"] and whole["exchanges"][0]["sources"] == ["returns#1"]
    assert whole["exchanges"][0]["feedback"] == [{"author": "ann", "kind": "up", "value": None}]
    named = call("PATCH", "/v1/sessions/talk-1", {"title": " My  kettle, a@example.org ", "archived": True}, key["ben"]).json()
    assert named["title"] == "My kettle, [EMAIL_1]" and named["archived"]
    assert "talk-1" not in {each["id"] for each in call("GET", "/v1/sessions", key=key["ann"]).json()["data"]}
    assert "talk-1" in {each["id"] for each in call("GET", "/v1/sessions?archived=true", key=key["ann"]).json()["data"]}
    assert not call("PATCH", "/v1/sessions/talk-1", {"archived": False}, key["ann"]).json()["archived"]


def test_a_hand_off_is_taken_answered_and_released_by_one_person_at_a_time(call, key):
    id = call.ask("I want to talk to a person", key["ann"], "desk-1")["id"]
    (row,) = call("GET", "/v1/handoffs", key=key["ann"]).json()["data"]
    assert (row["answer_id"], row["session"], row["status"]) == (id, "desk-1", "waiting") and row["conversation"]
    path = f"/v1/handoffs/{id}"
    assert call("POST", f"{path}/take", {"user": "Mia"}, key["ann"]).json()["by"] == "ann/Mia"
    assert call("POST", f"{path}/take", {"user": "Mia"}, key["ann"]).status_code == 200, "again is nothing"
    assert "ann/Mia has taken" in told(call("POST", f"{path}/take", {}, key["ben"]), 409)
    assert "only they can release" in told(call("POST", f"{path}/release", {}, key["ben"]), 409)
    assert "ann/Mia has taken" in told(call("POST", f"{path}/answer", {"text": "No."}, key["ben"]), 409)
    assert call("POST", f"{path}/release", {"user": "Mia"}, key["ann"]).json()["status"] == "waiting"
    done = call("POST", f"{path}/answer", {"text": "Here I am."}, key["ben"]).json()
    assert (done["status"], done["by"]) == ("answered", "ben")
    assert "has answered" in told(call("POST", f"{path}/answer", {"text": "Me too."}, key["ann"]), 409)
    assert call("POST", f"{path}/answer", {"text": "I mean: here."}, key["ben"]).status_code == 200
    assert "answered already" in told(call("POST", f"{path}/take", {}, key["ann"]), 409)
    assert "answered" in told(call("POST", f"{path}/release", {}, key["ann"]), 409)
    said = call("GET", "/v1/sessions/desk-1", key=key["ann"]).json()["exchanges"][0]["feedback"]
    assert said == [{"author": "ben", "kind": "reply", "value": "I mean: here."}]
    assert call("GET", "/v1/handoffs", key=key["ann"]).json()["data"] == []
    other = call.ask(Q, key["ann"])["id"]
    assert "handed nothing over" in told(call("POST", f"/v1/handoffs/{other}/take", {}, key["ann"]), 404)


def test_what_is_another_tenants_is_as_unknown_as_what_is_not_there(call, key):
    mine = call.ask("I want to talk to a person", key["zoe"], "secret")
    assert [each["id"] for each in call("GET", "/v1/sessions", key=key["zoe"]).json()["data"]] == ["secret"]
    for id, nowhere in (("secret", "nothing"), ("zeta/secret", "zeta/nothing"), ("%2Fzeta%2Fsecret", "x%2Fy"),
                        ("..%2Fzeta%2Fsecret", "..%2Fx")):
        for method, body in (("GET", None), ("PATCH", {"title": "x"})):
            one, other = (call(method, f"/v1/sessions/{each}", body, key["ann"]) for each in (id, nowhere))
            assert one.status_code == other.status_code == 404 and one.json() == other.json()
    for path, body in (("take", {}), ("release", {}), ("answer", {"text": "x"})):
        one, other = (call("POST", f"/v1/handoffs/{each}/{path}", body, key["ann"]) for each in (mine["id"], "nothing"))
        assert one.status_code == other.status_code == 404 and one.json() == other.json()
    one, other = (call("POST", "/v1/feedback", {"answer_id": each, "kind": "up"}, key["ann"])
                  for each in (mine["id"], "nothing"))
    assert one.status_code == other.status_code == 404 and one.json() == other.json()
    for each in (mine["id"], "nothing"):
        assert call("DELETE", f"/v1/feedback?answer_id={each}&kind=up", key=key["ann"]).status_code == 404
    same = call.ask(Q, key["ann"], "secret")
    assert len(call("GET", "/v1/sessions/secret", key=key["ann"]).json()["exchanges"]) == 1, "one of their own by the same name"
    assert same["retune"]["session"] == "secret"


def test_two_keys_of_a_tenant_do_not_take_up_each_others_transcripts(call, key):
    first = call.ask(Q, key["ann"])
    lines = [{"role": "user", "content": Q}, {"role": "assistant", "content": first["choices"][0]["message"]["content"]},
             {"role": "user", "content": "hello"}]
    assert call.ask("x", key["ben"], messages=lines)["retune"]["session"] != first["retune"]["session"]
    assert call.ask("x", key["zoe"], messages=lines)["retune"]["session"] != first["retune"]["session"]
    assert call.ask("x", key["ann"], messages=lines)["retune"]["session"] == first["retune"]["session"]


def test_all_domains_behind_one_name_keep_a_tenants_session_with_the_tenant(call, key, agents):
    first = call.ask("What would a loan of $12,000 at 6.5% over 5 years cost me a month?", key["ann"], "front", model="retune")
    assert first["retune"]["session"] == "front-finance"
    assert call.ask("and over 7 years?", key["ann"], "front", model="retune")["retune"]["domain"] == "finance"
    other = call.ask("where is my order", key["ann"], "front-finance", model="retune")
    assert other["retune"]["session"] == "front-customer_service"
    assert agents[0].store.sessions(id="acme/front-finance")[0]["turns"] == 2
    assert call("GET", "/v1/sessions/front-finance", key=key["ann"]).json()["turns"] == 2
    assert call("GET", "/v1/sessions/front-finance", key=key["zoe"]).status_code == 404


def test_bundles_are_listed_promoted_by_their_verdict_and_rolled_back_under_the_keys_name(call, key, agents, tmp_path):
    registry = Registry(agents[0].domain, agents[0].settings.home)
    for decision in ("promote", "refuse"):
        built = tmp_path / decision
        built.mkdir()
        (built / "part").write_text(decision)
        made = {"made": "2026-01-01T00:00:00+00:00", "verdict": {"decision": decision},
                "prompt": registry.get("1").manifest["prompt"]}
        registry.publish(built, made)
    path = "/v1/bundles/customer_service"
    rows = call("GET", path, key=key["ann"]).json()
    assert [(row["version"], row["alias"], row["verdict"]) for row in rows["data"]] == [
        (1, ["champion"], None), (2, [], "promote"), (3, [], "refuse")]
    assert "says refuse" in told(call("POST", f"{path}/promote", {"version": 3}, key["ann"]), 409)
    assert "has no bundle 9" in told(call("POST", f"{path}/promote", {"version": 9}, key["ann"]), 404)
    assert "not served here" in told(call("GET", "/v1/bundles/medical", key=key["ann"]), 404)
    done = call("POST", f"{path}/promote", {"version": 2, "reason": "better"}, key["ann"]).json()
    assert done["data"][1]["alias"] == ["champion"] and done["data"][0]["alias"] == ["previous"]
    assert call("POST", f"{path}/promote", {"version": 3, "force": True}, key["ben"]).status_code == 200
    assert call("POST", f"{path}/rollback", {}, key["ann"]).json()["data"][1]["alias"] == ["champion"]
    assert "no earlier champion" in told(call("POST", f"{path}/rollback", {"reason": "again"}, key["ann"]), 409)
    said = [(row["what"], row["by"], row["detail"]["reason"]) for row in registry.audit() if row["what"] != "publish"]
    assert said == [("promote", "ann", "better"), ("promote", "ben", "asked for over HTTP (forced)"),
                    ("rollback", "ann", "asked for over HTTP")]
