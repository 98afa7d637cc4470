"""The kernel's mounts: real ones, in a mount namespace that ends with the program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from connector_csi.mounts import TMPFS_SIZE, KernelMounts, parse_mountinfo
from connector_csi.volumes import MAX_VOLUMES

INFO = """\
25 30 0:23 / /sys rw,nosuid,nodev shared:7 - sysfs sysfs rw
99 25 0:50 / /a\\040b rw - tmpfs connectors-csi rw,size=2048k
100 99 0:51 / /a\\040b rw - tmpfs other\\011source rw
"""
ROOT = Path(__file__).parents[2]
PROGRAM = """
import errno, os, subprocess, sys, threading
from pathlib import Path
from connector_csi.mounts import KernelMounts, MOUNT_SOURCE

folder = Path(sys.argv[1])
mounts = KernelMounts()
target = folder / "a b"
target.mkdir()
assert not mounts.sources(str(target))
mounts.mount_tmpfs(str(target), mode=0o750, gid=4242)
assert tuple(mounts.sources(str(target))) == (MOUNT_SOURCE,)
status = target.stat()
assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o750, 0, 4242), status
line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "a\\\\040b" in line)
for flag in ("nosuid", "nodev", "noexec", "size=2048k"):
    assert flag in line, line
release = tuple(int(part) for part in os.uname().release.split(".")[:2])
assert ("noswap" in line) == (release >= (6, 4)), line
try:
    (target / "big").write_bytes(bytes(3 << 20))
except OSError as e:
    assert e.errno == errno.ENOSPC
else:
    raise AssertionError("no limit")
mounts.mount_tmpfs(str(target), mode=0o755, gid=0)
assert len(mounts.sources(str(target))) == 2
open_file = (target / "file").open("w")
mounts.unmount(str(target))
assert len(mounts.sources(str(target))) == 1
mounts.unmount(str(target))
assert not mounts.sources(str(target))
open_file.close()
strange = folder / "a\\r\\x0b\\x0c\\x1c\\x85\\u2028b"
strange.mkdir()
bound = folder / "bound"
bound.mkdir()
subprocess.run(["mount", "--bind", str(strange), str(bound)], check=True)
assert len(mounts.sources(str(bound))) == 1
KernelMounts().close()
try:
    mounts.unmount(str(target))
except OSError as e:
    assert e.errno == errno.EINVAL
else:
    raise AssertionError("nothing was mounted")
try:
    mounts.mount_tmpfs(str(folder / "absent"), mode=0o755, gid=0)
except OSError as e:
    assert e.errno == errno.ENOENT
else:
    raise AssertionError("nothing is there")
