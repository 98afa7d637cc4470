"""`connectorctl check`: everything in a folder of manifests that cannot work, or will not for long."""

import shlex
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.expiry import DEFAULT_EXPIRY_WARNING, format_relative_time
from connector_store.domain.config.settings import Settings
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.client_certificate import CERTIFICATE_KEY, ClientCertificate
from connector_store.domain.credential.placeholder import is_example_host, is_placeholder
from connector_store.domain.objects.models import Connector, InvalidConnector, Secret, Target
from connector_store.domain.status.facts import Facts, gather_facts
from connector_store.folder.folder_watch import FolderWatch
from connector_store.folder.manifests import LocatedObject, Problem, describe
from connector_store.folder.snapshot import SUFFIXES
from connector_store.store import Store

Severity = Literal["error", "warning", "info"]

_OTHERS_MODE: Final = stat.S_IRWXG | stat.S_IRWXO
_BEARER: Final = b"Bearer "
_PATTERNS: Final = ", ".join(f"*{each}" for each in SUFFIXES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`error` must be mended, `warning` should be, `info` is told. `line` 0: the whole file."""

    severity: Severity
    file: str
    line: int = 0
    subject: str = ""
    path: str = ""
    reason: str

    def __str__(self) -> str:
        """`FILE:LINE: [SEVERITY: ]SUBJECT: FIELD: REASON`; of an error, which is the rule, it is not said."""
        location = f"{self.file}:{self.line}" if self.line else self.file
        severity = "" if self.severity == "error" else self.severity
        return ": ".join(each for each in (location, severity, self.subject, self.path, self.reason) if each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found, in order of place; `targets` are the Connectors that can be used, and where they stand."""

    findings: tuple[Finding, ...]
    connectors: int
    targets: tuple[tuple[Facts, LocatedObject], ...]

    @property
    def error_count(self) -> int:
        """How many must be mended."""
        return sum(each.severity == "error" for each in self.findings)

    def with_findings(self, findings: Iterable[Finding]) -> "Report":
        """The same with what was found besides."""
        return replace(self, findings=_sorted((*self.findings, *findings)))

    @property
    def summary(self) -> str:
        """One line for a person."""
        warning_count = sum(each.severity == "warning" for each in self.findings)
        errors = "nothing to mend" if self.error_count == 0 else f"{_pluralize(self.error_count, 'problem')} to mend"
        warnings_suffix = f", {_pluralize(warning_count, 'warning')}" if warning_count else ""
        return f"{len(self.targets)} of {self.connectors} Connectors can be used; {errors}{warnings_suffix}"


def check_folder(path: Path, settings: Settings, *, now: float) -> Report:
    """Look at a folder, or at one file of it; `now` in unix seconds. ParseError if there is neither."""
    folder, file_name = (path.parent, path.name) if path.is_file() else (path, None)
    if not folder.is_dir() and path.name.endswith(SUFFIXES):
        raise ParseError(str(path), "is not there; name a folder of manifests, or one file of it")
    if not folder.is_dir():
        raise ParseError(str(path), f"is not there; make it with: connectorctl init {path}")
    store = Store()
    source = FolderWatch(folder, store, system_namespace=settings.system_namespace)
    problems = source.load_once()
    placed = [each for each in source.located_objects if file_name is None or Path(each.file).name == file_name]
    connectors = [each for each in placed if isinstance(each.object, Connector | InvalidConnector)]
    findings = [
        *(_problem_finding(each) for each in problems if file_name is None or Path(each.file).name == file_name),
        *(finding for each in placed for finding in _object_findings(each, now)),
        *_file_mode_findings(placed),
        *(_folder_findings(folder, connectors) if file_name is None else ()),
    ]
    return Report(
        findings=_sorted(findings), connectors=len(connectors), targets=tuple(_usable_targets(store, connectors))
    )


def _usable_targets(store: Store, connectors: Iterable[LocatedObject]) -> Iterator[tuple[Facts, LocatedObject]]:
    for placed in connectors:
        connector = placed.object
        if isinstance(connector, Connector) and isinstance(store.get(connector.key), Target):
            facts = gather_facts(
                connector,
                store.connector_class(connector.class_name),
                store.secret,
                store.shared_ca,
                store.cluster_role,
            )
            yield facts, placed


def _problem_finding(problem: Problem) -> Finding:
    return Finding(
        severity="error" if problem.fatal else "warning",
        file=problem.file,
        line=problem.line,
        subject=problem.subject,
        path=problem.path,
        reason=problem.reason,
    )


def _object_findings(placed: LocatedObject, now: float) -> Iterator[Finding]:
    """What a proxy does not say: that a value is an example's, that a credential has ended."""
    match placed.object:
        case Connector(address=address) if is_example_host(address.host):
            reason = f"{address.host} is an example's; put in the address of the target"
            yield finding_at(placed, "spec.address", "error", reason)
        case Secret(credential=BearerToken(authorization=bytes(authorization), expires_at=expires)):
            token = authorization.removeprefix(_BEARER).decode("ascii")
            path = _secret_key_path(placed, "token")
            if is_placeholder(token):
                yield finding_at(placed, path, "error", "is a placeholder; put in a token of the target")
            yield from _expiry_findings(placed, path, "token", expires, now)
        case Secret(credential=ClientCertificate(expires_at=expires)):
            yield from _expiry_findings(placed, _secret_key_path(placed, CERTIFICATE_KEY), "certificate", expires, now)


def _secret_key_path(placed: LocatedObject, key: str) -> str:
    """Path of a Secret's key, in data or in stringData."""
    return next(each for each in placed.lines if each.endswith(f"[{key}]"))


def _expiry_findings(
    placed: LocatedObject, path: str, noun: str, expires: float | None, now: float
) -> Iterator[Finding]:
    if expires is not None and expires <= now:
        yield finding_at(placed, path, "error", f"the {noun} expired {format_relative_time(expires - now)}; renew it")
    elif expires is not None and expires <= now + DEFAULT_EXPIRY_WARNING:
        yield finding_at(
            placed, path, "warning", f"the {noun} expires {format_relative_time(expires - now)}; renew it before"
        )


def _file_mode_findings(placed: Iterable[LocatedObject]) -> Iterator[Finding]:
    """Files with a credential that others than their owner can read, as ssh looks at keys."""
    files = {each.file for each in placed if isinstance(each.object, Secret) and each.object.credential is not None}
    for file in sorted(files):
        if Path(file).stat().st_mode & _OTHERS_MODE:
            reason = f"holds a credential, and others than its owner may read it; run: chmod 600 {shlex.quote(file)}"
            yield Finding(severity="warning", file=file, reason=reason)


def _folder_findings(folder: Path, connectors: list[LocatedObject]) -> Iterator[Finding]:
    """Files that are passed over, and a folder in which there is nothing: a gate on the wrong folder must not open."""
    entries = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    manifests = [each for each in entries if each.name.endswith(SUFFIXES) and not each.is_dir()]
    for each in entries:
        if each not in manifests:
            kind = "sub-folders are" if each.is_dir() else "is"
            yield Finding(severity="info", file=str(each), reason=f"{kind} not read; manifests are {_PATTERNS}")
    if not manifests:
        yield Finding(severity="error", file=str(folder), reason=f"there are no manifests in it ({_PATTERNS})")
    elif not connectors:
        yield Finding(severity="error", file=str(folder), reason="there is no Connector in it")


def finding_at(placed: LocatedObject, path: str, severity: Severity, reason: str) -> Finding:
    """A finding at a field of an object."""
    line = placed.lines.get(path, placed.line)
    return Finding(
        severity=severity, file=placed.file, line=line, subject=describe(placed.object), path=path, reason=reason
    )


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda each: (each.file, each.line)))


def _pluralize(number: int, name: str) -> str:
    return f"1 {name}" if number == 1 else f"{number} {name}s"
