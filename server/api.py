"""The REST API: load tests, their scripts and baselines, and runs. Each handler parses, makes one call and writes.

What a token's role and scope allow is decided in `access`; what is true of the records, in the catalogue and the
control plane, which the notebook uses as well.
"""

from __future__ import annotations

import base64
import difflib
from typing import Any, ClassVar

from loadbench.catalogue import RUN_FIELDS, TEST_FIELDS, etag
from loadbench.errors import NotFound
from loadbench.model import Cluster, LoadTest, LoadTestRun, ScriptRevision
from server import bodies
from server.access import ApiHandler
from server.base import Refused
from server.operation import Operation
from server.start import parameters_of, start_once

DIFF_LINES = 5000
_MAX_NUMBER = 2**31
_KEEPS_UPDATES = (
    "With `If-Match`, the change is made only if nobody has edited the record since it had that `ETag`; 412 otherwise."
)


class LoadTestsHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation("List load tests", bodies.LoadTestPage, query=bodies.LoadTestQuery, name="listLoadTests"),
        "POST": Operation(
            "Define a load test",
            LoadTest,
            201,
            role="runner",
            body=bodies.NewLoadTest,
            refuses=(409,),
            etag=True,
            name="createLoadTest",
            description="The scope is the token's; what the token leaves open, the body says. Locust loads the script "
            "before it is stored.",
        ),
    }

    async def get(self) -> None:
        query = self.query_of(bodies.LoadTestQuery)
        where = {"$and": [self.caller.scope_filter, query.filter()]}
        page = await self.run(lambda: self.service.store.load_tests.page(where, **query.paging()))
        self.write_items(page.items, next_cursor=page.next_cursor)

    async def post(self) -> None:
        body = self.body_of(bodies.NewLoadTest)
        script = None if body.script_content is None else base64.b64decode(body.script_content)
        by, create = self.caller.name, self.service.catalogue.create_test
        fields = {name: getattr(body, name) for name in TEST_FIELDS} | self.scope_of(body).model_dump()
        test = await self.run_long(lambda: create(LoadTest.build(**fields), script, by=by))
        self.write_record(201, test, etag=etag(test), location=f"/v1/load-tests/{test.id}")


class LoadTestHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation("Read a load test", LoadTest, etag=True, name="getLoadTest"),
        "PUT": Operation(
            "Replace what people decide about a load test",
            LoadTest,
            role="runner",
            body=bodies.LoadTestChange,
            refuses=(409, 428),
            etag=True,
            if_match=True,
            name="updateLoadTest",
            description="All of it: what is left out gets its default again, so `If-Match` is required; `*` stands for "
            f"any state. {_KEEPS_UPDATES}",
        ),
        "DELETE": Operation(
            "Delete a load test",
            status=204,
            role="admin",
            query=bodies.DeleteQuery,
            refuses=(409,),
            name="deleteLoadTest",
            description="With its script; with its runs only if `cascade` says so. A baseline is to be removed first.",
        ),
    }

    async def get(self, test_id: str) -> None:
        test = await self.visible_test(test_id)
        self.write_record(200, test, etag=etag(test))

    async def put(self, test_id: str) -> None:
        body = self.body_of(bodies.LoadTestChange)
        seen = self.request.headers.get("If-Match")
        if seen is None:
            raise Refused(428, "precondition_required", "give the ETag that you read as If-Match", field="If-Match")
        test = await self.visible_test(test_id)
        fields = {name: getattr(body, name) for name in TEST_FIELDS}
        by, update = self.caller.name, self.service.catalogue.update_test
        test = await self.run(lambda: update(test.id, by=by, if_match=seen, **fields))
        self.write_record(200, test, etag=etag(test))

    async def delete(self, test_id: str) -> None:
        test, cascade = await self.visible_test(test_id), self.query_of(bodies.DeleteQuery).cascade
        await self.run_long(lambda: self.service.catalogue.delete_test(test.id, cascade=cascade))
        self.write_nothing()


class ScriptHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation("Read the latest revision of the script", ScriptRevision, etag=True, name="getScript"),
        "PUT": Operation(
            "Store an edit of the script as the next revision",
            ScriptRevision,
            201,
            role="runner",
            body=bodies.NewRevision,
            etag=True,
            if_match=True,
            name="reviseScript",
            description="Earlier revisions stay as they are. Locust loads the script before it is stored. The `ETag` "
            f"is that of the load test. {_KEEPS_UPDATES}",
        ),
    }

    async def get(self, test_id: str) -> None:
        test = await self.visible_test(test_id)
        revision = await self.run(self.service.store.script_revisions.latest, test.id)
        self.write_record(200, revision, etag=etag(test))

    async def put(self, test_id: str) -> None:
        body = self.body_of(bodies.NewRevision)
        test = await self.visible_test(test_id)
        edit: dict[str, Any] = {"description": body.description, "if_match": self.request.headers.get("If-Match")}
        script, by, revise = base64.b64decode(body.script_content), self.caller.name, self.service.catalogue.revise
        revision = await self.run_long(lambda: revise(test.id, script, by=by, **edit))
        location = f"/v1/load-tests/{test.id}/script/revisions/{revision.id}"
        self.write_record(201, revision, etag=etag(await self.visible_test(test_id)), location=location)


class RevisionsHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation(
            "List the revisions of the script, newest first",
            bodies.RevisionPage,
            query=bodies.RevisionQuery,
            name="listRevisions",
        )
    }

    async def get(self, test_id: str) -> None:
        query, test = self.query_of(bodies.RevisionQuery), await self.visible_test(test_id)
        list_page = self.service.store.script_revisions.page
        page = await self.run(lambda: list_page(test.id, limit=query.limit, cursor=query.cursor))
        self.write_items(page.items, next_cursor=page.next_cursor)


class RevisionHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Read a revision of the script, by its number or id",
            bodies.ComparedRevision,
            query=bodies.CompareQuery,
            name="getRevision",
            description="With `against`, also how it differs from that one, as a unified diff.",
        )
    }

    async def get(self, test_id: str, revision: str) -> None:
        against, test = self.query_of(bodies.CompareQuery).against, await self.visible_test(test_id)
        found = await self.run(self._find, test, revision)
        if against is None:
            return self.write_record(200, found)
        before = await self.run(self._find, test, against)
        compared = await self.run_long(compare, before, found)
        return self.write_record(200, compared)

    def _find(self, test: LoadTest, revision: str) -> ScriptRevision:
        revisions = self.service.store.script_revisions
        if revision.isascii() and revision.isdecimal():
            return revisions.number(test.id, min(int(revision[:12]), _MAX_NUMBER))
        try:
            found = revisions.get(revision)
        except NotFound:
            found = None
        if found is None or found.load_test_id != test.id:  # one of another project in the same words as none
            raise Refused(404, "not_found", f"no script revision {revision} of this test")
        return found


def compare(before: ScriptRevision, after: ScriptRevision) -> bodies.ComparedRevision:
    """Give a revision together with how it differs from another one."""
    old, new = (revision.script.decode(errors="replace").splitlines(keepends=True) for revision in (before, after))
    if max(len(old), len(new)) > DIFF_LINES:
        raise Refused(
            400, "invalid_input", f"scripts of more than {DIFF_LINES} lines are not compared here", field="against"
        )
    names = (f"revision {before.revision_number}", f"revision {after.revision_number}")
    diff = "".join(difflib.unified_diff(old, new, *names))
    return bodies.ComparedRevision(**dict(after), against=before.revision_number, diff=diff)


