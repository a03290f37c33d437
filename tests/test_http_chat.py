"""OpenAI's wire: whole and streamed, by the official client and by curl; sessions, transcripts, bundles, what is refused."""

import asyncio
import json
import subprocess

import openai
import pytest
from webapp import ASK, SAID, Call, Typist, agent_of, client, closing_all, fresh_home, served, until

from agent.surfaces.http.app import make_app

Q = "How long may I keep it?"


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
def call(agents):
    return Call(make_app(agents))


@pytest.fixture(scope="module")
def url(call):
    with served(call.app) as at:
        yield at


@pytest.fixture
def ai(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


def say(*lines: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if number % 2 else "user", "content": line} for number, line in enumerate(lines)]


def test_the_official_client_gets_a_whole_answer_that_says_what_it_was_made_from(ai, agents):
    done = ai.chat.completions.create(model="customer_service", messages=say(Q))
    assert done.choices[0].message.content == SAID and done.choices[0].finish_reason == "stop"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (12, 7, 19)
    assert done.system_fingerprint == "customer_service@0001" and done.object == "chat.completion"
    why = done.retune
    assert (why["domain"], why["intent"], why["state"]) == ("customer_service", "return_policy", "answered")
    assert why["sources"][0]["source"] == "Returns policy, section 2" and why["timings_ms"]["total"] >= 0
    turn = agents[0].store.turn(done.id.removeprefix("chatcmpl-"))
    assert turn["reply"] == SAID and turn["session"] == why["session"]


def test_the_official_client_gets_a_stream_of_chunks_in_order(ai):
    chunks = list(ai.chat.completions.create(model="customer_service", messages=say(Q), stream=True,
                                             stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and {chunk.id for chunk in chunks} == {chunks[0].id}
    told = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(told) == SAID and len([each for each in told if each]) == 2, "a sentence each"
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-2].retune["intent"] == "return_policy"
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 19
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_official_client_holds_a_streamed_conversation_with_its_transcript_alone(ai, agents):
    transcript, ids, sessions = [], [], []
    for question in (Q, "And the box?", "hello"):
        transcript.append({"role": "user", "content": question})
        told = ""
        for chunk in ai.chat.completions.create(model="customer_service", messages=transcript, stream=True, user="ann"):
            told += chunk.choices[0].delta.content or ""
            if chunk.choices[0].finish_reason:
                ids.append(chunk.id)
                sessions.append(chunk.retune["session"])
        transcript.append({"role": "assistant", "content": told})
    assert len(set(sessions)) == 1 and len(set(ids)) == 3
    assert [turn["question"] for turn in agents[0].store.conversation(sessions[0])] == [Q, "And the box?", "hello"]


def test_the_official_async_client_is_answered_too(url):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as ai:
            return [model.id async for model in await ai.models.list()], await ai.chat.completions.create(
                model="retune", messages=say("What would a loan of $12,000 at 6.5% over 5 years cost me a month?"))

    models, done = asyncio.run(ask())
    assert {"customer_service", "finance", "retune", "finance@0001"} <= set(models)
    assert done.retune["domain"] == "finance" and "$234.79" in done.choices[0].message.content
    assert done.retune["tools"][0]["arguments"] == {"amount": 12000.0, "rate": 6.5, "years": 5.0}
    assert done.usage.total_tokens == 0, "no model wrote it"


@pytest.mark.parametrize("given, error, param", [
    ({"model": "nobody"}, openai.NotFoundError, "model"), ({"model": "finance@0999"}, openai.NotFoundError, "model"),
    ({"model": "finance@x"}, openai.NotFoundError, "model"), ({"n": 2}, openai.BadRequestError, "n"),
    ({"logprobs": True}, openai.BadRequestError, "logprobs"),
    ({"modalities": ["text", "audio"]}, openai.BadRequestError, "modalities"),
    ({"audio": {"voice": "x", "format": "wav"}}, openai.BadRequestError, "audio"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "tools"),
    ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "response_format"),
    ({"extra_body": {"best_of": 3}}, openai.BadRequestError, "best_of"),
    ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"), ({"messages": []}, openai.BadRequestError, "messages"),
    ({"messages": [{"role": "assistant", "content": "Hi."}]}, openai.BadRequestError, "messages"),
    ({"messages": [{"role": "user", "content": " \n"}]}, openai.BadRequestError, "messages"),
    ({"messages": [{"role": "user", "content": "x" * 8001}]}, openai.BadRequestError, "messages"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, openai.BadRequestError, "messages[0].role"),
])
def test_what_cannot_be_done_is_an_error_of_the_official_client_that_names_the_parameter(ai, given, error, param):
    with pytest.raises(error) as raised:
        ai.chat.completions.create(**{"model": "customer_service", "messages": say(Q)} | given)
    assert raised.value.param == param and raised.value.code and len(raised.value.body["message"]) > 20


