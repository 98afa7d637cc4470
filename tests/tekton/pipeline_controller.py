"""Tekton's own pipeline controller beside a control plane, with the rights and settings of its manifests.

Its webhook does not run: it checks and completes what users write, and the controller completes it, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.control_plane import ControlPlane
from lab.ports import Port
from lab.process import Process
from lab.rbac import wait_for_rbac

NAMESPACE = "tekton-pipelines"
PARTS = ("100-namespace/*", "200-*", "201-*", "300-crds/*", "config-*")
"""Files of the module's config folder, in the order in which they are applied."""
IMAGES = ("entrypoint", "nop", "sidecarlogresults", "workingdirinit", "shell")
SETTINGS = {
    "SYSTEM_NAMESPACE": NAMESPACE,
    "CONFIG_DEFAULTS_NAME": "config-defaults",
    "CONFIG_LOGGING_NAME": "config-logging",
    "CONFIG_OBSERVABILITY_NAME": "config-observability",
    "CONFIG_FEATURE_FLAGS_NAME": "feature-flags",
    "CONFIG_LEADERELECTION_NAME": "config-leader-election-controller",
    "CONFIG_SPIRE": "config-spire",
    "METRICS_DOMAIN": "tekton.dev/pipeline",
}
PORTS = ("PROBES_PORT", "PROFILING_PORT", "METRICS_PROMETHEUS_PORT")


@contextmanager
def run_pipeline_controller(plane: ControlPlane, programs: Path) -> Iterator[Process]:
    """Install Tekton's definitions, rights and settings, and run its controller."""
    for part in PARTS:
        files = [argument for path in sorted((programs / "config").glob(part)) for argument in ("-f", str(path))]
        plane.kubectl("apply", "--server-side", *files)
    plane.kubectl.wait_for_crds("taskruns.tekton.dev", "pipelineruns.tekton.dev", "customruns.tekton.dev")
    wait_for_rbac(plane.api)
    token = plane.issue_token(NAMESPACE, "tekton-pipelines-controller")
    kubeconfig = plane.write_kubeconfig("tekton.kubeconfig", {"token": token})
    command = [str(programs / "controller"), "-kubeconfig", str(kubeconfig), "-disable-ha"]
    for image in IMAGES:
        command += [f"-{image}-image", f"example.test/{image}"]
    ports = {name: Port() for name in PORTS}
    environment = SETTINGS | {name: str(port.number) for name, port in ports.items()}
    process = Process(
        [*command, "-shell-image-win", "example.test/shell"],
        log=plane.folder / "tekton.log",
        environment=environment,
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()
        for port in ports.values():
            port.release()
