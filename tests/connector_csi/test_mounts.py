"""The kernel's mounts: real ones, in a mount namespace of their own that vanishes with the program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from connector_csi.mounts import KernelMounts, parse_mountinfo

INFO = """\
25 30 0:23 / /sys rw,nosuid,nodev shared:7 - sysfs sysfs rw
99 25 0:50 / /a\\040b rw - tmpfs connectors-csi rw,size=2048k
100 99 0:51 / /a\\040b rw - tmpfs other\\011source rw
"""
ROOT = Path(__file__).parents[2]
PROGRAM = """
import errno, os, sys, threading
from pathlib import Path
from connector_csi.mounts import KernelMounts, SOURCE

folder, selinux = Path(sys.argv[1]), Path(sys.argv[2])
mounts = KernelMounts(selinux=selinux)
target = folder / "a b"
target.mkdir()
assert not mounts.sources(str(target))
mounts.mount_tmpfs(str(target), mode=0o750, gid=4242)
assert tuple(mounts.sources(str(target))) == (SOURCE,)
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
held = (target / "file").open("w")
mounts.unmount(str(target))
assert len(mounts.sources(str(target))) == 1
mounts.unmount(str(target))
assert not mounts.sources(str(target))
held.close()
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
enforcing = folder / "enforce"
enforcing.write_text("1")
try:
    KernelMounts(selinux=enforcing).mount_tmpfs(str(target), mode=0o755, gid=0)
except OSError as e:
    assert e.errno == errno.EINVAL, e
    print("context= needs SELinux")
mounts.close()
print("done")
"""


def test_mountinfo_is_read_with_its_escapes() -> None:
    assert parse_mountinfo(INFO) == {"/sys": ["sysfs"], "/a b": ["connectors-csi", "other\tsource"]}


def test_an_old_kernel_is_asked_without_noswap(tmp_path: Path) -> None:
    asked: list[str] = []

    class Old(KernelMounts):
        def _mount(self, path: str, options: str) -> None:
            asked.append(options)
            if "noswap" in options:
                raise OSError(22, "Invalid argument")

    mounts = Old(selinux=tmp_path / "absent")
    for _ in range(2):
        mounts.mount_tmpfs("/x", mode=0o755, gid=7)
    mounts.close()
    assert [each.partition("uid=0,")[2] for each in asked] == ["gid=7,noswap", "gid=7", "gid=7"]


def test_another_error_is_not_taken_for_an_old_kernel(tmp_path: Path) -> None:
    class Refusing(KernelMounts):
        def _mount(self, path: str, options: str) -> None:
            raise PermissionError(1, "x")

    mounts = Refusing(selinux=tmp_path / "absent")
    with pytest.raises(PermissionError):
        mounts.mount_tmpfs("/x", mode=0o755, gid=0)
    mounts.close()


@pytest.mark.parametrize(("enforce", "labelled"), [("1", True), ("0", False)])
def test_an_enforcing_node_gets_a_label_that_containers_may_read(tmp_path: Path, enforce: str, labelled: bool) -> None:
    asked: list[str] = []

    class Asking(KernelMounts):
        def _mount(self, path: str, options: str) -> None:
            asked.append(options)

    (tmp_path / "enforce").write_text(enforce + "\n")
    mounts = Asking(selinux=tmp_path / "enforce")
    mounts.mount_tmpfs("/x", mode=0o755, gid=0)
    mounts.close()
    assert (',context="system_u:object_r:container_file_t:s0"' in asked[0]) == labelled


def test_what_is_busy_is_detached(tmp_path: Path) -> None:
    asked: list[int] = []

    class Busy(KernelMounts):
        def _unmount(self, path: str, flags: int) -> None:
            asked.append(flags)
            if len(asked) == 1:
                raise OSError(16, "busy")

    mounts = Busy(selinux=tmp_path / "absent")
    mounts.unmount("/x")
    mounts.close()
    assert asked == [8, 10]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root: run the tests as root to try real mounts")
def test_the_kernel_mounts_limits_and_unmounts(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None
    command = [unshare, "--mount", "--propagation", "private", sys.executable, "-c", PROGRAM, str(tmp_path), "/absent"]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("done\n")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
