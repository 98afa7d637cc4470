"""OCI images without a registry: an archive with one layer that `ctr images import` reads.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import io
import json
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BOX_IMAGE = "docker.io/kubernetes-connector/box:1"
"""Image with busybox, its applets, and kubectl. Its default command is sleep."""
APPLETS = "sh ls cat sleep env tar wget nc ps id stat vi head tail grep date nslookup mkdir rm touch true false httpd"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_archive(root: Path, archive: Path, *, name: str, command: Sequence[str]) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, arcname=".", filter=_owned_by_root)
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layers = [blob(layer.getvalue(), "layer.v1.tar")]
    config = {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layers[0]["digest"]]},
    }
    manifest = {"schemaVersion": 2, "config": blob(_json(config), "config.v1+json"), "layers": layers}
    entry = blob(_json(manifest), "manifest.v1+json") | {"annotations": {"io.containerd.image.name": name}}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
        for digest, content in blobs.items():
            _add(tar, f"blobs/sha256/{digest}", content)


def write_box_image(archive: Path, *, busybox: Path, kubectl: Path) -> None:
    """Write the image of the tests' pods and of their pause containers."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        root = Path(folder)
        for part in ("bin", "etc", "tmp"):
            (root / part).mkdir()
        (root / "tmp").chmod(0o1777)
        (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
        shutil.copy(busybox, root / "bin" / "busybox")
        shutil.copy(kubectl, root / "bin" / "kubectl")
        for applet in APPLETS.split():
            (root / "bin" / applet).symlink_to("busybox")
        write_archive(root, archive, name=BOX_IMAGE, command=["sleep", "2147483647"])


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    if entry.name == ".":
        entry.mode = 0o755
    return entry


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
