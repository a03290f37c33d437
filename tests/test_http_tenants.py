"""Two tenants do everything that two tenants may, in any order: neither ever sees a word of the other's."""

import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from webapp import Call, Typist, agent_of, fresh_home

from agent import keys
from agent.surfaces.http.app import make_app

TENANTS = ("acme", "acme.2", "ACME")  # whose names are near each other
SESSIONS = st.sampled_from(["s", "S", "s-finance", "a%2Fb", "acme", "_", "x.y", ""])
WHO = st.sampled_from(TENANTS)
SPELLINGS = st.sampled_from(["{}", "{owner}/{}", "%2F{owner}%2F{}", "{owner}%2F{}", "{}%00", "{}%20"])
KINDS = st.sampled_from(["up", "down", "none_of_these", "comment", "correction", "reply"])


class Tenants(RuleBasedStateMachine):
    """Each tenant says its own secret word; what a tenant is shown may hold no word but its own."""

    answers = Bundle("answers")

    @initialize()
    def begin(self) -> None:
        """An app with a key for each tenant."""
        self.folder = tempfile.TemporaryDirectory()
        place = fresh_home(Path(self.folder.name))
        self.agents = [agent_of(place, Typist(), name) for name in ("customer_service", "finance")]
        self.call = Call(make_app(self.agents))
        every = list(keys.SCOPES)
        self.key = {name: keys.add(self.agents[0].store, f"key-{number}", name, every, 100_000)[0]
                    for number, name in enumerate(TENANTS)}
        self.word = {name: f"zebra{number}secret" for number, name in enumerate(TENANTS)}
        self.asked = dict.fromkeys(TENANTS, 0)
        self.told: list[tuple[str, str]] = []

    def teardown(self) -> None:
        """Nothing stays."""
        if hasattr(self, "folder"):
            for agent in self.agents:
                agent.close()
            self.folder.cleanup()

    def do(self, who: str, method: str, path: str, body: object = None, **more: object) -> object:
        """One call; what comes back is looked through."""
        came = self.call(method, path, body, self.key[who], **more)
        assert came.status_code < 500, came.text
        for other in TENANTS:
            assert other == who or self.word[other] not in came.text, f"{who} was shown a word of {other}: {came.text}"
            assert f'"{who}/' not in came.text, "the store's ids stay inside"
        return came

    @rule(target=answers, who=WHO, session=SESSIONS, model=st.sampled_from(["customer_service", "retune"]),
          person=st.booleans(), stream=st.booleans())
    def ask(self, who, session, model, person, stream):
        """A turn, sometimes one that waits for a person."""
        text = f"I am {self.word[who]}, {'get me a person' if person else 'how long may I keep it?'}"
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, "user": self.word[who]}
        came = self.do(who, "POST", "/v1/chat/completions", body, headers={"X-Session-Id": session} if session else {})
        if came.status_code != 200:
            assert came.status_code in (400, 409)
            return multiple()
        self.asked[who] += 1
        whole = json.loads(came.text.splitlines()[0][6:]) if stream else came.json()
        return who, whole["id"], came.headers["x-session-id"]

    @rule(who=WHO, answer=answers)
    def go_on_by_transcript(self, who, answer):
        """A transcript of anybody's continues nobody else's session."""
        body = {"model": "customer_service", "messages": [
            {"role": "user", "content": f"I am {self.word[answer[0]]}, how long may I keep it?"},
            {"role": "assistant", "content": "You have 30 days. Keep the box."},
            {"role": "user", "content": f"and {self.word[who]}?"}]}
        came = self.call("POST", "/v1/chat/completions", body, self.key[who])
        assert came.status_code == 200
        self.asked[who] += 1
        turn = self.agents[0].store.turn(came.json()["id"].removeprefix("chatcmpl-"))
        assert turn["session"].startswith(f"{who}/")

    @rule(who=WHO, answer=answers, kind=KINDS)
    def rate(self, who, answer, kind):
        """Feedback on anybody's answer; kept only on one's own."""
        value = self.word[who] if kind in ("comment", "correction", "reply") else None
        came = self.do(who, "POST", "/v1/feedback", {"answer_id": answer[1], "kind": kind, "value": value})
        assert came.status_code in ((200, 400) if who == answer[0] else (404,))

    @rule(who=WHO, answer=answers, kind=KINDS)
    def take_back(self, who, answer, kind):
        """Taking it back."""
        came = self.do(who, "DELETE", f"/v1/feedback?answer_id={answer[1]}&kind={kind}")
        assert came.status_code in ((200, 404) if who == answer[0] else (404,))

    @rule(who=WHO, answer=answers, spell=SPELLINGS)
    def read(self, who, answer, spell):
        """A session by any spelling of its name."""
        came = self.do(who, "GET", f"/v1/sessions/{spell.format(answer[2], owner=answer[0])}")
        if who == answer[0] and spell == "{}":
            assert came.status_code == 200
        if came.status_code == 200:
            assert spell == "{}"

    @rule(who=WHO, answer=answers, archived=st.booleans())
    def change(self, who, answer, archived):
        """Name one's own session after one's word."""
        self.do(who, "PATCH", f"/v1/sessions/{answer[2]}", {"title": self.word[who], "archived": archived})

    @rule(who=WHO, status=st.sampled_from(["waiting", "taken", "answered"]))
    def desk(self, who, status):
        """The hand-offs."""
        came = self.do(who, "GET", f"/v1/handoffs?status={status}")
        assert all(row["session"].find("/") < 0 for row in came.json()["data"])

    @rule(who=WHO, answer=consumes(answers), deed=st.sampled_from(["take", "release", "answer"]))
    def settle(self, who, answer, deed):
        """A deed on anybody's hand-off; done only to one's own."""
        body = {"text": self.word[who]} if deed == "answer" else {}
        came = self.do(who, "POST", f"/v1/handoffs/{answer[1]}/{deed}", body)
        assert who == answer[0] or came.status_code == 404

    @invariant()
    def each_sees_all_of_its_own_and_no_more(self):
        """The list holds as many turns as were asked."""
        if hasattr(self, "call"):
            for who in TENANTS:
                rows = self.do(who, "GET", "/v1/sessions?limit=500&archived=true").json()["data"]
                assert sum(row["turns"] for row in rows) == self.asked[who]


TestTenants = Tenants.TestCase
TestTenants.settings = settings(max_examples=8, stateful_step_count=15, deadline=None, derandomize=True,
                                suppress_health_check=list(HealthCheck))
