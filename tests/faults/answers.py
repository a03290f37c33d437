"""Everything that a server may do to an answer, each as a coroutine for `FaultServer.next`; `lost` and others are in server.

Those that begin with words are heard in part; every other one fails before the first word.
"""

import asyncio
import json

from faults.server import BLOCK, HUGE, SECONDS, WORDS, Answer, Fault


async def reset_before_the_headers(answer: Answer) -> None:
    answer.reset()


async def closed_before_the_headers(answer: Answer) -> None:
    answer.close()


async def closed_within_the_headers(answer: Answer) -> None:
    await answer.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
    answer.close()


async def reset_in_mid_answer(answer: Answer) -> None:
    await answer.begin()
    await asyncio.sleep(SECONDS)  # a reset throws away what was not read yet
    answer.reset()


async def killed_in_mid_answer(answer: Answer) -> None:
    await answer.begin()
    answer.close()


async def cut_off_within_a_line(answer: Answer) -> None:
    await answer.begin()
    await answer.chunk(json.dumps(answer.line({"content": " by card"})).encode()[:-20])
    await answer.end()


async def hangs_before_the_headers(answer: Answer) -> None:
    await asyncio.Event().wait()


async def hangs_after_the_headers(answer: Answer) -> None:
    await answer.head()
    await asyncio.Event().wait()


async def hangs_before_the_first_word(answer: Answer) -> None:
    await answer.begin(0)
    await asyncio.Event().wait()


async def hangs_in_mid_answer(answer: Answer) -> None:
    await answer.begin()
    await asyncio.Event().wait()


async def one_byte_a_second(answer: Answer) -> None:
    await answer.head()
    while True:
        for byte in b"data: " + json.dumps(answer.line({"content": " word"})).encode() + b"\n\n":
            await answer.chunk(bytes([byte]))
            await asyncio.sleep(SECONDS)


