"""One server over HTTP, beside a server that answers as vLLM does and one that does anything else."""

import asyncio
import gc
import math
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import answers
from faults.server import CHAT, LOAD, MODELS, SCORE, UNLOAD, WORDS, Answer, FaultServer, chance, no_such_route
from served import ASKED, PATIENT

from agent.errors import Busy, EngineError, Garbled, Rejected, TooSlow, Unreachable
from agent.vllm.replies import NotServed, Piece
from agent.vllm.wire import Limits, Server

SHORT = Limits(connect=0.3, first_token=0.3, total=0.8)


@pytest.fixture
def there() -> Iterator[FaultServer]:
    """A server that answers, with a key."""
    with FaultServer(key="k") as server:
        yield server


def to(server: FaultServer, limits: Limits = PATIENT) -> Server:
    return Server(server.url, server.key, limits)


def chat(server: Server, model: str = "smollm2", structured: dict | None = None) -> list[Piece]:
    """All pieces of one answer."""

    async def whole() -> list[Piece]:
        async with asyncio.timeout(30):
            deadline = time.monotonic() + server.limits.total
            return [piece async for piece in server.chat(model, ASKED, 80, deadline, structured)]

    return asyncio.run(whole())


def test_an_answer_comes_in_its_pieces_and_the_last_one_says_why_it_ended_and_what_it_took(there: FaultServer) -> None:
    pieces = chat(to(there))
    assert [piece.text for piece in pieces] == [*WORDS, ""]
    assert pieces[-1] == Piece("", "stop", 40, len(WORDS)) and not any(piece.finish for piece in pieces[:-1])


def test_what_is_asked_is_greedy_streamed_and_counted(there: FaultServer) -> None:
    chat(to(there), structured={"choice": ["yes", "no"]})
    chat(to(there))
    first, second = there.seen[CHAT]
    assert second == {"model": "smollm2", "messages": ASKED, "max_tokens": 80, "temperature": 0.0, "stream": True,
                      "stream_options": {"include_usage": True}}
    assert first == second | {"structured_outputs": {"choice": ["yes", "no"]}}


def test_adapters_are_loaded_listed_and_unloaded_and_twice_is_once(there: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    server = to(there)
    for _ in range(2):
        server.load("finance@0007-1a2b3c4d", str(tmp_path))
    assert [(model.name, model.parent, model.root, model.max_tokens) for model in server.models()] == [
        ("smollm2", "", "/models/base", 2048), ("finance@0007-1a2b3c4d", "smollm2", str(tmp_path), 0)]
    for _ in range(2):
        server.unload("finance@0007-1a2b3c4d")
    assert [model.name for model in server.models()] == ["smollm2"]


def test_scores_are_those_of_the_answer_alone(there: FaultServer) -> None:
    assert to(there).score("smollm2", [1, 2, 3], [30, 31]) == [chance(False, 30), chance(False, 31)]
    assert to(there).score("smollm2", [1, 2, 3], [30, 7, 32]) == [chance(False, 30)]  # up to where it would say something else


async def scores_nan(answer: Answer) -> None:
    await answer.whole(200, '{"choices": [{"token_ids": [0], "logprobs": {"token_logprobs": [null]}}]}')


def test_a_score_that_is_no_number_is_told_as_nan(there: FaultServer) -> None:
    there.next(SCORE, scores_nan)
    [value] = to(there).score("smollm2", [1], [7])
    assert math.isnan(value)


def test_a_model_that_is_not_there_is_told_apart_from_every_other_no(there: FaultServer) -> None:
    with pytest.raises(NotServed, match="finance@0001"):
        chat(to(there), "finance@0001")
    with pytest.raises(NotServed):
        to(there).score("finance@0001", [1], [2])


def test_a_wrong_key_is_told_with_the_setting_that_holds_it(there: FaultServer) -> None:
    wrong = Server(there.url, "other", PATIENT)
    for ask in (*ASKS.values(), chat):
        with pytest.raises(Rejected, match="vllm_key"):
            ask(wrong)
    assert wrong.healthy(), "which takes no key"


@pytest.mark.parametrize("key", ["ключ", "two\nlines", "a key "])
def test_a_key_that_no_header_can_hold_is_refused_like_a_wrong_one(there: FaultServer, key: str) -> None:
    for ask in (Server.models, chat):
        with pytest.raises(Rejected, match="vllm_key"):
            ask(Server(there.url, key, PATIENT))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://a..b:80", "http://127.0.0.1:99999", "nonsense", "", "ftp://h",
                                 "http://[::1", "http://x:port", "http://no-such-host.invalid:1", "http://\x00"])
def test_a_url_where_nothing_is_gets_the_sentence_that_says_what_to_correct(url: str) -> None:
    server = Server(url, limits=Limits(connect=5))
    for ask in (server.models, lambda: chat(server)):
        with pytest.raises(Unreachable, match="retune vllm up"):
            ask()
    assert not server.healthy()


def says(status: int, message: str):
    """A refusal as vLLM words it."""

    async def fault(answer: Answer) -> None:
        await answer.error(status, message)

    return fault


FAILED = "Call to add_lora method failed: Worker failed with error '{}', please check the stack trace above for the root cause"


