"""The reference pages name what the code has: no more, no less."""

import ast
import json
import re
from pathlib import Path

import click
import pytest

from addons.records import audit
from addons.records.audit import format_json
from addons.records.metrics import Metrics
from addons.records.record import Record
from addons.server import draining, options
from connector_controller.metrics import ControllerMetrics as ControllerMetrics
from connector_csi.metrics import CsiMetrics as DriverMetrics
from connector_store.domain.config.settings import SETTINGS, Settings
from connector_store.domain.kubeconfig.volume_files import (
    BUILT_IN_FILES,
    ERROR_FILE,
    IN_CLUSTER,
)
from connector_store.domain.kubeconfig.volume_request import ATTRIBUTES
from connector_store.domain.objects import models
from connector_store.domain.objects.builtin import CONFIGURATIONS
from connector_store.domain.status.conditions import NOT_PROBED, OWN_CONDITIONS
from connector_store.domain.status.serving import NAMESPACE_NOT_SERVED
from connector_store.kube import lease
from connector_store.probes import TIMEOUT
from connector_store.process_metrics import ProcessMetrics
from connectorctl.cli import COMMANDS, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from connectorctl.cli import ROOT as ROOT_COMMAND
from connectorctl.man import EXIT_CODES
from tests.docs.pages import DOCS, REFERENCE, ROOT, names, rows, section

REASON_SOURCES = (
    *(
        ROOT / "connector_store/domain" / name
        for name in ("status/conditions.py", "objects/manifest.py", "objects/resolve.py")
    ),
    *(ROOT / "connector_controller" / name for name in ("connectors.py", "services.py")),
)
"""The files in which conditions get their reasons."""


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("reference/telemetry.md", f"{audit.MAX_PENDING_LINES:,} or {audit.MAX_PENDING_CHARACTERS >> 20} MiB at most"),
        ("reference/telemetry.md", f"{audit.UNAUTHENTICATED_RATE:g} lines a second in the long run"),
        ("reference/telemetry.md", f"and {audit.UNAUTHENTICATED_BURST:g} at once"),
        ("reference/answers.md", f"accepts new connections for {draining.ACCEPT_SECONDS:g} s more"),
        ("reference/objects.md", f"A probe has {TIMEOUT:g} s"),
        (
            "decisions/0026-a-lease-of-our-own.md",
            f"{lease.LEASE_DURATION} s, {lease.RENEW_DEADLINE:g} s, {lease.RETRY_PERIOD:g} s",
        ),
    ],
)
def test_bounds_that_pages_name_in_numbers_are_those_of_the_source(page: str, text: str) -> None:
    assert text in " ".join((DOCS / page).read_text().split())


def test_every_setting_is_there_with_its_default() -> None:
    documented = {name.strip("`"): value for name, value in rows(section("settings.md", "Shared settings")).items()}
    settings = Settings()
    assert documented == {key: _default(getattr(settings, key.replace("-", "_"))) for key in SETTINGS}


def test_every_setting_names_the_programs_that_read_it() -> None:
    cells = [
        line.split("|") for line in section("settings.md", "Shared settings").splitlines() if line.startswith("| `")
    ]
    labels = {
        "addons": "proxy",
        "connector_controller": "controller",
        "connector_csi": "CSI driver",
        "connectorctl": "connectorctl",
    }
    assert {line[1].strip(" `"): line[3].strip() for line in cells} == {
        key: "all" if len(setting.programs) == len(labels) else ", ".join(labels[each] for each in setting.programs)
        for key, setting in SETTINGS.items()
    }


def test_every_setting_says_which_pods_a_change_replaces() -> None:
    labels = {"addons": "proxy", "connector_controller": "controller", "connector_csi": "CSI driver"}
    cells = [
        line.split("|") for line in section("settings.md", "Shared settings").splitlines() if line.startswith("| `")
    ]
    assert {line[1].strip(" `"): line[4].strip() for line in cells} == {
        key: "is followed live"
        if setting.live
        else _restarts([labels[each] for each in labels if each in setting.programs])
        for key, setting in SETTINGS.items()
    }


