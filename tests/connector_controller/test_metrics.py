from prometheus_client import generate_latest

from connector_controller.metrics import ControllerMetrics

OURS = (
    "connector_controller_",
    "connector_ca_",
    "connector_credential_",
    "connector_clock_",
    "connector_watch_",
    "connector_ready",
    "connector_namespaces_",
    "connector_settings_",
)


def test_each_process_has_its_own_registry_and_all_metrics_have_a_help_text() -> None:
    one, other = ControllerMetrics(), ControllerMetrics()
    one.leading.set(1)
    text = generate_latest(other.registry).decode()
    assert "connector_controller_leading 0.0" in text
    assert "connector_ca_expiry_timestamp_seconds 0.0" in text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert all(name.startswith(OURS) for name in names)
