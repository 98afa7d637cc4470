"""Where the time of a request goes, for goals that are missed: a profile of our proxy while it serves that case.

The kernel's share is that of /proc, without a profiler, as libuv's own calls are in no profile. Of the rest a profiler
makes Python look dearer than it is beside OpenSSL, and leaves out libuv: shares say where to look, not how much.
"""

import marshal
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench.cases import Case
from bench.checkout import ROOT
from bench.goals import GoalResult
from bench.measure import measure
from bench.peers.connector_proxy import start_proxy
from bench.testbed import Testbed, open_testbed

PATIENCE: Final = 30.0
SHOWN: Final = 12
"""Places that are named."""
_SECONDS: Final = 2.0
_SIZE: Final = 1 << 29
"""How much of a case is profiled: bytes of one that moves them, seconds of all others."""
KERNEL: Final = "the kernel"
_KERNEL: Final = ("_socket.socket", "select.epoll", "posix.", "socket.close")
_TLS: Final = ("_openssl", "_ssl.", "_rust")
_PACKAGES: Final = ("mitmproxy", "OpenSSL", "cryptography", "asyncio")

Spot = tuple[str, int, str]
"""Of a profile: file (`~` for what is written in C), line and function."""


def missed(verdicts: Iterable[GoalResult], cases: Iterable[Case]) -> list[Case]:
    """Cases in which time is what is missed, as CPU, latency or speed; of memory a profile says nothing."""
    names = {each.goal.case for each in verdicts if not each.met and "memory" not in each.goal.figure}
    return [case for case in cases if case.name in names]


def lines(cases: Iterable[Case]) -> Iterator[str]:
    """To be printed below the goals."""
    with open_testbed() as scene:
        for case in cases:
            yield f"\nwhere the time of {case.name!r} goes\n"
            found = shares(*profile(scene, case))
            for name, share in sorted(found.items(), key=lambda each: -each[1])[:SHOWN]:
                yield f"  {share:6.1%}  {name}\n"


def profile(scene: Testbed, case: Case) -> tuple[Mapping[Spot, float], float]:
    """Seconds of each function's own, by function, and the kernel's share of the CPU."""
    told = scene.directory / "profile"
    script = Path(__file__).parent / "inside" / "profiled.py"
    peer = start_proxy(scene, name="profiled", scripts=(script,), env={"BENCH_PROFILE": str(told)})
    try:
        asked = peer.direct if case.direct and peer.direct is not None else peer
        measure(scene, asked, case.mode, peak=False, **_part(case, 1 / 4))
        before = peer.process.usage()
        measure(scene, asked, case.mode, peak=False, **_part(case))
        after = peer.process.usage()
        peer.process.popen.send_signal(signal.SIGUSR1)
        measure(scene, asked, case.mode, peak=False, **_part(case))
        peer.process.popen.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while not told.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("the proxy does not tell its profile")
            time.sleep(0.01)
    finally:
        peer.process.stop()
    stats: dict[Spot, tuple[Any, ...]] = marshal.loads(told.read_bytes())  # noqa: S302 - written by our own process
    told.unlink()
    kernel = (after.system - before.system) / max(after.cpu - before.cpu, 1e-9)
    return {spot: figures[2] for spot, figures in stats.items()}, kernel


def _part(case: Case, share: float = 1.0) -> dict[str, str | int]:
    """The flags of a case, for that share of what is profiled."""
    some: dict[str, str | int] = {"duration": f"{share * _SECONDS}s", "bytes": int(share * _SIZE)}
    return {name: some.get(name, value) for name, value in case.flags.items()}


def shares(profile: Mapping[Spot, float], kernel: float) -> dict[str, float]:
    """Of 1, by place: the kernel, TLS, a file of ours, a package of others."""
    found: defaultdict[str, float] = defaultdict(float)
    for spot, seconds in profile.items():
        found[_place(spot)] += seconds
    found.pop(KERNEL, None)
    whole = sum(found.values()) or 1.0
    return {KERNEL: kernel} | {name: seconds / whole * (1 - kernel) for name, seconds in found.items()}


def _place(spot: Spot) -> str:
    file, _, function = spot
    if file == "~":
        if any(each in function for each in _KERNEL):
            return KERNEL
        return "TLS" if any(each in function for each in _TLS) else "Python's own, in C"
    path = Path(file)
    if path.is_relative_to(ROOT) and ".venv" not in path.parts:
        return str(path.relative_to(ROOT))
    return next((each for each in _PACKAGES if each in path.parts), "Python's library, and others")
