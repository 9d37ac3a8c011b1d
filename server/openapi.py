"""The OpenAPI 3.1 document of the API, made of the route table, its operations and their models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from loadbench import __version__
from server.access import ApiHandler
from server.base import Handler, Service
from server.operation import Operation, Problem, parameters
from server.start import KEY_HEADER, MAX_KEY

REF = "#/components/schemas/{model}"
DESCRIPTION = """\
Define load tests, revise their scripts, start and stop runs on Locust, and read their figures.

Make a token with `loadbench token create`, and send it as `Authorization: Bearer <token>`. Its role says what it may
do: a viewer reads; a runner also defines, revises, starts, stops and annotates; an admin also deletes. Its scope says
on which records: any other one answers 404, as if it did not exist.

- Names are camelCase. Times are Unix milliseconds (UTC). Absent values are left out.
- Bodies are strict JSON of at most 1 MiB: a field that is not described is refused. Of a key given twice, the last
  one holds.
- Lists come in pages: `nextCursor` of an answer is the `cursor` of the next page; records that come meanwhile move
  nothing.
- Errors are `application/problem+json`: `type`, `title`, `status`, `detail`, and the `field` that is wrong.
"""
_REASONS = {
    400: "The request cannot be used; `field` says which part of it.",
    401: "There is no token, or none that is good.",
    403: "The token's role or scope does not cover this, or a page of another site asks.",
    404: "There is no such record in the token's scope.",
    409: "The state of the record forbids it.",
    412: "The record was edited since it had that ETag.",
    413: "The body has more than 1 MiB.",
    415: "The body is not `application/json`.",
    421: "The Host header names another server.",
    422: "The request can be read, but not done.",
    428: "If-Match is missing.",
    429: "The server is busy; see Retry-After.",
    503: "The server cannot do this now, or MongoDB does not answer; see Retry-After.",
}
_ETAG = {"description": "Changes with the record.", "schema": {"type": "string"}}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "The ETag that was read.",
    "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": 200},
}
_KEY = {
    "name": KEY_HEADER,
    "in": "header",
    "description": "The same key and body again start no second run: the answer is the first one's run, with 200. "
    "Kept for 24 hours.",
    "schema": {"type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": MAX_KEY},
}
Routes = Sequence[tuple[str, type[ApiHandler]]]


def document(routes: Routes) -> dict[str, Any]:
    """Describe a route table as OpenAPI 3.1."""
    schemas = _schemas(_models(routes))
    paths: dict[str, Any] = {}
    for template, handler in routes:
        item: dict[str, Any] = {"parameters": [_path_parameter(name) for name in parameters(template)]}
        for method, operation in handler.operations.items():
            item[method.lower()] = _operation(template, method, operation, schemas)
        paths[template] = item if item["parameters"] else {k: v for k, v in item.items() if k != "parameters"}
    queries = {operation.query.__name__ for operation in _operations(routes) if operation.query}
    return {
        "openapi": "3.1.0",
        "info": {"title": "loadbench", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "An API token."}},
            "responses": {str(status): _refusal(status) for status in _REASONS},
            "schemas": {name: schema for name, schema in sorted(schemas.items()) if name not in queries},
        },
    }


def _operations(routes: Routes) -> Iterable[Operation]:
    return (operation for _, handler in routes for operation in handler.operations.values())


def _models(routes: Routes) -> list[type[BaseModel]]:
    named = [model for o in _operations(routes) for model in (o.answer, o.query, o.body) if model is not None]
    return list(dict.fromkeys([Problem, *named]))


def _schemas(models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """Give the JSON schemas of models and of those that they refer to, as clients meet them: with absent values."""
    pairs = [(model, "validation") for model in models]
    schemas = models_json_schema(pairs, ref_template=REF)[1]["$defs"]
    for schema in schemas.values():
        for part in (schema, *schema.get("properties", {}).values()):
            part.pop("title", None)  # pydantic's guess; the name says as much
    return schemas


def _operation(template: str, method: str, operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name or _name(template, method),
        "summary": operation.summary,
        "tags": [_tag(template)],
    }
    needs = f"Needs the role {operation.role}."
    described["description"] = f"{operation.description} {needs}".strip()
    if found := _parameters(operation, schemas):
        described["parameters"] = found
    if operation.body:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    described["responses"] = _responses(template, operation)
    return described


def _parameters(operation: Operation, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    found = [_IF_MATCH | {"required": 428 in operation.refuses}] if operation.if_match else []
    found += [_KEY] if operation.idempotent else []
    if operation.query is None:
        return found
    schema = schemas[operation.query.__name__]
    for name, given in schema.get("properties", {}).items():
        required = name in schema.get("required", ())
        parameter = {"name": name, "in": "query", "required": required, "schema": _plain(given)}
        if "description" in given:
            parameter["description"] = given["description"]
        found.append(parameter)
    return found


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """Give the schema of a query parameter's value: one that is left out is absent, and never null."""
    plain = {key: value for key, value in given.items() if key != "description"}
    kinds = [kind for kind in plain.pop("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1 and plain.get("default", 0) is None:
        plain = {key: value for key, value in plain.items() if key != "default"} | kinds[0]
    elif kinds:
        plain["anyOf"] = kinds
    return plain


def _responses(template: str, operation: Operation) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase}
    if operation.answer:
        good["content"] = {"application/json": {"schema": _reference(operation.answer)}}
    headers = {"ETag": _ETAG} if operation.etag else {}
    if operation.status == HTTPStatus.CREATED:
        headers["Location"] = {"description": "Where the new record is.", "schema": {"type": "string"}}
    if headers:
        good["headers"] = headers
    responses = {str(operation.status): good}
    if operation.idempotent:
        responses["200"] = good | {"description": "An earlier request with this key has started it."}
    if operation.etag and operation.status == HTTPStatus.OK:
        responses["304"] = {"description": "It still has the ETag that was given as If-None-Match."}
    return responses | {str(s): {"$ref": f"#/components/responses/{s}"} for s in operation.problems(template)}


def _refusal(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": _REASONS[status],
        "content": {"application/problem+json": {"schema": _reference(Problem)}},
    }
    if status in (429, 503):
        described["headers"] = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}}
    return described


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def _tag(template: str) -> str:
    words = template.split("/")[2:]
    if "metrics" in words or words[-1] in ("graph", "summary", "requests"):
        return "Figures"
    return "Runs" if "runs" in words else words[0].replace("-", " ").capitalize()


def _name(template: str, method: str) -> str:
    words = [word.strip("{}") for word in template.split("/")[2:]]
    return method.lower() + "".join(part[:1].upper() + part[1:] for word in words for part in word.split("-"))


class DocumentHandler(Handler):
    """Serves the document, as JSON or YAML; it is the same for everybody."""

    limited = False

    def initialize(self, service: Service, content: bytes, media_type: str) -> None:
        super().initialize(service)
        self._content, self._media_type = content, media_type

    async def get(self) -> None:
        self.set_header("Content-Type", self._media_type)
        self.finish(self._content)


def routes_of(service: Service, routes: Routes) -> list[tuple[str, type[Handler], dict[str, Any]]]:
    """Give the routes at which the document of a route table is served."""
    described = document(routes)
    as_json = json.dumps(described, indent=2).encode()
    as_yaml = yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=120).encode()
    return [
        ("/openapi.json", DocumentHandler, {"service": service, "content": as_json, "media_type": "application/json"}),
        ("/openapi.yaml", DocumentHandler, {"service": service, "content": as_yaml, "media_type": "application/yaml"}),
    ]