async def one_byte_of_the_headers_a_second(answer: Answer) -> None:
    await answer.send(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while True:
        await answer.send(b"y")
        await asyncio.sleep(SECONDS)


async def one_byte_a_second_in_mid_answer(answer: Answer) -> None:
    await answer.begin()
    while True:
        await answer.chunk(b"d")
        await asyncio.sleep(SECONDS)


async def pings_for_ever(answer: Answer) -> None:
    await answer.begin(0)
    while True:
        await answer.chunk(b": ping\n\n")
        await asyncio.sleep(SECONDS)


async def words_without_end(answer: Answer) -> None:
    await answer.begin()
    while True:
        await answer.event(answer.line({"content": " and"}))


async def too_many_requests(answer: Answer) -> None:
    await answer.whole(429, json.dumps({"error": {"message": "Too many requests", "code": 429}}), "application/json",
                       "retry-after: 30")


async def failed_inside(answer: Answer) -> None:
    await answer.error(500, "EngineCore encountered an issue. See stack trace (above).", "InternalServerError")


async def unavailable(answer: Answer) -> None:
    await answer.whole(503, "", "text/plain")


async def page_of_a_proxy(answer: Answer) -> None:
    await answer.whole(502, "<html><body><h1>502 Bad \x1b[31mGateway</h1></body></html>", "text/html")


async def page_with_200(answer: Answer) -> None:
    await answer.whole(200, "<html><body>Log in, please</body></html>", "text/html")


async def page_not_found(answer: Answer) -> None:
    await answer.whole(404, "<html><body>nothing here</body></html>", "text/html")


async def sent_elsewhere(answer: Answer) -> None:
    await answer.whole(302, "", "text/plain", "location: http://127.0.0.1:9/")


async def another_protocol(answer: Answer) -> None:
    await answer.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    answer.close()


async def begins_compressed(answer: Answer) -> None:
    await answer.whole(200, "\x1f\x8b\x08 and no more of it", "application/json", "content-encoding: gzip")


async def whole_answer_at_once(answer: Answer) -> None:
    message = {"role": "assistant", "content": "You can pay by card."}
    await answer.whole(200, json.dumps({"model": answer.model, "choices": [{"message": message, "finish_reason": "stop"}]}))


async def bad_json_in_mid_answer(answer: Answer) -> None:
    await answer.begin()
    await answer.event(b'{"model": "smollm2", "choices": [')
    await answer.finish()


async def half_a_character_in_mid_answer(answer: Answer) -> None:
    await answer.begin()
    line = json.dumps(answer.line({"content": " caf\u00e9"}), ensure_ascii=False).encode()
    await answer.event(line.replace("\u00e9".encode(), b"\xc3"))
    await answer.finish()


async def no_done(answer: Answer) -> None:
    await answer.begin(len(WORDS))
    await answer.event(answer.line({"content": ""}, "stop"))
    await answer.end()


async def no_finish_reason(answer: Answer) -> None:
    await answer.begin(len(WORDS))
    await answer.event(b"[DONE]")
    await answer.end()


async def error_in_the_stream(answer: Answer) -> None:
    await answer.begin()
    await answer.event({"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}})
    await answer.event(b"[DONE]")
    await answer.end()


async def error_as_a_text_in_the_stream(answer: Answer) -> None:
    await answer.begin()
    await answer.event({"error": "Unauthorized"})
    await answer.end()


async def lost_in_mid_answer(answer: Answer) -> None:
    await answer.begin()
    await answer.event({"error": {"message": f"The model `{answer.model}` does not exist.", "code": 404}})
    await answer.end()


async def line_without_end(answer: Answer) -> None:
    await answer.begin()
    await answer.chunk(b"data: ")
    for _ in range(HUGE // len(BLOCK)):
        await answer.chunk(BLOCK)
    await answer.end()


async def huge_error(answer: Answer) -> None:
    await answer.head(500, "text/plain")
    for _ in range(HUGE // len(BLOCK)):
        await answer.chunk(BLOCK)
    await answer.end()


async def huge_body(answer: Answer) -> None:
    await answer.head(200, "application/json")
    for _ in range(HUGE // len(BLOCK)):
        await answer.chunk(BLOCK)
    await answer.end()


async def another_model(answer: Answer) -> None:
    answer.model = "finance@0006-00000000"
    await answer.begin(len(WORDS))
    await answer.finish()


async def another_model_in_mid_answer(answer: Answer) -> None:
    await answer.begin()
    answer.model = "finance@0006-00000000"
    await answer.event(answer.line({"content": " by cheque."}))
    await answer.finish()


async def tokens_without_a_word(answer: Answer) -> None:
    """What a server says whose cache holds NaN: it answers, and nothing is in it."""
    await answer.begin(0)
    for _ in range(5):
        await answer.event(answer.line({"content": ""}))
    await answer.finish("length")


async def prompt_too_long(answer: Answer) -> None:
    await answer.error(400, "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 "
                       "input tokens, for a total of at least 2050 tokens.", "BadRequestError", "input_tokens")


def line_of(data: bytes) -> Fault:
    """A stream with that as its second line: for the wrong schemas."""

    async def fault(answer: Answer) -> None:
        await answer.begin(0)
        await answer.event(data.replace(b"MODEL", answer.model.encode()))
        await answer.finish()

    return fault


STRANGE = {
    "a list": b"[]", "a number": b"7", "null": b"null", "nothing": b"", "no model": b'{"choices": []}',
    "no choices": b'{"model": "MODEL"}', "choices that are text": b'{"model": "MODEL", "choices": "x"}',
    "choices that are a table": b'{"model": "MODEL", "choices": {"0": 1}}',
    "no delta": b'{"model": "MODEL", "choices": [{"text": "x"}]}',
    "a delta that is null": b'{"model": "MODEL", "choices": [{"delta": null}]}',
    "words that are a number": b'{"model": "MODEL", "choices": [{"delta": {"content": 7}}]}',
    "words that are a list": b'{"model": "MODEL", "choices": [{"delta": {"content": ["x"]}}]}',
    "a reason that is a number": b'{"model": "MODEL", "choices": [{"delta": {}, "finish_reason": 1}]}',
    "usage that is text": b'{"model": "MODEL", "choices": [], "usage": "much"}',
    "tokens that are no number": b'{"model": "MODEL", "choices": [], "usage": {"prompt_tokens": "x"}}',
    "tokens without end": b'{"model": "MODEL", "choices": [], "usage": {"prompt_tokens": 1e999}}',
    "tables in tables": b'{"a":' * 100_000,
    "lists in lists": b"[" * 100_000,
    "a code that is a word": b'{"error": {"message": "x", "code": "BadRequestError"}}',
    "a control line": b'{"error": {"message": "\\u001b]0;x\\u0007 gone", "code": 500}}',
}
"""What no vLLM server sends as a line, by what is wrong."""