def _restarts(programs: list[str]) -> str:
    return "restarts " + ("all" if len(programs) == 3 else ", ".join(programs))


def test_every_option_of_the_proxy_is_there_with_its_default() -> None:
    documented = {
        name.strip("`"): value for name, value in rows(section("settings.md", "Options of the proxy")).items()
    }
    assert documented == {
        name: (str(default).lower() if kind is bool else str(default)) for name, kind, default, _ in options._OPTIONS
    }


def test_every_option_that_is_forced_or_refused_is_there() -> None:
    text = section("settings.md", "Options of the proxy")
    assert [name for name in (*options.FORCED, *options.REFUSED) if f"`{name}" not in text] == []


def _default(value: object) -> str:
    match value:
        case None | ():
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _ if hasattr(value, "namespace"):
            return f"{value.name}.{value.namespace}"  # type: ignore[attr-defined]  # an ObjectKey, shown as NAME.NAMESPACE
        case _:
            return str(value)


def test_every_condition_is_there() -> None:
    documented = {name.split("`")[1] for name in rows(section("objects.md", "Conditions"))}
    assert documented == OWN_CONDITIONS


def test_every_reason_of_a_condition_is_there() -> None:
    text = section("objects.md", "Conditions")
    table = names("\n".join(line for line in text.splitlines() if line.startswith("|")))
    assert table - OWN_CONDITIONS == _reasons() | {NAMESPACE_NOT_SERVED}
    assert NOT_PROBED in names(text)


def _reasons() -> set[str]:
    """Find the reasons in the source: `reason=`, a variable of that name, or the second argument of `_unusable`."""
    reasons: set[str | None] = set()
    for file in REASON_SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.keyword(arg="reason", value=value) | ast.Assign(targets=[ast.Name(id="reason")], value=value):
                    reasons.add(_text(value))
                case ast.Call(func=ast.Name(id="_unusable"), args=[_, value, *_]):
                    reasons.add(_text(value))
    return {reason for reason in reasons if reason is not None}


def _text(value: ast.expr) -> str | None:
    """Return the text of a literal, or of a constant of `models`."""
    match value:
        case ast.Constant(value=str() as text):
            return text
        case ast.Name(id=name):
            constant: str | None = getattr(models, name, None)
            return constant
        case _:
            return None


def test_every_attribute_and_file_of_a_volume_is_there() -> None:
    documented = {each for name in rows((REFERENCE / "volume.md").read_text()) for each in names(name)}
    in_cluster_files = {"token", "namespace"}
    assert documented == {*ATTRIBUTES, *BUILT_IN_FILES, *CONFIGURATIONS, *in_cluster_files, ERROR_FILE} - {IN_CLUSTER}


def test_every_field_of_an_audit_line_is_there() -> None:
    documented = names(section("telemetry.md", "Audit"))
    exchange = Record(event="connect", connector=None, status=407, source_ip="192.0.2.1", duration=0)
    assert set(json.loads(format_json(exchange, now=0, commands=True))) <= documented


def test_every_metric_of_the_proxy_is_there() -> None:
    documented = {name.strip("`") for name in rows(section("telemetry.md", "Metrics"))}
    families = {each.name + ("_total" if each.type == "counter" else "") for each in Metrics().collect()}
    assert families <= documented
    assert documented - families <= {
        "connector_store_synced",
        "connector_ca_expiry_timestamp_seconds",
        "connector_refused_handshakes_total",
        "connector_served_certificate_expiry_timestamp_seconds",
        "connector_namespaces_not_served",
        "connector_access_cache_hits_total",
        "connector_oldest_access_check_age_seconds",
        "connector_recheck_seconds",
        "connector_clock_offset_seconds",
        "connector_outage_grants_total",
        "connector_kept_connections",
        "connector_kept_connections_taken_total",
        "connector_requests_sent_again_total",
        "connector_unauthenticated_connections",
        "connector_waiting_connections",
        "connector_refused_connections_total",
    }


