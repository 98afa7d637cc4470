"""Stages of the tests: scripts/test installs the packages and calls this program.

stages.py [STAGE [PYTEST ARGUMENT...]]    STAGE: check unit own_coverage slow uvloop cluster clients node fuzz versions

Without a stage, all stages except fuzz and versions run one after the other, cheapest failure first. Tests beside
clusters and on nodes run in lanes at the same time, because they wait more than they compute; build/LANE.log has the
output of a lane.
"""

import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Final

from lanes import Lane, LaneFunction, Prerequisite, print_heading, run_command, run_lanes, run_until_signal
from usage import show_help

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = Path("build")
PYTHON: Final = ".venv/bin/python"
PYTEST: Final = (PYTHON, "-m", "pytest", "-q")
PYTEST_ON_A_NODE: Final = ("scripts/cluster", "isolate", *PYTEST, "-m", "node")
UNIT: Final = "not slow and not cluster and not clients and not node"
SLOW: Final = "slow and not cluster and not clients and not node"
CLUSTER: Final = "cluster and not clients and not node"

VERSIONS: Final = (("1.33", "3"), ("1.34", "4"), ("1.35", "3"), ("1.36", "4"), ("1.37", "3"))
"""Versions of Kubernetes and Helm in the stage `versions`. The other stages run with Kubernetes 1.37 and Helm 4."""
VERSION_TESTS: Final = (
    *(
        f"tests/cluster/deploy/test_assembled.py::{name}"
        for name in (
            "test_one_apply_installs_everything_on_a_fresh_cluster",
            "test_applying_twice_succeeds",
            "test_only_an_api_server_older_than_1_35_needs_the_component",
        )
    ),
    "tests/cluster/deploy/test_crds.py",
    "tests/cluster/deploy/test_access_crds.py",
    "tests/cluster/deploy/test_access_policy.py",
    "tests/cluster/deploy/test_chart.py",
    "tests/cluster/deploy/test_chart_values.py",
    "tests/cluster/controller/test_conditions.py::test_the_api_server_itself_is_a_ready_target",
    "tests/cluster/controller/test_trust_bundle.py",
    "tests/cluster/kube/test_access.py",
    "tests/cluster/kube/test_served.py",
    "tests/cluster/proxy/test_kubectl.py",
)
"""Manifests, definitions, policies, the chart, the controller, reviews, watches, and kubectl through a proxy."""
ONCE_PER_RELEASE: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("k9s", (*PYTEST, "-m", "k9s")),
    ("tekton", (*PYTEST, "-m", "tekton")),
    ("1,000 nodes", ("env", "ROLLOUT_NODES=1000", *PYTEST, "tests/cluster/deploy/test_rollout.py")),
)
"""Names and commands of tests of the stage `versions` that run with one version: Kubernetes 1.37 and Helm 4."""

Stage = Callable[[Sequence[str]], Coroutine[None, None, int]]


def pytest_command(marks: str, arguments: Sequence[str] = (), *, workers: int) -> list[str]:
    return [*PYTEST, "-n", str(workers), "--dist", "worksteal", "-m", marks, *arguments]


async def check(_: Sequence[str]) -> int:
    print_heading("check: format, lint, layers, types")
    return await run_command("scripts/check")


async def unit(arguments: Sequence[str]) -> int:
    """More workers than a small machine has cores, because some tests wait. Each worker needs 3 s to collect."""
    print_heading("unit: no cluster, no other process, nothing slow")
    profile = [] if os.environ.get("CI") else ["--hypothesis-profile", "inner-loop"]
    return await run_command(*pytest_command(UNIT, [*profile, *arguments], workers=5))


async def own_coverage(arguments: Sequence[str]) -> int:
    print_heading("own coverage: each file of the domain by its own test file alone")
    return await run_command(PYTHON, "scripts/own_coverage.py", *arguments)


async def slow(arguments: Sequence[str]) -> int:
    print_heading("slow: real processes on loopback")
    return await run_command(*pytest_command(SLOW, arguments, workers=4))


async def uvloop(arguments: Sequence[str]) -> int:
    print_heading("uvloop: the tests of the proxy, on the event loop of python -m addons")
    options = ["--loop", "uvloop", "tests/addons", *arguments]
    return await run_command(*pytest_command("not cluster and not node", options, workers=4))


async def cluster(arguments: Sequence[str]) -> int:
    print_heading("cluster: beside a real control plane")
    return await run_command(*pytest_command(CLUSTER, arguments, workers=3))


async def clients(arguments: Sequence[str]) -> int:
    """One process: all clients run at the same time, and mostly wait a minute before they read their token again."""
    print_heading("clients: of many languages, beside a real control plane")
    return await run_command(*PYTEST, "-m", "clients", *arguments)


async def node(arguments: Sequence[str]) -> int:
    print_heading("node: on whole nodes, in private namespaces")
    if not await can_run_node():
        return await skip_node_tests(arguments)
    if arguments:
        return await build_images(run_command) or await run_command(*PYTEST_ON_A_NODE, *arguments)
    return await run_and_name_failures(node_lanes())


async def fuzz(arguments: Sequence[str]) -> int:
    """It draws other examples in each run, and no test has a time limit."""
    print_heading("fuzz: attacks, for minutes")
    options = ["--hypothesis-profile", "fuzz", "--timeout", "0", *arguments]
    return await run_command(*pytest_command("fuzz", options, workers=4))


