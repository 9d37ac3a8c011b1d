"""The API's description says what the route table does, no more and no less."""

from __future__ import annotations

import inspect
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from loadbench.control import ControlPlane
from loadbench.external import external_run
from server import bodies, docs
from server.app import ROUTES, Receiver, make_app
from server.base import Handler, HostNames, Service
from server.openapi import document
from server.operation import parameters, pattern
from server.start import parameters_of

DOCUMENT = document(ROUTES)
UNLISTED = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/openapi.yaml", *(path for path, _ in docs.routes)}
METHODS = {"get", "put", "post", "patch", "delete"}


def described() -> set[tuple[str, str]]:
    return {(path, m.upper()) for path, item in DOCUMENT["paths"].items() for m in item if m in METHODS}


def test_it_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_public_route_of_the_application_is_described_and_nothing_else(store):
    with ThreadPoolExecutor(1) as executor:
        service = Service(store, names=HostNames("127.0.0.1", [80]), feed=None, executor=executor)
        served = {
            (rule.matcher.regex.pattern, method)
            for rule in make_app(service).wildcard_router.rules
            for method in rule.target.methods()
        }
    internal = {(path, method) for path, method in served if path.startswith("/v1/internal/")}
    unlisted = {(f"{pattern(path)}$", "GET") for path in UNLISTED}
    assert len(internal) == 4
    assert {(f"{pattern(path)}$", method) for path, method in described()} == served - internal - unlisted
    assert "internal" not in json.dumps(DOCUMENT["paths"])


@pytest.mark.parametrize(("template", "handler"), ROUTES, ids=[template for template, _ in ROUTES])
def test_a_handler_does_what_its_operations_say(template, handler):
    assert set(handler.operations) == set(handler.methods())
    for method in handler.operations:
        taken = list(inspect.signature(getattr(handler, method.lower())).parameters)[1:]
        assert taken == re.findall(r"\?P<(\w+)>", pattern(template))
        assert issubclass(handler, Handler)


def test_operations_and_models_have_names_of_their_own():
    operations = [o for _, handler in ROUTES for o in handler.operations.values()]
    ids = [item[m]["operationId"] for item in DOCUMENT["paths"].values() for m in item if m in METHODS]
    assert len(set(ids)) == len(ids) == len(operations)
    models = {model for o in operations for model in (o.answer, o.query, o.body) if model}
    assert len({model.__name__ for model in models}) == len(models)


def test_every_operation_needs_a_token_and_says_how_it_refuses():
    assert DOCUMENT["security"] == [{"token": []}]
    assert DOCUMENT["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, method in described():
        operation = DOCUMENT["paths"][path][method.lower()]
        assert "security" not in operation
        assert {"400", "401", "403", "421", "429", "503"} <= operation["responses"].keys()
        assert ("404" in operation["responses"]) >= bool(parameters(path))
        assert ("415" in operation["responses"]) == ("requestBody" in operation)


def test_a_run_can_be_started_with_every_parameter_of_the_control_plane():
    own = {"self", "test", "owner", "by", "run_id", "receiver_url"}
    given = {"name": "x", "targetUrl": "http://a", "targetUsers": 1, "spawnRate": 1, "durationSec": 1, "notes": "n"}
    given |= {"tags": ["t"], "gates": ["p95 < 1s"]}
    extra = {name: value for name, value in _EXTRA.items() if name in _aliases(bodies.NewRun)}
    run = parameters_of(bodies.NewRun.model_validate_json(json.dumps(given | extra)))
    assert set(run) == set(inspect.signature(ControlPlane.start_run).parameters) - own
    external = parameters_of(bodies.NewExternalRun.model_validate_json(json.dumps(given)))
    assert set(external) == set(inspect.signature(external_run).parameters) - own


_EXTRA = {"workers": 1, "revisionNumber": 1, "clusterId": "local", "webUi": True, "arguments": {"key": "value"}}
_EXTRA |= {"metadata": {"ticket": "SHOP-7"}}


def _aliases(model) -> set[str]:
    return {info.alias for info in model.model_fields.values()}


def test_it_is_served_as_json_and_as_yaml(store):
    with Receiver(store) as receiver:
        as_json = requests.get(f"{receiver.url}/openapi.json", timeout=5)
        as_yaml = requests.get(f"{receiver.url}/openapi.yaml", timeout=5)
    assert as_json.json() == yaml.safe_load(as_yaml.text) == DOCUMENT
    assert as_json.headers["Content-Type"] == "application/json"
    assert as_yaml.headers["Content-Type"] == "application/yaml"
