"""Who may do what over the API: a token's role decides what, its scope on which records.

A record outside of the scope answers as one that does not exist, with the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from loadbench.errors import NotFound
from loadbench.model import ApiToken, LoadTest, LoadTestRun, Scope, Scoped
from server.base import Handler, Refused, bearer, refusal
from server.bodies import OwnScope
from server.naming import in_wire_words, unknown_field
from server.operation import Operation, Query

if TYPE_CHECKING:
    from loadbench.control import ControlPlane

Body = TypeVar("Body", bound=BaseModel)
Asked = TypeVar("Asked", bound=Query)
Found = TypeVar("Found", bound=Scoped)


class ApiHandler(Handler):
    """The base of the handlers below `/v1` that need an API token.

    `operations` says what each method takes and gives. When a method is called, the token is known and good for it,
    and the query string is checked.
    """

    operations: ClassVar[dict[str, Operation]]
    caller: ApiToken

    @property
    def operation(self) -> Operation:
        return self.operations[self.request.method]

    def check(self) -> None:
        super().check()
        origin = self.request.headers.get("Origin")
        if origin is not None and not self._is_ours(urlsplit(origin).netloc):
            raise Refused(403, "cross_site", "this API is not for pages of other sites; send no Origin header")

    def _is_ours(self, address: str) -> bool:
        return address == self.request.headers["Host"] or self.service.names.allow(address, self._local_address)

    def _check_body_head(self) -> None:
        if self.operation.body is not None:
            super()._check_body_head()

    async def authorize(self) -> None:
        secret, usable = bearer(self.request.headers.get("Authorization", ""))
        caller = await self.run(self.service.store.tokens.find_api, secret)
        if caller is None or not usable:
            raise Refused(
                401,
                "unauthorized",
                "give an API token as Authorization: Bearer <token>; `loadbench token create` makes one",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not caller.may(self.operation.role):
            raise Refused(403, "forbidden", f"this needs the role {self.operation.role}; the token's is {caller.role}")
        self.caller = caller
        self._query = self._read_query(self.operation.query or Query)

    async def _call(self, *call: Any) -> Any:
        try:
            return await super()._call(*call)
        except Refused as refused:
            detail, field = in_wire_words(refused.problem["detail"], refused.problem.get("field"))
            refused.problem |= {"detail": detail} | ({"field": field} if field else {})
            raise

    @property
    def control(self) -> ControlPlane:
        """What starts and stops runs; 503 where the receiver was given none."""
        if self.service.control is None:
            raise Refused(503, "unavailable", "this receiver does not start or stop runs: ask the one that does")
        return self.service.control

    def query_of(self, model: type[Asked]) -> Asked:
        """Give the query string, as the operation's model of it."""
        assert isinstance(self._query, model)
        return self._query

    def body_of(self, model: type[Body]) -> Body:
        """Read the body: strict JSON, fields by their names on the wire. Of a key given twice the last one holds."""
        try:
            return model.model_validate_json(self.body(), by_alias=True, by_name=False)
        except ValidationError as error:
            raise refusal(unknown_field(model, error) or error) from None

    async def visible_test(self, test_id: str) -> LoadTest:
        """Fetch a test that the caller may see; 404 otherwise."""
        return await self.run(self.within_scope, self.service.store.load_tests.get, test_id, "test")

    async def visible_run(self, run_id: str) -> LoadTestRun:
        """Fetch a run that the caller may see; 404 otherwise."""
        return await self.run(self.within_scope, self.service.store.runs.get, run_id, "run")

    def within_scope(self, get: Callable[[str], Found], record_id: str, noun: str) -> Found:
        """Fetch a record by its id, blocking; 404 in the same words if there is none and if it is somebody else's."""
        try:
            record = get(record_id)
        except NotFound:
            record = None
        if record is None or not self.caller.allows(record):
            raise Refused(404, "not_found", f"there is no such {noun}")
        return record

    def scope_of(self, body: OwnScope) -> Scope:
        """Give a new record's scope: each part from the token, and what that leaves open from the body."""
        parts = {"env_id": body.env_id}
        for name, alias in (("account_id", "accountId"), ("org_id", "orgId"), ("project_id", "projectId")):
            own, given = getattr(self.caller, name), getattr(body, name)
            if own and given and given != own:
                raise Refused(403, "forbidden", f"this token is for {alias} {own} only", field=alias)
            if not own and not given:
                raise Refused(400, "invalid_input", f"{alias} is missing, and the token is not of one", field=alias)
            parts[name] = own or given
        return Scope(**parts)

    def write_record(
        self,
        status: int,
        record: BaseModel,
        *,
        etag: str | None = None,
        location: str | None = None,
        without: Set[str] = frozenset(),
    ) -> None:
        """Answer with a record: camelCase names, absent values left out, and the fields `without`."""
        self._etag = etag
        self.set_status(status)
        if etag and self.request.method != "GET":  # there Tornado does, and looks at If-None-Match as well
            self.set_header("ETag", etag)
        if location:
            self.set_header("Location", location)
        self.set_header("Content-Type", "application/json")
        self.finish(record.model_dump_json(by_alias=True, exclude_none=True, exclude=set(without)))

    def write_items(
        self, items: Iterable[BaseModel], *, next_cursor: str | None = None, without: Set[str] = frozenset()
    ) -> None:
        """Answer with a list of records."""
        rows = [item.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(without)) for item in items]
        self.reply(200, {"items": rows} | ({"nextCursor": next_cursor} if next_cursor else {}))

    def write_nothing(self) -> None:
        self.set_status(204)
        self.finish()

    def compute_etag(self) -> str | None:
        return getattr(self, "_etag", None)  # of the record, not of the bytes; `None`: no ETag

    def _read_query(self, model: type[Query]) -> Query:
        lists = {info.alias for name, info in model.model_fields.items() if isinstance(info.default, tuple)}
        values: dict[str, Any] = {}
        try:
            for name, given in self.request.query_arguments.items():
                texts = [text.decode() for text in given]
                if name not in lists and len(texts) > 1:
                    raise Refused(400, "invalid_input", f"{name} is given more than once", field=name)
                values[name] = texts if name in lists else texts[0]
            return model.model_validate(values)
        except ValidationError as error:
            raise refusal(error) from None
        except UnicodeDecodeError:
            raise Refused(400, "invalid_input", "the query string is not UTF-8", field=name) from None