async def versions(arguments: Sequence[str]) -> int:
    """Build each API server and k9s once, which takes minutes. Run all, also after a failure.

    Arguments select other tests to run with each version, instead of VERSION_TESTS and ONCE_PER_RELEASE.
    """
    codes = []
    for kubernetes, helm in VERSIONS:
        print_heading(f"versions: Kubernetes {kubernetes}, Helm {helm}")
        command = (*PYTEST, "-m", CLUSTER, *(arguments or VERSION_TESTS))
        codes.append(await run_command(PYTHON, "-m", "lab.versions", kubernetes, helm, *command))
    for name, command in () if arguments else ONCE_PER_RELEASE:
        print_heading(f"versions: {name}")
        codes.append(await run_command(*command))
    return max(codes)


async def clusters_and_nodes() -> int:
    print_heading("cluster and node: beside control planes, and on nodes in private namespaces, at the same time")
    if await can_run_node():
        return await run_and_name_failures(node_lanes(with_clusters=True))
    return await clients([]) or await cluster([]) or await skip_node_tests([])


async def all_stages(_: Sequence[str]) -> int:
    for stage in (check, unit, own_coverage):
        if code := await stage([]):
            return code
    if os.environ.get("CI"):
        print_heading("installing what real networks and the node need")
        if code := await run_command("scripts/install", "--node"):
            return code
    return await slow([]) or await uvloop([]) or await clusters_and_nodes()


STAGES: Final[dict[str, Stage]] = {
    "check": check,
    "unit": unit,
    "own_coverage": own_coverage,
    "slow": slow,
    "uvloop": uvloop,
    "cluster": cluster,
    "clients": clients,
    "node": node,
    "fuzz": fuzz,
    "versions": versions,
    "all": all_stages,
}


async def can_run_node() -> bool:
    """Build the programs of a node, and check the machine."""
    return not (
        await run_command("scripts/cluster", "build", "--node")
        or await run_command(PYTHON, "-m", "lab.node.requirements")
    )


async def skip_node_tests(arguments: Sequence[str]) -> int:
    """Run the tests that need a node where there is none: they are skipped with the reason, and fail in CI."""
    return await run_command(*PYTEST, "-m", "node", *arguments)


async def build_images(run: Callable[..., Awaitable[int]]) -> int:
    """Build the image of the tree and of the former release, before the namespaces close, which have no network."""
    sys.stderr.write("building the image; the first time takes minutes\n")
    BUILD.mkdir(exist_ok=True)
    return await run("scripts/image", "--debian", "--archive", str(BUILD / "image.tar")) or await run("scripts/former")


def node_lanes(*, with_clusters: bool = False) -> dict[str, LaneFunction]:
    """Return the lanes: the images, nodes in namespaces of their own, and optionally the tests beside clusters."""
    images = Prerequisite("image")

    async def image(lane: Lane) -> bool:
        async def run(*command: str) -> int:
            return 0 if await lane.run(*command) else 1

        async def build() -> bool:
            return await build_images(run) == 0

        return await images.provide(build())

    async def journey_ends(lane: Lane) -> bool:
        return await images.wait(lane) and await lane.run(*PYTEST_ON_A_NODE, *journey_tests("[5-9]"))

    async def journey_begins(lane: Lane) -> bool:
        return await images.wait(lane) and await lane.run(*PYTEST_ON_A_NODE, *journey_tests("[0-4]"))

    async def other_nodes(lane: Lane) -> bool:
        others = ("tests/journey", "tests/node/test_upgrade.py", "tests/node/test_clients.py")
        ignored = [argument for path in others for argument in ("--ignore", path)]
        return await images.wait(lane) and await lane.run(*PYTEST_ON_A_NODE, *ignored)

    async def clients_and_upgrade(lane: Lane) -> bool:
        # Before the namespaces close. If a program cannot be built, its tests say so.
        await lane.run(PYTHON, "-m", "lab.client_programs")
        return (
            await images.wait(lane)
            and await lane.run(*PYTEST_ON_A_NODE, "tests/node/test_clients.py")
            and await lane.run(*PYTEST_ON_A_NODE, "tests/node/test_upgrade.py")
        )

    async def clusters(lane: Lane) -> bool:
        return await lane.run(*pytest_command(CLUSTER, workers=2))

    async def clients_everywhere(lane: Lane) -> bool:
        return await lane.run(*PYTEST, "-m", "clients") and await clients_and_upgrade(lane)

    # Of the lanes with nodes, the one that waits most comes first: for tokens that kubelet renews.
    lanes: tuple[LaneFunction, ...] = (image, other_nodes, journey_ends, journey_begins)
    lanes += (clusters, clients_everywhere) if with_clusters else (clients_and_upgrade,)
    return {lane.__name__: lane for lane in lanes}


def journey_tests(numbers: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "journey").glob(f"test_{numbers}*.py"))


async def run_and_name_failures(lanes: dict[str, LaneFunction]) -> int:
    failed = await run_lanes(lanes, BUILD)
    if failed:
        sys.stderr.write(f"failed: {' '.join(failed)}\n")
    return 1 if failed else 0


def main(arguments: Sequence[str]) -> int:
    if show_help(arguments[:1], __doc__):
        return 0
    name, *rest = arguments or ["all"]
    if name not in STAGES:
        sys.stderr.write(f'error: stage "{name}" does not exist; stages are {", ".join(STAGES)}\n')
        return 2
    os.chdir(ROOT)
    return run_until_signal(STAGES[name](rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