enforce = folder / "sys" / "fs" / "selinux" / "enforce"
enforce.parent.mkdir(parents=True)
enforce.write_text("1")
labelling = KernelMounts(sys=folder / "sys", selinux_context="system_u:object_r:container_file_t:s0")
labelling.mount_tmpfs(str(target), mode=0o755, gid=0)
assert tuple(labelling.sources(str(target))) == (MOUNT_SOURCE,)
labelling.mount_tmpfs(str(target), mode=0o755, gid=0)
labelling.close()
mounts.close()
print("done")
"""


def test_mountinfo_is_read_with_its_escapes() -> None:
    assert parse_mountinfo(INFO) == {"/sys": ["sysfs"], "/a b": ["connectors-csi", "other\tsource"]}


@pytest.mark.parametrize(
    "boundary", ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"], ids=ascii
)
def test_a_sub_path_does_not_end_a_line(boundary: str) -> None:
    bound = f"101 25 0:52 /x{boundary}y /sub rw - tmpfs tmpfs rw\n"
    assert parse_mountinfo(INFO + bound) == {**parse_mountinfo(INFO), "/sub": ["tmpfs"]}


def test_an_old_kernel_mounts_without_noswap(tmp_path: Path) -> None:
    calls: list[str] = []

    class Old(KernelMounts):
        def _mount(self, path: str, options: str) -> None:
            calls.append(options)
            if "noswap" in options:
                raise OSError(22, "Invalid argument")

    mounts = Old(sys=tmp_path)
    for _ in range(2):
        mounts.mount_tmpfs("/x", mode=0o755, gid=7)
    mounts.close()
    assert [each.partition("uid=0,")[2] for each in calls] == ["gid=7,noswap", "gid=7", "gid=7"]


def test_another_error_does_not_mean_an_old_kernel(tmp_path: Path) -> None:
    class Refusing(KernelMounts):
        def _mount(self, path: str, options: str) -> None:
            raise PermissionError(1, "x")

    mounts = Refusing(sys=tmp_path)
    with pytest.raises(PermissionError):
        mounts.mount_tmpfs("/x", mode=0o755, gid=0)
    mounts.close()


def test_a_mount_refused_twice_does_not_mean_an_old_kernel(tmp_path: Path) -> None:
    calls: list[str] = []

    class Refusing(KernelMounts):
        def _mount(self, path: str, options: str) -> None:
            calls.append(options.partition("gid=")[2])
            if len(calls) <= 2:
                raise OSError(22, "Invalid argument")

    mounts = Refusing(sys=tmp_path)
    with pytest.raises(OSError, match="Invalid"):
        mounts.mount_tmpfs("/x", mode=0o755, gid=0)
    mounts.mount_tmpfs("/x", mode=0o755, gid=0)
    mounts.close()
    assert calls == ["0,noswap", "0", "0,noswap"]


LABEL = "system_u:object_r:container_file_t:s0"


def enforcing(folder: Path, text: str) -> Path:
    """Create a node's /sys in `folder`."""
    path = folder / "fs" / "selinux" / "enforce"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("enforce", "label", "labelled"),
    [
        pytest.param("1\n", LABEL, True, id="enforced"),
        pytest.param("0\n", LABEL, False, id="permissive"),
        pytest.param("1\n", "", False, id="no label is set"),
    ],
)
def test_a_mount_has_a_label_if_selinux_is_enforced(tmp_path: Path, enforce: str, label: str, labelled: bool) -> None:
    calls: list[str] = []

    class Recording(KernelMounts):
        def _mount(self, path: str, options: str) -> None:
            calls.append(options)

    mounts = Recording(sys=enforcing(tmp_path, enforce), selinux_context=label)
    mounts.mount_tmpfs("/x", mode=0o755, gid=0)
    mounts.close()
    assert [f',context="{LABEL}"' in each for each in calls] == [labelled]


def test_a_refused_label_is_left_to_the_policy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    class Refusing(KernelMounts):
        def _mount(self, path: str, options: str) -> None:
            calls.append(options.partition("gid=0")[2])
            if "context=" in options:
                raise PermissionError(13, "Permission denied")

    mounts = Refusing(sys=enforcing(tmp_path, "1"), selinux_context=LABEL)
    mounts.mount_tmpfs("/x", mode=0o755, gid=0)
    mounts.close()
    assert calls == [f',context="{LABEL}",noswap', ",noswap"]
    assert "container_file_t" in caplog.text


def test_a_busy_mount_is_detached(tmp_path: Path) -> None:
    calls: list[int] = []

    class Busy(KernelMounts):
        def _unmount(self, path: str, flags: int) -> None:
            calls.append(flags)
            if len(calls) == 1:
                raise OSError(16, "busy")

    mounts = Busy(sys=tmp_path)
    mounts.unmount("/x")
    mounts.close()
    assert calls == [8, 10]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root: run the tests as root to try real mounts")
def test_the_kernel_mounts_limits_and_unmounts(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None
    command = [unshare, "--mount", "--propagation", "private", sys.executable, "-c", PROGRAM, str(tmp_path)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("done\n")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


PODS: Final = 110
"""Pods of a node: kubelet's default (maxPods)."""
PROCESS: Final = 128
"""MiB. The driver itself uses 65 to 93."""
LARGE: Final = 0.46
"""MiB of a volume with 32 Connectors in all configurations, in whole pages and with its inodes."""


def test_the_memory_limit_has_room_for_the_driver_and_the_volumes_of_a_node() -> None:
    daemon_set = yaml.safe_load((ROOT / "deploy/csi/daemonset.yaml").read_text())
    limit: str = daemon_set["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    usage = max(PODS * int(TMPFS_SIZE.removesuffix("m")), MAX_VOLUMES * LARGE)
    assert int(limit.removesuffix("Mi")) >= usage + PROCESS
