"""Metrics of build, process and event loop in a scrape."""

import asyncio
import time

from prometheus_client.parser import text_string_to_metric_families

from connector_store.process_metrics import LAG_INTERVAL, LAG_TOLERANCE, ProcessMetrics
from connector_store.version import VERSION


def samples(metrics: ProcessMetrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {each.name: each.value for family in families for each in family.samples}


def labels(metrics: ProcessMetrics) -> dict[str, str]:
    families = text_string_to_metric_families(metrics.render().decode())
    [info] = [each.labels for family in families for each in family.samples if each.name == "connector_build_info"]
    return dict(info)


def test_the_build_info_has_the_version() -> None:
    build_info = labels(ProcessMetrics("controller"))
    assert (build_info["version"], build_info["component"]) == (VERSION, "controller")
    assert build_info["python"].startswith("3.")


def test_the_metrics_of_process_dashboards_exist() -> None:
    values = samples(ProcessMetrics("proxy"))
    assert values["process_resident_memory_bytes"] > 1e6
    assert {"process_cpu_seconds_total", "process_open_fds", "process_start_time_seconds"} <= values.keys()


async def turns() -> None:
    """Let the event loop run what is due."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_blocked_event_loop_adds_its_lag() -> None:
    metrics = ProcessMetrics("proxy")
    metrics.start()
    try:
        block_seconds = LAG_INTERVAL + 4 * LAG_TOLERANCE
        time.sleep(block_seconds)  # noqa: ASYNC251 - a stall of the loop is what is counted
        await turns()
        assert samples(metrics)["connector_loop_late_seconds_total"] >= block_seconds - LAG_INTERVAL
    finally:
        metrics.stop()


async def test_nothing_is_counted_after_it_has_stopped() -> None:
    metrics = ProcessMetrics("proxy")
    metrics.start()
    metrics.stop()
    metrics.stop()
    time.sleep(LAG_INTERVAL + 4 * LAG_TOLERANCE)  # noqa: ASYNC251 - a stall that nobody looks at any more
    await turns()
    assert samples(metrics)["connector_loop_late_seconds_total"] == 0
