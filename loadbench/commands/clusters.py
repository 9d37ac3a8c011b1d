"""`loadbench agent` and `loadbench clusters`: Locust processes that take run after run."""

from __future__ import annotations

import argparse
from typing import Any

from loadbench.commands.shape import add_command, add_json, print_json


def add(commands) -> None:
    agent = add_command(
        commands, "agent", be_agent, "a persistent Locust master, or a worker of one: it takes run after run"
    )
    role = agent.add_mutually_exclusive_group(required=True)
    role.add_argument("--master", action="store_true", help="take runs, and hand them to the workers")
    role.add_argument("--worker", action="store_true", help="generate load for a master")
    agent.add_argument("--bind", default="127.0.0.1", help="address of a master (default: %(default)s)")
    agent.add_argument("--web-port", type=int, default=8090, help="where a master takes runs (default: %(default)s)")
    agent.add_argument(
        "--worker-port", type=int, default=5557, help="where a master takes workers (default: %(default)s)"
    )
    agent.add_argument("--master-host", default="127.0.0.1", help="of a worker's master (default: %(default)s)")
    agent.add_argument("--master-port", type=int, default=5557, help="its worker port (default: %(default)s)")

    add_json(
        add_command(commands, "clusters", list_clusters, "list the clusters of loadbench.toml, and what they do now")
    )


def be_agent(options: argparse.Namespace) -> int:
    from loadbench.launch.agent import become_master, become_worker

    if options.master:
        become_master(options.bind, web_port=options.web_port, worker_port=options.worker_port)
    become_worker(options.master_host, master_port=options.master_port)


def list_clusters(options: argparse.Namespace) -> int:
    from loadbench.clusters import Clusters, Configuration
    from loadbench.launch.cluster import survey

    clusters = Clusters(Configuration.read().cluster)
    if options.json:
        print_json([_wire_names(found) for found in survey(clusters)])
        return 0
    for cluster, found in zip(clusters, survey(clusters), strict=True):
        print(cluster)
        if "host" in found:
            doing = f"busy with {found['run_id']}" if found["run_id"] else "idle"
            print(f"    {found['host']}, Locust {found['locust']}, workers: {found['workers']}, {doing}")
        if found["trouble"]:
            print(f"    {found['trouble']}")
    return 0


def _wire_names(values: dict[str, Any]) -> dict[str, Any]:
    from pydantic.alias_generators import to_camel

    return {to_camel(name): value for name, value in values.items()}
