"""JUnit XML of gates, as CI servers read it: a test suite for a run, a test case for each gate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from loadbench import html, pages
from loadbench.analysis.gates import GateResult
from loadbench.model import LoadTestRun


def junit(run: LoadTestRun, results: Sequence[GateResult], *, strict: bool = False) -> str:
    """Write results as JUnit XML.

    Parameters
    ----------
    strict : bool
        A gate that could not be judged is an error; left out, it is skipped.

    Returns
    -------
    str
        One `testsuites` with one `testsuite`; broken gates have a `failure`.
    """
    unjudged = sum(result.passed is None for result in results)
    counts = {
        "tests": len(results),
        "failures": sum(result.passed is False for result in results),
        "errors": unjudged if strict else 0,
        "skipped": 0 if strict else unjudged,
    }
    seconds = f"{html.elapsed_s(run):.3f}"
    name = html.printable(run.name)
    root = ET.Element("testsuites", {"name": "loadbench", "time": seconds, **_text(counts)})
    started = datetime.fromtimestamp((run.started_at or run.created_at) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    about = {"id": "0", "package": "loadbench", "name": name, "timestamp": started, "hostname": _host(run)}
    suite = ET.SubElement(root, "testsuite", {**about, "time": seconds, **_text(counts)})
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(run).items():
        ET.SubElement(properties, "property", {"name": key, "value": html.printable(value)})
    for result in results:
        _case(suite, name, result, strict=strict)
    ET.SubElement(suite, "system-out").text = html.printable(html.run_line(run))
    ET.SubElement(suite, "system-err")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def write_junit(path: str | Path, run: LoadTestRun, results: Sequence[GateResult], *, strict: bool = False) -> Path:
    """Write them to a file; its folder is made."""
    return pages.write(Path(path).expanduser().absolute(), junit(run, results, strict=strict).encode())


def _case(suite: ET.Element, name: str, result: GateResult, *, strict: bool) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": name, "name": html.printable(str(result.gate)), "time": "0"})
    because = html.printable(result.because)
    if result.passed is False:
        at = "" if result.at_s is None else f"; broken first at {result.at_s:.4g} s"
        ET.SubElement(case, "failure", {"type": "gate", "message": because}).text = f"{because}{at}"
    elif result.passed is None and strict:
        ET.SubElement(case, "error", {"type": "not judged", "message": because}).text = because
    elif result.passed is None:
        ET.SubElement(case, "skipped", {"message": because})


def _properties(run: LoadTestRun) -> dict[str, str]:
    found = {
        "runId": run.id, "scope": str(run.scope), "status": run.status.value, "stopReason": run.stop_reason,
        "revisionNumber": run.revision_number, "targetUrl": html.shown_url(run.target_url),
        "users": run.target_users, "gateBroken": run.gate_broken,
    }  # fmt: skip
    return {name: str(value) for name, value in found.items() if value is not None}


def _host(run: LoadTestRun) -> str:
    return html.printable(run.environment.host) if run.environment else "unknown"


def _text(counts: dict[str, int]) -> dict[str, str]:
    return {name: str(value) for name, value in counts.items()}