def test_every_metric_of_the_controller_and_the_driver_is_there() -> None:
    documented = names(section("telemetry.md", "Metrics"))
    registry = ControllerMetrics().registry
    families = {each.name + ("_total" if each.type == "counter" else "") for each in registry.collect()}
    driver = set(re.findall(r"^# TYPE (connector_\S+) ", DriverMetrics().render().decode(), re.MULTILINE))
    created = {each for each in driver if each.endswith("_created")}
    assert families <= documented
    assert driver - created <= documented


def test_every_process_metric_is_there() -> None:
    families = {each.name + ("_total" if each.type == "counter" else "") for each in ProcessMetrics("proxy").collect()}
    assert families <= names(section("telemetry.md", "Metrics"))


def test_the_private_names_of_decision_17_are_those_that_are_used() -> None:
    [decision] = (DOCS / "decisions").glob("0017-*.md")
    _, _, pyopenssl = decision.read_text().partition("Of pyOpenSSL these are ")
    pyopenssl, _, mitmproxy = pyopenssl.partition("Those of mitmproxy are in ")
    mitmproxy, _, _ = mitmproxy.partition("`addons/__main__.py`")
    sources = [each.read_text() for folder in ("addons", "connector_store") for each in (ROOT / folder).rglob("*.py")]
    private = re.compile(r"\b(?:SSL|tls|connection|reader)\.(_\w+)")
    assert {each.removeprefix("SSL.") for each in names(pyopenssl)} == {
        name for source in sources for name in private.findall(source)
    }
    attributes = re.findall(r"\b(?!_)\w+\.(_\w+)", (ROOT / "addons" / "net" / "mitmproxy_private.py").read_text())
    documented = {each.rpartition(".")[2] for each in names(mitmproxy) if "/" not in each}
    assert set(attributes) == {each for each in documented if each.startswith("_")}


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "bench").glob("*.md"), *(ROOT / "lab").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^):]+)\)", page.read_text())
        if not _exists(page, *target.partition("#")[::2])
    ]
    assert broken == []


def _exists(page: Path, target: str, anchor: str) -> bool:
    file = page.parent / target if target else page
    return file.exists() and (not anchor or anchor in _anchors(file))


def _anchors(page: Path) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_every_command_and_flag_of_connectorctl_is_there() -> None:
    documented = rows(section("connectorctl.md", "Commands"))
    assert [name.strip("`").split()[0] for name in documented] == list(COMMANDS)
    flags = rows(section("connectorctl.md", "Flags"))
    for command in COMMANDS:
        offered = {f"--{each}" for each in _flags_of(command)}
        assert {flag.strip("`") for flag, places in flags.items() if command in places.split(", ")} == offered


def test_every_exit_code_of_connectorctl_is_there() -> None:
    text = (REFERENCE / "connectorctl.md").read_text()
    documented = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)
    assert documented == [code for code, _ in EXIT_CODES] == [*map(str, (EXIT_OK, EXIT_FAILED, 2, EXIT_INTERRUPTED))]


def test_every_variable_of_connectorctl_is_there() -> None:
    text = section("connectorctl.md", "Flags")
    variables = {
        each.envvar
        for command in COMMANDS
        for each in _command(command).params
        if isinstance(each, click.Option) and each.envvar
    }
    assert variables
    assert [each for each in variables if f"`{each}`" not in text] == []


def _command(name: str) -> click.Command:
    command = ROOT_COMMAND.get_command(click.Context(ROOT_COMMAND), name)
    assert command is not None
    return command


def _flags_of(command: str) -> set[str]:
    options = [each for each in _command(command).params if isinstance(each, click.Option)]
    return {name.removeprefix("--") for each in options for name in each.opts if name.startswith("--")}
