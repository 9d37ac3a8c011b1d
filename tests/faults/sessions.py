"""The first cells of a notebook session in a real kernel."""

from __future__ import annotations

from loadbench.demo_target import ShopServer
from tests.faults import loads
from tests.faults.proxy import Proxy
from tests.faults.truth import Ledger
from tests.notebook_kernel import Notebook

CELL_1 = """
import loadbench as lb
bench = lb.Workbench("acme/shop/checkout", env="test"{where})
test = bench.create_test({test}, check=False)
"""


class Session:
    """A notebook whose cells open the workbench, start a run, and wait for it."""

    def __init__(
        self,
        notebook: Notebook,
        shop: ShopServer,
        *,
        script: str = loads.PACED,
        name: str = "faulty",
        proxy: Proxy | None = None,
    ) -> None:
        self._notebook, self._proxy, self._port = notebook, proxy, 0
        self._test = f"{name!r}, {script!r}, target_url={shop.url!r}, users={loads.USERS}, spawn_rate={loads.USERS}"

    def keep_port(self, port: int) -> None:
        """Let the first cell ask for this port from now on."""
        self._port = port

    def open(self) -> None:
        """Run the first cell. With a proxy, the receiver may be addressed as that too."""
        where = f", port={self._port}" if self._port else ""
        where += f", advertised_url={self._proxy.url!r}" if self._proxy else ""
        self._notebook.run(CELL_1.format(where=where, test=self._test))

    def push_through_proxy(self) -> None:
        """Let runs that are started from now on know no other way."""
        self._notebook.run(f"bench._backend.control._receiver_url = lambda: {self._proxy.url!r}")

    def start(self, ledger: Ledger, *, duration: str) -> tuple[str, int]:
        """Start a run and wait for two intervals; give its id and the pid of its master."""
        shown = self._notebook.run(
            f"run = test.start(duration={duration!r}, workers={loads.WORKERS}); print(run.id, run.record.process.pid)"
        )
        run_id, pid = shown.split()[-2:]
        loads.wait_for_intervals(ledger, run_id, 2)
        return run_id, int(pid)

    def finish(self, run_id: str) -> str:
        """Wait for the end of the run as a notebook does; give how it is shown."""
        return self._notebook.run(f"run = bench.run({run_id!r})\nawait run\nprint(repr(run))")

    def stop(self, run_id: str) -> None:
        self._notebook.run(f"run = bench.run({run_id!r})\nrun.stop()\nawait run")

    def port(self) -> int:
        return int(self._notebook.run("print(bench._backend.receiver.port)"))

    def stored(self) -> int:
        """Say how many intervals the receiver of this kernel has stored."""
        return int(self._notebook.run("print(bench._backend.receiver.meters.intervals['created'])"))

    def duplicates(self) -> int:
        return int(self._notebook.run("print(bench._backend.receiver.meters.intervals['duplicate'])"))

    def rejected(self) -> int:
        """Say how many requests the receiver of this kernel has answered with an error."""
        return int(self._notebook.run("print(bench._backend.receiver.meters.rejected.total())"))

    def locust_log(self, run_id: str) -> str:
        return self._notebook.run(f"print(open(bench.run({run_id!r}).record.process.directory + '/locust.log').read())")