def test_curl_holds_a_streamed_conversation(url, agents):
    def curl(text: str) -> tuple[str, str]:
        told = subprocess.run(["curl", "-sN", "-D", "-", f"{url}/v1/chat/completions", "-H", "Content-Type: application/json",
                               "-H", "X-Session-Id: by-curl", "-d", json.dumps(ASK | {"stream": True, "messages": say(text)})],
                              capture_output=True, text=True, check=True, timeout=60).stdout
        head, _, body = told.replace("\r\n", "\n").partition("\n\n")
        return head.lower(), body

    head, body = curl(Q)
    assert "200 ok" in head and "text/event-stream" in head and "x-session-id: by-curl" in head and "no-store" in head
    assert body.endswith("data: [DONE]\n\n")
    assert "".join(json.loads(line[6:])["choices"][0]["delta"].get("content", "") for line in body.splitlines()
                   if line.startswith("data: {")) == SAID
    curl("hello")
    assert [turn["question"] for turn in agents[0].store.conversation("by-curl")] == [Q, "hello"]


def test_a_session_is_named_by_a_header_or_by_metadata_and_only_the_last_message_is_read(call, agents):
    first = call.ask(Q, session="s1")
    assert first["retune"]["session"] == "s1"
    again = call.ask("x", messages=say("ignored", "ignored too", "hello"), metadata={"session_id": "s1", "page": "x"})
    assert again["retune"]["session"] == "s1"
    assert [turn["question"] for turn in agents[0].store.conversation("s1")] == [Q, "hello"]
    two = call("POST", "/v1/chat/completions", ASK | {"metadata": {"session_id": "s1"}}, headers={"X-Session-Id": "s2"})
    assert two.status_code == 400 and two.json()["error"]["param"] == "metadata.session_id"
    wrong = call("POST", "/v1/chat/completions", ASK, headers={"X-Session-Id": "a/b"})
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "X-Session-Id"


def test_a_session_of_another_domain_is_refused_with_that_domains_name(call):
    call.ask(Q, session="mine")
    came = call("POST", "/v1/chat/completions", ASK | {"model": "finance"}, headers={"X-Session-Id": "mine"})
    assert came.status_code == 409 and "'customer_service'" in came.json()["error"]["message"]


def test_a_transcript_that_goes_on_from_no_answer_of_ours_begins_a_session_which_knows_what_was_said(call, agents, typist):
    done = call.ask("x", messages=say("Which kettles have you?", "Two: a red and a blue one.", "and the blue one?"))
    assert len(agents[0].store.conversation(done["retune"]["session"])) == 1
    assert any("red and a blue one" in message["content"] for message in typist.seen[-1])


def test_a_transcript_whose_session_has_moved_on_or_that_another_user_sends_begins_a_new_session(call):
    first = call.ask(Q, user="ann")
    told = first["choices"][0]["message"]["content"]
    other = call.ask("x", messages=say(Q, told, "hello"), user="ben")
    assert other["retune"]["session"] != first["retune"]["session"]
    call.ask("one more", session=first["retune"]["session"])
    moved = call.ask("x", messages=say(Q, told, "hello"), user="ann")
    assert moved["retune"]["session"] != first["retune"]["session"]
    once = call.ask(Q, user="cy")
    assert call.ask("x", messages=say(Q, told, "hello"), user="cy")["retune"]["session"] == once["retune"]["session"]
    anew = call.ask("x", messages=say(Q, told, "hello"), user="cy")
    assert anew["retune"]["session"] != once["retune"]["session"]


def test_a_session_that_has_a_name_is_never_found_by_a_transcript_which_may_be_less_than_what_was_said_in_it(call):
    call.ask("My name is Zoltan Feher and I have a secret.", session="named")
    told = call.ask(Q, session="named")["choices"][0]["message"]["content"]
    assert call.ask("x", messages=say(Q, told, "hello"))["retune"]["session"] != "named"


def test_max_tokens_caps_what_the_model_writes_and_says_so(call):
    done = call.ask(Q, max_completion_tokens=4)
    assert done["choices"][0]["message"]["content"] == "You have 30 days."
    assert done["choices"][0]["finish_reason"] == "length" and done["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop, told", [("30", "You have "), (["Keep", "box"], "You have 30 days. "),
                                        (["days. Keep"], "You have 30 ")])
def test_a_stop_ends_what_is_told_even_across_pieces_and_the_turn_is_kept_whole(call, agents, stop, told, stream):
    came = call("POST", "/v1/chat/completions", ASK | {"stop": stop, "stream": stream})
    if stream:
        lines = [json.loads(line[6:]) for line in came.text.splitlines() if line.startswith("data: {")]
        said, id = "".join(each["choices"][0]["delta"].get("content", "") for each in lines), lines[0]["id"]
    else:
        said, id = came.json()["choices"][0]["message"]["content"], came.json()["id"]
    assert said == told and agents[0].store.turn(id.removeprefix("chatcmpl-"))["reply"] == SAID


