"""A few generated calls for every operation of the OpenAPI file; `tests/benchmarks/api_fuzz.py` makes hundreds."""

import pytest
from fuzzing import TALK, config, fuzz, seed
from webapp import Call, Typist, agent_of, closing_all, fresh_home, served

from agent.surfaces.http.app import make_app

OPERATIONS = 17


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    settings = fresh_home(tmp_path_factory.mktemp("http"))
    made = [agent_of(settings, Typist(), name) for name in ("customer_service", "finance")]
    yield made
    closing_all(made)


def test_generated_calls_break_no_promise_of_the_openapi_file(agents):
    call = Call(make_app(agents))
    secret, ids = seed(call, agents[0].store)
    with served(call.app) as url:
        found = fuzz(url, config(ids, secret, 4, ("examples", "fuzzing")))
    assert found.failures == {} and found.errors == []
    assert len(found.calls) == OPERATIONS
    assert found.statuses[TALK][200], "else no generated call has been answered"


def test_the_openapi_file_says_how_each_operation_refuses_and_never_what_is_never_sent(agents):
    api = make_app(agents).openapi()
    operations = [(path, method, each) for path, methods in api["paths"].items() for method, each in methods.items()]
    assert len(operations) == OPERATIONS
    for path, method, each in operations:
        assert "422" not in each["responses"] and each["description"], f"{method} {path}"
        if path.startswith("/v1"):
            assert {"401", "403", "429"} <= set(each["responses"]) and each["security"] == [{"key": []}], f"{method} {path}"
        for status, answer in each["responses"].items():
            if status.startswith("4"):
                assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
    assert "ValidationError" not in str(api)
