"""Command `doctor`: find out why a kubeconfig, or the installation in a cluster, does not work."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from connector_store.domain.base.printable import printable
from connector_store.domain.config.connector_source import ClusterSource
from connectorctl.command import make_command
from connectorctl.diagnosis import Step, diagnose
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import add_format_option
from connectorctl.output import write, write_value

_COLOURS: Final = {"ok": "green", "failed": "red", "skipped": "yellow"}


@make_command(
    "doctor",
    examples=(
        "connectorctl doctor",
        "connectorctl doctor team.kubeconfig",
        "connectorctl doctor team.kubeconfig -o json",
    ),
)
@click.argument("kubeconfig", type=click.Path(path_type=Path), required=False)
@click.option("--context", metavar="NAME", help="Context of the kubeconfig. Default: its current context.")
@add_format_option("json", "yaml")
@click.pass_obj
def command(invocation: Invocation, kubeconfig: Path | None, context: str | None, form: str | None) -> int:
    """Explain why a kubeconfig of a Connector, or the installation in a cluster, does not work.

    With KUBECONFIG, the command does what kubectl does, with the kubeconfig's own token, and needs no other right.
    Without it, the command checks the installation in the cluster of your own kubeconfig, and skips what you may not
    read. It changes nothing. The exit code is 1 if a step failed.
    """
    if kubeconfig is None:
        steps = asyncio.run(_diagnose_cluster(invocation, context))
    else:
        from connectorctl.kubeconfig_checks import CHECKS, KubeconfigSubject

        steps = asyncio.run(diagnose(CHECKS, KubeconfigSubject(path=kubeconfig, context_name=context)))
    _write_steps(steps, form)
    return 1 if any(step.result == "failed" for step in steps) else 0


async def _diagnose_cluster(invocation: Invocation, context: str | None) -> list[Step]:
    from connector_store.kube.client import KubeClient
    from connectorctl.cluster_checks import CHECKS, ClusterSubject
    from connectorctl.cluster_source import run_with_client

    async def check(client: KubeClient) -> list[Step]:
        return await diagnose(CHECKS, ClusterSubject(client=client, shared_settings=invocation.settings))

    return await run_with_client(SourceOptions(context=context), ClusterSource(context=context), check)


def _write_steps(steps: list[Step], form: str | None) -> None:
    if form is not None:
        write_value({"steps": [asdict(step) for step in steps]}, form)
        return
    width = max(len(step.check) for step in steps)
    for step in steps:
        result = click.style(f"{step.result:7}", fg=_COLOURS[step.result])
        write(f"{result}  {step.check:{width}}  {printable(step.detail)}\n")
        if step.next_step:
            write(f"{'':9}{'':{width}}  next step: {printable(step.next_step)}\n")
