"""What an agent sends to the receiver: the messages, their routes and their version.

The receiver checks each message against the pydantic model of the same name in `loadbench.model`. Every message carries
`version`, `runId`, `source` and `timestamp` (Unix ms by the agent's clock). All bodies are JSON in UTF-8.
"""

from __future__ import annotations

WIRE_VERSION = 1

TEST_START = "test-start"
METRICS = "metrics"
TEST_STOP = "test-stop"
HEARTBEAT = "heartbeat"
ROUTE_PREFIX = "/v1/internal/locust/"

SENT_AT_HEADER = "Loadbench-Sent-At"
"""Unix ms at which this attempt left the agent. Not in the body: a retry must be byte for byte the same."""

ENV_RECEIVER_URL = "LOADBENCH_RECEIVER_URL"
ENV_RUN_ID = "LOADBENCH_RUN_ID"
ENV_TOKEN = "LOADBENCH_RUN_TOKEN"
ENV_SPOOL = "LOADBENCH_SPOOL"
ENV_DURATION_S = "LOADBENCH_DURATION_S"
ENV_WORKERS = "LOADBENCH_WORKERS"
ENV_WEB_UI = "LOADBENCH_WEB_UI"

MAX_BODY_BYTES = 1 << 20
MAX_ROWS = 2000
MAX_NAME = 256
MAX_ERROR_ROWS = 100
MAX_ERROR_TEXT = 1000
OTHER = "(other)"
"""The name under which endpoints beyond MAX_ROWS and error messages beyond MAX_ERROR_ROWS are counted."""

STOP_REASONS = ("duration", "user", "gate", "shape", "script", "workers-lost")
"""Why a run ended, as an agent may report it. The control plane adds `error` (could not start) and `lost`."""

AGENT_PREFIX = "/loadbench/v1"
"""Where a persistent master takes orders, next to Locust's own routes, which it closes."""
AGENT_PROTOCOL = 1
ENV_AGENT_TOKEN = "LOADBENCH_AGENT_TOKEN"
ENV_AGENT_STATE = "LOADBENCH_AGENT_STATE"
"""What a worker hands to itself when it starts anew: the run and its script, or why they could not be loaded."""
