"""A real Jupyter kernel for tests: its cells, its restart, its process."""

from __future__ import annotations

import time

from jupyter_client.manager import KernelManager


class Notebook:
    """A kernel and its cells."""

    def __init__(self) -> None:
        self.manager = KernelManager()
        self.manager.start_kernel()
        self.client = self._connect()

    def _connect(self):
        client = self.manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return client

    def run(self, code: str) -> str:
        """Execute a cell; give what it printed and its value."""
        shown: list[str] = []

        def keep(message: dict) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            elif message["msg_type"] in ("execute_result", "display_data"):
                shown.append(content["data"].get("text/plain", ""))
            elif message["msg_type"] == "error":
                shown.append("\n".join(content["traceback"]))

        reply = self.client.execute_interactive(code, timeout=90, output_hook=keep)
        assert reply["content"]["status"] == "ok", "".join(shown)
        return "".join(shown)

    @property
    def pid(self) -> int:
        return self.manager.provisioner.pid

    def interrupted(self) -> str:
        """Interrupt a cell that would take a minute; give the name of the error that ends it."""
        self.client.execute("import time\ntime.sleep(60)")
        time.sleep(0.5)
        self.manager.interrupt_kernel()
        return self.client.get_shell_msg(timeout=20)["content"].get("ename", "")

    def restart(self, *, now: bool) -> None:
        self.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self.client = self._connect()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