def test_parts_of_text_are_read_as_one_message_and_our_own_messages_may_be_sent_back(call):
    answer = {"role": "assistant", "content": SAID, "refusal": None, "annotations": None, "audio": None, "function_call": None,
              "tool_calls": None}
    body = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": Q}, answer,
            {"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    assert call.ask("x", messages=body)["retune"]["intent"] == "greeting"
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]
    came = call("POST", "/v1/chat/completions", ASK | {"messages": picture})
    assert came.status_code == 400 and came.json()["error"]["param"].startswith("messages[0].content")


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_goes_away_stops_the_turn_which_is_logged_as_cancelled(url, agents, typist, stream):
    typist.held = True
    session = f"gone-{stream}"
    try:
        asking = subprocess.Popen(["curl", "-sN", f"{url}/v1/chat/completions", "-H", "Content-Type: application/json", "-H",
                                   f"X-Session-Id: {session}", "-d", json.dumps(ASK | {"stream": stream})],
                                  stdout=subprocess.DEVNULL)
        until(lambda: typist.at_once)
        asking.kill()
        asking.wait()
        until(lambda: agents[0].store.last_turn(session))
    finally:
        typist.held = False
    turn = agents[0].store.last_turn(session)
    assert turn["error"] == "cancelled" and turn["reply"] == "You have 30 days."


def test_an_engine_that_fails_in_mid_stream_is_an_error_event_and_no_done(ai, call, agents, typist):
    typist.fails = True
    try:
        came = call("POST", "/v1/chat/completions", ASK | {"stream": True}, headers={"X-Session-Id": "broken"})
        told = []
        with pytest.raises(openai.APIError, match="failed while it answered"):
            for chunk in ai.chat.completions.create(**ASK, stream=True):
                told.append(chunk.choices[0].delta.content)
        whole = call("POST", "/v1/chat/completions", ASK)
    finally:
        typist.fails = False
    last = came.text.strip().splitlines()[-1]
    assert json.loads(last[6:])["error"]["code"] == "engine_failed" and "[DONE]" not in came.text
    assert "10.0.0.7" not in came.text + whole.text, "no address goes out"
    assert "".join(told).strip() == "You have 30 days." and whole.status_code == 502
    assert agents[0].store.last_turn("broken")["state"] == "error"


def test_a_red_flag_is_told_in_the_words_of_its_rule_as_a_stream_too(tmp_path):
    agent = agent_of(fresh_home(tmp_path), Typist(), "medical")
    try:
        call = Call(make_app([agent]))
        body = {"model": "medical", "messages": say("my chest feels crushed and my left arm hurts")}
        whole = call("POST", "/v1/chat/completions", body).json()
        streamed = call("POST", "/v1/chat/completions", body | {"stream": True}).text
        assert whole["retune"]["state"] == "escalated" and "911" in whole["choices"][0]["message"]["content"]
        assert '"state":"escalated"' in streamed and "911" in streamed
    finally:
        closing_all([agent])


def test_a_bundle_is_loaded_when_it_is_asked_for_and_only_the_last_few_are_kept(tmp_path):
    from agent.registry import Bundle
    from agent.serving import Serving

    settings, loads = fresh_home(tmp_path), []
    agent = agent_of(settings, Typist())

    def load(of, version: str) -> Serving:
        loads.append(int(version))
        was = of.serving
        bundle = Bundle("customer_service", int(version), was.bundle.path, {"files": {}})
        return Serving(bundle, was.router, was.generator, was.index)

    from agent.registry import Registry

    built = tmp_path / "built"
    built.mkdir()
    (built / "part").write_text("x")
    for _ in range(3):
        Registry(agent.domain, settings.home).publish(built, {"made": "2026-01-01T00:00:00+00:00"})
    try:
        call = Call(make_app([agent], load=load))
        for version in (2, 3, 2, 4, 3, 1):
            done = call.ask(Q, model=f"customer_service@{version:04}")
            assert done["retune"]["bundle"] == f"customer_service@{version:04}"
        assert loads == [2, 3, 4, 3], "two are kept, and the champion is there already"
        assert call("POST", "/v1/chat/completions", ASK | {"model": "customer_service@2"}).status_code == 404
        rows = {row["id"]: row for row in call("GET", "/v1/models").json()["data"]}
        assert rows["customer_service@0003"]["created"] == 1767225600
    finally:
        closing_all([agent])


def test_calls_of_one_session_at_once_are_answered_one_after_the_other(call, agents):
    async def ask_all():
        async with client(call.app, timeout=60) as at:
            asked = [at.post("/v1/chat/completions", json=ASK | {"messages": say(f"Question {number}?")},
                             headers={"X-Session-Id": "at-once"}) for number in range(8)]
            return [came.status_code for came in await asyncio.gather(*asked)]

    assert asyncio.run(ask_all()) == [200] * 8
    turns = agents[0].store.conversation("at-once")
    assert sorted(turn["question"] for turn in turns) == [f"Question {number}?" for number in range(8)]
    assert [turn["seq"] for turn in turns] == list(range(1, 9))
