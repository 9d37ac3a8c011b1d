"""What Locust is started with while there is no run: it refuses to start without a User class. Nobody is dispatched."""

from __future__ import annotations

from locust import User, constant, task


class Idle(User):
    wait_time = constant(3600)

    @task
    def idle(self) -> None:
        """Do nothing."""