@pytest.mark.parametrize("fault, kind, advice", [
    (says(500, FAILED.format("LoRA rank 64 is greater than max_lora_rank 16.")), Rejected, "--max-lora-rank"),
    (says(500, FAILED.format("LoRA is not enabled. Use --enable-lora to enable LoRA.")), Rejected, "--enable-lora"),
    (no_such_route, Rejected, "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    (says(404, "Loading lora a failed: No adapter found for <path>"), Rejected, "vllm_home"),
    (says(500, FAILED.format("invalid header length")), Rejected, "invalid header length"),
    (says(400, "The lora adapter 'a' conflicts with a served base model."), Rejected, "conflicts"),
    (says(500, "EngineCore encountered an issue."), Busy, "500"),
    (answers.too_many_requests, Busy, "429"),
    (answers.page_of_a_proxy, Busy, "502"),
    (answers.sent_elsewhere, Garbled, "302"),
])
def test_a_load_that_fails_says_what_to_change(there: FaultServer, fault, kind: type, advice: str) -> None:
    there.next(LOAD, fault)
    with pytest.raises(kind) as told:
        to(there).load("a", "/adapters/a")
    assert advice in str(told.value)


BROKEN = [answers.reset_before_the_headers, answers.closed_before_the_headers, answers.closed_within_the_headers,
          answers.too_many_requests, answers.failed_inside, answers.unavailable, answers.page_of_a_proxy, answers.page_with_200,
          answers.page_not_found, answers.sent_elsewhere, answers.another_protocol, answers.huge_body, answers.huge_error,
          answers.killed_in_mid_answer, answers.begins_compressed]
SLOW = [answers.hangs_before_the_headers, answers.hangs_after_the_headers, answers.one_byte_a_second,
        answers.one_byte_of_the_headers_a_second, answers.pings_for_ever]
ASKS = {MODELS: lambda server: server.models(), LOAD: lambda server: server.load("a", "/a"),
        UNLOAD: lambda server: server.unload("a"), SCORE: lambda server: server.score("smollm2", [1], [2])}


# Of a load or an unload the status counts, and a canary or the next look tells whether it is so; a 404 means unloaded.
WELL = {(path, fault) for path in (LOAD, UNLOAD) for fault in (answers.page_with_200, answers.huge_body,
                                                               answers.begins_compressed)} | {(UNLOAD, answers.page_not_found)}


@pytest.mark.parametrize("path, fault", [(path, fault) for path in ASKS for fault in BROKEN if (path, fault) not in WELL],
                         ids=lambda value: getattr(value, "__name__", value))
def test_a_short_question_too_ends_in_one_of_our_errors_whatever_comes(there: FaultServer, path: str, fault) -> None:
    there.next(path, fault)
    with pytest.raises(EngineError) as told:
        ASKS[path](to(there))
    plain(told.value)


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("fault", SLOW, ids=lambda fault: fault.__name__)
def test_a_short_question_has_a_deadline_for_the_whole_of_the_answer(there: FaultServer, path: str, fault, monkeypatch) -> None:
    monkeypatch.setattr("agent.vllm.wire.SLOW_S", 0.3)
    there.next(path, fault)
    with pytest.raises(TooSlow) as told:
        ASKS[path](to(there, SHORT))
    plain(told.value)
    there.next("/health", fault)
    assert not to(there, SHORT).healthy()


@pytest.mark.parametrize("data", [
    "[]", "7", "null", "[" * 100_000, '{"data": 7}', '{"data": ["x"]}', '{"data": [{}]}', '{"data": [{"id": ["x"]}]}',
    '{"data": [{"id": "x", "max_model_len": "y"}]}', '{"data": [{"id": "x", "max_model_len": 1e999}]}', '{"choices": []}',
    '{"choices": [{"token_ids": null}]}', '{"choices": [{"token_ids": [2]}]}',
    '{"choices": [{"token_ids": [2], "logprobs": null}]}',
    '{"choices": [{"token_ids": [2], "logprobs": {"token_logprobs": ["x"]}}]}',
    '{"choices": [{"token_ids": [2], "logprobs": {"token_logprobs": [-1, -1]}}]}',
], ids=range(16))
def test_json_of_another_shape_is_no_answer_of_a_vllm_server(there: FaultServer, data: str) -> None:
    async def fault(answer: Answer) -> None:
        await answer.whole(200, data)

    for path in (MODELS, SCORE):
        there.next(path, fault)
        with pytest.raises(Garbled, match="vLLM"):
            ASKS[path](to(there))


@pytest.mark.parametrize("what", answers.STRANGE)
def test_a_line_that_vllm_never_sends_is_garbled_and_nothing_of_it_is_said(there: FaultServer, what: str) -> None:
    there.next(CHAT, answers.line_of(answers.STRANGE[what]))
    with pytest.raises(EngineError) as told:
        chat(to(there))
    plain(told.value)
    assert isinstance(told.value, Busy if what == "a control line" else Garbled)


@pytest.mark.parametrize("path, fault", [
    (CHAT, answers.line_without_end), (CHAT, answers.huge_error), (CHAT, answers.huge_body), (MODELS, answers.huge_body),
    (MODELS, answers.huge_error), (SCORE, answers.huge_body)])
def test_a_body_of_100_mb_is_left_after_a_few_and_never_held(there: FaultServer, path: str, fault) -> None:
    chat(to(there))  # what is imported and made once
    before = there.sent
    there.next(path, fault)
    tracemalloc.start()
    try:
        with pytest.raises(EngineError):
            chat(to(there)) if path == CHAT else ASKS[path](to(there))
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
    assert there.sent - before < 32 << 20, "and the server was told to stop"


def test_an_event_loop_that_ended_leaves_nothing_behind(there: FaultServer) -> None:
    server = to(there)
    for _ in range(5):
        chat(server)
    gc.collect()
    assert len(server.clients) == 0


def plain(error: EngineError) -> None:
    """One sentence for a person: whole, of a bearable length, and nothing in it that speaks to a terminal."""
    told = str(error)
    assert told.isprintable() and 20 < len(told) < 600 and told[-1] in ".?", told
