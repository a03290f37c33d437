"""The web chat in a real browser: streams, sources, thumbs that are taken back, a key where one is needed, nothing but text."""

import json

import pytest
from browser import MISSING, browsing
from webapp import SAID, Call, Typist, agent_of, closing_all, fresh_home, served, until

from agent import keys
from agent.surfaces.http.app import make_app
from agent.surfaces.http.page import FOLDER

EVIL = "<img src=x onerror=alert()> <b>30</b> days."


@pytest.fixture(scope="module")
def typist():
    return Typist()


@pytest.fixture(scope="module")
def agents(tmp_path_factory, typist):
    settings = fresh_home(tmp_path_factory.mktemp("http"))
    made = [agent_of(settings, typist, name) for name in ("customer_service", "finance")]
    yield made
    closing_all(made)


@pytest.fixture(scope="module")
def app(agents):
    return make_app(agents)


def test_the_pages_load_nothing_from_elsewhere_and_have_nothing_inline(app):
    call = Call(app)
    for path in ("/", "/docs"):
        came = call("GET", path)
        policy = came.headers["content-security-policy"]
        assert came.headers["content-type"].startswith("text/html") and came.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self'" in policy
        assert "://" not in came.text and "style=" not in came.text and "onclick" not in came.text
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert "innerHTML" not in text and "eval(" not in text and "document.write" not in text
        if file.suffix in (".js", ".css", ".svg"):
            assert call("GET", f"/static/{file.name}").status_code == 200
    for path in ("/static/../page.py", "/static/%2e%2e%2fpage.py", "/static/chat.html", "/static/"):
        assert call("GET", path).status_code == 404


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_person_chats_in_the_browser(app, agents, typist, tmp_path):
    store = agents[0].store
    with served(app) as url, browsing() as page:
        page.open(url)
        page.until(lambda: page.run("return document.querySelectorAll('#model option').length") == 3)
        page.run("const m = document.querySelector('#model'); m.value = 'customer_service';"
                 "m.dispatchEvent(new Event('change'))")
        typist.held = True
        page.type("#text", "How long may I keep it?\n")
        page.until(lambda: "You have 30 days." in page.text())
        assert "Keep the box." not in page.text() and page.run("return !document.querySelector('#stop').hidden"), "it streams"
        typist.held = False
        page.until(lambda: "answered · customer_service@0001" in page.text())
        assert SAID in page.text()
        page.click("details summary")
        assert "Returns, How long: Returns policy, section 2" in page.text()
        (session,) = store.sessions()
        turn = store.last_turn(session["id"])["id"]
        page.click(".thumbs button")
        page.until(lambda: "press again" in page.text())
        assert [row["kind"] for row in store.feedback_of(turn)] == ["up"]
        page.picture(tmp_path / "answered.png")
        page.click(".thumbs button:last-child")
        page.until(lambda: [row["kind"] for row in store.feedback_of(turn)] == ["down"])
        page.click(".thumbs button:last-child")
        page.until(lambda: "Taken back." in page.text())
        assert store.feedback_of(turn) == []

        typist.answer = EVIL
        page.type("#text", "<script>document.title = 'broken'</script>\n")
        page.until(lambda: page.text().count("answered · customer_service@0001") == 2)
        assert EVIL in page.text() and "<script>" in page.text() and page.run("return document.title") == "Retune"
        assert page.run("return document.querySelectorAll('main img, main b, main script').length") == 0
        typist.answer = SAID

        page.open(url)
        page.until(lambda: page.text().count("answered · customer_service@0001") == 2)
        assert store.sessions()[0]["turns"] == 2, "the conversation is there again after a reload"
        page.type("#text", "hello\n")
        page.until(lambda: store.sessions()[0]["turns"] == 3)
        page.until(lambda: page.run("return !document.querySelector('#send').hidden"))
        page.click("#new")
        page.until(lambda: SAID not in page.text())

        typist.held = True
        page.type("#text", "How long may I keep it?\n")
        page.until(lambda: "You have 30 days." in page.text())
        page.click("#stop")
        page.until(lambda: "Stopped." in page.text())
        until(lambda: len(store.sessions()) == 2)
        typist.held = False
        until(lambda: store.sessions()[0]["turns"] == 1)
        assert store.last_turn(store.sessions()[0]["id"])["error"] == "cancelled"

        typist.fails = True
        page.type("#text", "How long may I keep it?\n")
        page.until(lambda: "The model failed while it answered; ask again." in page.text())
        typist.fails = False
        assert page.complaints() == []
        page.open(f"{url}/docs")
        page.until(lambda: "/v1/chat/completions" in page.text() and "/v1/feedback" in page.text())
        assert page.complaints() == []


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_key_is_asked_for_where_one_is_needed_and_left_with_the_tab(tmp_path):
    agent = agent_of(fresh_home(tmp_path), Typist())
    try:
        secret, _ = keys.add(agent.store, "web", "acme", ["chat", "feedback"])
        with served(make_app([agent])) as url, browsing() as page:
            page.open(url)
            page.until(lambda: "This server needs a key." in page.text())
            page.type("#secret", "rtk_wrong\n")
            page.until(lambda: "opens nothing" in page.text())
            page.type("#secret", secret + "\n")
            page.until(lambda: not page.run("return document.querySelector('#model').disabled"))
            assert "This server needs a key." not in page.text()
            page.type("#text", "How long may I keep it?\n")
            page.until(lambda: SAID in page.text())
            assert agent.store.sessions()[0]["id"].startswith("acme/")
            kept = page.run("return JSON.stringify([localStorage, sessionStorage])")
            assert secret not in json.dumps(json.loads(kept)[0]) and json.loads(kept)[1]["retune.key"] == secret
    finally:
        closing_all([agent])