class TestRunsHandler(ApiHandler):
    __test__ = False  # pytest: not a test class
    operations: ClassVar = {
        "GET": Operation(
            "List the runs of a load test", bodies.RunPage, query=bodies.TestRunQuery, name="listTestRuns"
        ),
        "POST": Operation(
            "Start a run",
            bodies.Run,
            201,
            role="runner",
            body=bodies.NewRun,
            refuses=(409, 422),
            etag=True,
            idempotent=True,
            name="startRun",
            description="What the body leaves out is inherited from the test. A run that could not be started is "
            "answered too, with status Failed and why. 422: the target does not answer, or the key came with another "
            "body before; 409: the first request with this key is still at work.",
        ),
    }

    async def get(self, test_id: str) -> None:
        query, test = self.query_of(bodies.TestRunQuery), await self.visible_test(test_id)
        where = query.filter() | {"loadTestId": test.id}
        page = await self.run(lambda: self.service.store.runs.page(where, **query.paging()))
        self.write_items(page.items, next_cursor=page.next_cursor, without=bodies.UNLISTED)

    async def post(self, test_id: str) -> None:
        body = self.body_of(bodies.NewRun)
        test = await self.visible_test(test_id)
        run, is_new = await start_once(self, test, body)
        location = f"/v1/runs/{run.id}"
        self.write_record(201 if is_new else 200, run, etag=etag(run), location=location, without=bodies.PRIVATE)


class BaselineHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation("Read the baseline of a load test", bodies.Baseline, name="getBaseline"),
        "PUT": Operation(
            "Set the baseline of a load test",
            bodies.Baseline,
            role="runner",
            body=bodies.BaselineRuns,
            refuses=(409,),
            name="setBaseline",
            description="Runs of the test that are Finished or Stopped. They cannot be deleted then.",
        ),
        "DELETE": Operation(
            "Remove the baseline of a load test",
            status=204,
            role="admin",
            query=bodies.BaselineQuery,
            name="removeBaseline",
            description="All of it, or the runs that are named. The runs stay.",
        ),
    }

    async def get(self, test_id: str) -> None:
        test = await self.visible_test(test_id)
        runs = await self.run(self.service.catalogue.baseline, test.id)
        self.write_items(runs, without=bodies.UNLISTED)

    async def put(self, test_id: str) -> None:
        body = self.body_of(bodies.BaselineRuns)
        test = await self.visible_test(test_id)
        by, catalogue = self.caller.name, self.service.catalogue
        await self.run(lambda: catalogue.set_baseline(test.id, body.run_ids, by=by))
        self.write_items(await self.run(catalogue.baseline, test.id), without=bodies.UNLISTED)

    async def delete(self, test_id: str) -> None:
        run_ids, test = self.query_of(bodies.BaselineQuery).run_id, await self.visible_test(test_id)
        by, catalogue = self.caller.name, self.service.catalogue
        await self.run(lambda: catalogue.remove_baseline(test.id, run_ids or None, by=by))
        self.write_nothing()


class RunsHandler(ApiHandler):
    operations: ClassVar = {"GET": Operation("List runs", bodies.RunPage, query=bodies.RunQuery, name="listRuns")}

    async def get(self) -> None:
        query = self.query_of(bodies.RunQuery)
        where = {"$and": [self.caller.scope_filter, query.filter()]}
        page = await self.run(lambda: self.service.store.runs.page(where, **query.paging()))
        self.write_items(page.items, next_cursor=page.next_cursor, without=bodies.UNLISTED)


class ExternalRunsHandler(ApiHandler):
    operations: ClassVar = {
        "POST": Operation(
            "Register a run that somebody else starts",
            bodies.ExternalRun,
            201,
            role="runner",
            body=bodies.NewExternalRun,
            refuses=(404,),
            name="registerExternalRun",
            description="The answer's `command` starts Locust with the agent, wherever both are installed; its pushes "
            "then arrive as those of any run. A run that nobody starts within an hour is Failed.",
        )
    }

    async def post(self) -> None:
        body, control = self.body_of(bodies.NewExternalRun), self.control
        owner = await self.visible_test(body.load_test_id) if body.load_test_id else self.scope_of(body)
        parameters = parameters_of(body) | {"by": self.caller.name}
        run, token, command = await self.run_long(lambda: control.register_external(owner, **parameters))
        shown = bodies.Run(**run.model_dump(exclude=set(bodies.PRIVATE)))
        answer = bodies.ExternalRun(run=shown, token=token, command=command)
        self.write_record(201, answer, location=f"/v1/runs/{run.id}")


class RunHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation("Read a run", bodies.Run, etag=True, name="getRun"),
        "PATCH": Operation(
            "Change what people write on a run: name, notes, tags, metadata, windows",
            bodies.Run,
            role="runner",
            body=bodies.RunChange,
            etag=True,
            if_match=True,
            name="updateRun",
            description=f"What is left out stays as it is. {_KEEPS_UPDATES}",
        ),
        "DELETE": Operation(
            "Delete a run with all its figures",
            status=204,
            role="admin",
            refuses=(409,),
            name="deleteRun",
            description="Not while it is active, and not if it is a baseline.",
        ),
    }

    async def get(self, run_id: str) -> None:
        self._write(await self.visible_run(run_id))

    async def patch(self, run_id: str) -> None:
        body = self.body_of(bodies.RunChange)
        run = await self.visible_run(run_id)
        fields = {name: getattr(body, name) for name in RUN_FIELDS if name in body.model_fields_set}
        by, seen, update = self.caller.name, self.request.headers.get("If-Match"), self.service.catalogue.update_run
        self._write(await self.run(lambda: update(run.id, by=by, if_match=seen, **fields)))

    async def delete(self, run_id: str) -> None:
        run = await self.visible_run(run_id)
        await self.run_long(self.service.catalogue.delete_run, run.id)
        self.write_nothing()

    def _write(self, run: LoadTestRun) -> None:
        self.write_record(200, run, etag=etag(run), without=bodies.PRIVATE)


class StopHandler(ApiHandler):
    operations: ClassVar = {
        "POST": Operation(
            "Stop a run",
            bodies.Run,
            202,
            role="runner",
            refuses=(409,),
            name="stopRun",
            description="Users finish their task, the last figures arrive, then it is Stopped. Stopping a run that is "
            "stopping changes nothing; 409 if it is over.",
        )
    }

    async def post(self, run_id: str) -> None:
        run, control = await self.visible_run(run_id), self.control
        self.write_record(202, await self.run_long(control.stop_run, run.id), without=bodies.PRIVATE)


class ClustersHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation("List the clusters that runs may be started on", bodies.ClusterList, name="listClusters")
    }

    async def get(self) -> None:
        serving = [cluster for cluster in self.control.clusters if self._may_serve(cluster)]
        self.write_items(serving, without=bodies.UNTOLD)

    def _may_serve(self, cluster: Cluster) -> bool:
        """Say whether there may be a test of the token's scope that the cluster serves."""
        pairs = [
            (getattr(cluster, part), getattr(self.caller, part)) for part in ("account_id", "org_id", "project_id")
        ]
        return all(theirs is None or ours is None or theirs == ours for theirs, ours in pairs)


routes = [
    ("/v1/load-tests", LoadTestsHandler),
    ("/v1/load-tests/{testId}", LoadTestHandler),
    ("/v1/load-tests/{testId}/script", ScriptHandler),
    ("/v1/load-tests/{testId}/script/revisions", RevisionsHandler),
    ("/v1/load-tests/{testId}/script/revisions/{revision}", RevisionHandler),
    ("/v1/load-tests/{testId}/runs", TestRunsHandler),
    ("/v1/load-tests/{testId}/baseline", BaselineHandler),
    ("/v1/runs", RunsHandler),
    ("/v1/runs/external", ExternalRunsHandler),
    ("/v1/runs/{runId}", RunHandler),
    ("/v1/runs/{runId}/stop", StopHandler),
    ("/v1/clusters", ClustersHandler),
]
