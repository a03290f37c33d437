"""Errors as an OpenAI client reads them: {"error": {"message", "type", "param", "code"}}; the message says the next step.

Knows which status an error of Retune's has; what stands in a log (paths, servers' addresses, traces) never goes out.
"""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from agent.connections import clean
from agent.errors import Busy, DataError, EngineError, RetuneError, StoreError, TooSlow, Unreachable

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
CODES = {400: "invalid_value", 401: "invalid_api_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
         408: "body_too_slow", 409: "conflict", 413: "body_too_large", 429: "rate_limit_exceeded", 500: "internal_error",
         502: "engine_failed", 503: "unavailable", 504: "engine_too_slow"}
SENTENCES = {404: "There is nothing at this address; /docs lists what there is.",
             405: "This address does not take that method; /docs lists what it takes.",
             400: "The body cannot be read; send UTF-8 JSON as /docs shows it."}
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
log = logging.getLogger("retune.http")


class Detail(BaseModel):
    """What went wrong."""

    message: str = Field(description="A sentence that says what to do next.")
    type: str
    param: str | None = Field(description="The part of the body, the query or the headers that is meant.")
    code: str


class Error(BaseModel):
    """Every answer that is no success."""

    error: Detail


class Refused(HTTPException):
    """Ends a call with a status and a sentence. `param`: the part that is meant; `code`: for programs to tell by."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None,
                 headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.param, self.code = param, code or CODES[status]

    def table(self) -> dict[str, Any]:
        """{"error": ...} as it goes out; a sign that UTF-8 cannot hold does not."""
        kind = TYPES.get(self.status_code) or ("invalid_request_error" if self.status_code < 500 else "server_error")
        detail = {"message": self.detail, "type": kind, "param": self.param, "code": self.code}
        return clean({"error": detail})

    def answer(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.table(), self.status_code, self.headers)


def busy(seconds: float, message: str, code: str | None = None) -> Refused:
    """429 with Retry-After, in whole seconds of at least 1."""
    return Refused(429, message, code=code, headers={"Retry-After": str(max(1, round(seconds + 0.5)))})


def stopping() -> Refused:
    """503: this server ends, another or the next one will answer."""
    return Refused(503, "This server is being stopped; ask again in a moment.", code="stopping", headers={"Retry-After": "5"})


def refusal(error: RetuneError) -> Refused:
    """The status and the words for an error of Retune's; what only the operator should read is logged instead."""
    if isinstance(error, DataError):
        return Refused(400, str(error))
    log.warning("%s", error)
    if isinstance(error, TooSlow):
        return Refused(504, "The model took too long to answer; ask again, perhaps more shortly.")
    if isinstance(error, Unreachable | Busy):
        return Refused(503, "No model answers just now; ask again in a moment.", headers={"Retry-After": "5"})
    if isinstance(error, EngineError):
        return Refused(502, "The model failed while it answered; ask again.")
    if isinstance(error, StoreError):
        return Refused(503, "The database cannot be used just now; try again, and if it stays so tell whoever runs this server "
                       "to look at `retune doctor`.", headers={"Retry-After": "5"})
    return Refused(503, "This cannot be served just now; whoever runs this server finds the reason in its log.")


REASONS = {
    "n": "One answer is given at a time; leave n out.",
    "tools": "The domain brings its own tools; leave tools out.",
    "tool_choice": "The domain chooses its tools itself; leave tool_choice out.",
    "functions": "The domain brings its own tools; leave functions out.",
    "function_call": "The domain chooses its tools itself; leave function_call out.",
    "logprobs": "There are no log probabilities to give; leave logprobs out.",
    "top_logprobs": "There are no log probabilities to give; leave top_logprobs out.",
    "logit_bias": "Tokens cannot be weighted here; leave logit_bias out.",
    "audio": "Answers are text; leave audio out.",
    "modalities": "Answers are text; leave modalities out.",
    "response_format": "Answers are plain text; leave response_format out.",
    "prediction": "Answers cannot be foretold here; leave prediction out.",
    "web_search_options": "The domain answers from its own articles; leave web_search_options out.",
    "store": "Conversations are kept by Retune itself; leave store out.",
}
"""Parameters that OpenAI knows and Retune does not, and why not."""


def invalid(errors: list[dict[str, Any]]) -> Refused:
    """What pydantic found, as one sentence about the first of it."""
    first = errors[0]
    place, kind, said = first["loc"], first["type"], str(first["msg"])
    names = [each for each in place if each not in ("body", "query", "path", "header")]
    param = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in names).lstrip(".") or None
    top = str(names[0]) if names else ""
    if kind == "json_invalid":
        return Refused(400, f"The body is not JSON ({first['ctx']['error']}, at character {place[-1]}); correct it and send it "
                       "again.", code="invalid_json")
    if place == ("body",):
        return Refused(400, "The body must be one JSON object, sent as application/json; /docs shows its parts.",
                       code="invalid_body")
    if top in REASONS:
        return Refused(400, REASONS[top], top, "unsupported_parameter")
    if kind == "extra_forbidden":
        return Refused(400, f"There is no parameter {param}; leave it out, or look at /docs for its name.", param,
                       "unknown_parameter")
    if kind == "missing":
        return Refused(400, f"{param} is missing; give it, as /docs shows.", param, "missing_parameter")
    return Refused(400, f"{param}: {said[:1].lower()}{said[1:]}. /docs shows what it may be.", param)


def methods_of(app: FastAPI, asked: Request) -> list[str]:
    """Every method that the address of a call takes; the route that was found first knows its own alone."""
    def taken(method: str) -> bool:
        return any(route.matches({**asked.scope, "method": method})[0] is Match.FULL for route in app.routes)

    return [method for method in METHODS if taken(method)]


def answer_errors(app: FastAPI) -> None:
    """Give every error of this app the one shape."""

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> JSONResponse:
        return invalid(list(error.errors())).answer()

    @app.exception_handler(HTTPException)
    async def _(asked: Request, error: HTTPException) -> JSONResponse:
        if not isinstance(error, Refused):
            said = SENTENCES.get(error.status_code, str(error.detail))
            headers = {"Allow": ", ".join(methods_of(app, asked))} if error.status_code == 405 else error.headers
            error = Refused(error.status_code, said, code=CODES.get(error.status_code, "error"), headers=headers)
        return error.answer()

    @app.exception_handler(RetuneError)
    async def _(_: Request, error: RetuneError) -> JSONResponse:
        return refusal(error).answer()

    @app.exception_handler(Exception)
    async def _(_: Request, error: Exception) -> JSONResponse:
        return Refused(500, "Something went wrong that should not have; its trace is in the server's log.").answer()
