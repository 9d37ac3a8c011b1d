"""Locust with the recording plugin: `python -m loadbench.agent <arguments of locust>`."""

from __future__ import annotations

from locust.main import main

from loadbench.agent.plugin import register

if __name__ == "__main__":
    register()
    main()
