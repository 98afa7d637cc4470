"""Checks of a folder of manifests: problems that keep a Connector from working, now or soon."""

import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.expiry import format_relative_time
from connector_store.domain.config.settings import Settings
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.client_certificate import CERTIFICATE_KEY, ClientCertificate
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.credential.placeholder import is_example_host, is_placeholder
from connector_store.domain.objects.example_values import example_problem
from connector_store.domain.objects.models import Connector, InvalidConnector, Secret, Target
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.status.facts import ConnectorFacts, gather_facts
from connector_store.folder.folder_watch import FolderWatch
from connector_store.folder.manifests import LocatedObject, Problem, describe
from connector_store.folder.snapshot import SUFFIXES
from connector_store.store import Store
from connectorctl.folders import missing_folder_error

Severity = Literal["error", "warning", "info"]

_OTHERS_MODE: Final = stat.S_IRWXG | stat.S_IRWXO
_BEARER: Final = b"Bearer "
_PATTERNS: Final = ", ".join(f"*{suffix}" for suffix in SUFFIXES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A finding of the check. An error must be fixed, a warning should be. Line 0 stands for the whole file."""

    severity: Severity
    file: str
    line: int = 0
    subject: str = ""
    path: str = ""
    reason: str

    def __str__(self) -> str:
        """Return `FILE:LINE: [SEVERITY: ]SUBJECT: FIELD: REASON`. The severity of an error is left out."""
        location = f"{self.file}:{self.line}" if self.line else self.file
        severity = "" if self.severity == "error" else self.severity
        return ": ".join(part for part in (location, severity, self.subject, self.path, self.reason) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Findings in order of file and line. `targets` are the usable Connectors with their place."""

    findings: tuple[Finding, ...]
    connectors: int
    targets: tuple[tuple[ConnectorFacts, LocatedObject], ...]

    @property
    def error_count(self) -> int:
        """Number of errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    def with_probe_findings(self, findings: Sequence[Finding]) -> "Report":
        """Return a report with the findings of probes. A Connector whose probe failed is not usable."""
        failed = {(finding.file, finding.subject) for finding in findings}
        targets = tuple(
            (facts, located)
            for facts, located in self.targets
            if (located.file, describe(located.object)) not in failed
        )
        return replace(self, findings=_sorted((*self.findings, *findings)), targets=targets)

    @property
    def summary(self) -> str:
        """Summary in one line."""
        warning_count = sum(finding.severity == "warning" for finding in self.findings)
        errors = "no problems" if self.error_count == 0 else f"{_pluralize(self.error_count, 'problem')} to fix"
        warnings_suffix = f", {_pluralize(warning_count, 'warning')}" if warning_count else ""
        return f"{len(self.targets)} of {self.connectors} Connectors can be used; {errors}{warnings_suffix}"


def check_folder(path: Path, settings: Settings, *, now: float) -> Report:
    """Check a folder, or one file in it. `now` is in unix seconds. Raises ParseError if `path` does not exist."""
    folder, file_name = (path.parent, path.name) if path.is_file() else (path, None)
    if not folder.is_dir() and path.name.endswith(SUFFIXES):
        raise ParseError("", f'file "{path}" does not exist; name a folder of manifests, or one file of it')
    if not folder.is_dir():
        raise missing_folder_error(path)
    store = Store()
    source = FolderWatch(folder, store, system_namespace=settings.system_namespace)
    problems = source.load_once()
    located_objects = [
        located for located in source.located_objects if file_name is None or Path(located.file).name == file_name
    ]
    connectors = [located for located in located_objects if isinstance(located.object, Connector | InvalidConnector)]
    targets = tuple(_usable_targets(store, connectors))
    findings = [
        *(
            _problem_finding(problem)
            for problem in problems
            if file_name is None or Path(problem.file).name == file_name
        ),
        *(
            finding
            for located in located_objects
            for finding in _object_findings(located, now, settings.expiry_warning)
        ),
        *_permission_findings(targets),
        *_file_mode_findings(located_objects),
        *(_folder_findings(folder, connectors) if file_name is None else ()),
    ]
    return Report(findings=_sorted(findings), connectors=len(connectors), targets=targets)


def _usable_targets(
    store: Store, connectors: Iterable[LocatedObject]
) -> Iterator[tuple[ConnectorFacts, LocatedObject]]:
    for located in connectors:
        connector = located.object
        if not isinstance(connector, Connector):
            continue
        target = store.get(connector.key)
        if isinstance(target, Target) and example_problem(target) is None:
            facts = gather_facts(
                connector,
                store.connector_class(connector.class_name),
                store.secret,
                store.shared_ca,
                store.cluster_role,
            )
            yield facts, located


def _problem_finding(problem: Problem) -> Finding:
    return Finding(
        severity="error" if problem.fatal else "warning",
        file=problem.file,
        line=problem.line,
        subject=problem.subject,
        path=problem.path,
        reason=problem.reason,
    )


def _object_findings(located: LocatedObject, now: float, expiry_warning: float) -> Iterator[Finding]:
    """Find problems that a proxy does not report: example values, and credentials that expire."""
    match located.object:
        case Connector(address=address) if is_example_host(address.host):
            reason = f"{address.host} is an example; enter the address of the target"
            yield finding_at(located, "spec.address", "error", reason)
        case Secret(credential=BearerToken(authorization=bytes(authorization)) as credential):
            token = authorization.removeprefix(_BEARER).decode("ascii")
            path = _secret_key_path(located, "token")
            if is_placeholder(token):
                yield finding_at(located, path, "error", "is a placeholder; enter a token of the target")
            yield from _expiry_findings(located, path, "token", credential, now, expiry_warning)
        case Secret(credential=ClientCertificate() as credential):
            yield from _expiry_findings(
                located, _secret_key_path(located, CERTIFICATE_KEY), "certificate", credential, now, expiry_warning
            )


def _permission_findings(targets: Iterable[tuple[ConnectorFacts, LocatedObject]]) -> Iterator[Finding]:
    """Find masks that callers can get around, and fields of permissions that do not work together."""
    for facts, located in targets:
        if not isinstance(facts.permissions, PermissionEvaluator):
            continue
        if gaps := facts.permissions.mask_gaps:
            reason = f"callers can get around it; add to spec.permissions.deny: {', '.join(gaps)}"
            yield finding_at(located, "spec.permissions.mask", "warning", reason)
        for problem in facts.permissions.ineffective_rights or ():
            yield finding_at(located, "spec.permissions", "info", problem)


def _secret_key_path(located: LocatedObject, key: str) -> str:
    """Return the path of a Secret's key in data or stringData."""
    return next(path for path in located.lines if path.endswith(f"[{key}]"))


def _expiry_findings(
    located: LocatedObject, path: str, noun: str, credential: Credential, now: float, expiry_warning: float
) -> Iterator[Finding]:
    expires = credential.expires_at
    if expires is not None and expires <= now:
        yield finding_at(located, path, "error", f"the {noun} expired {format_relative_time(expires - now)}; renew it")
    elif expires is not None and now >= credential.expiry_warning_at(expiry_warning):
        yield finding_at(
            located, path, "warning", f"the {noun} expires {format_relative_time(expires - now)}; renew it before"
        )


def _file_mode_findings(located_objects: Iterable[LocatedObject]) -> Iterator[Finding]:
    """Find files with a credential that users other than the owner can access, as ssh does for keys."""
    files = {
        located.file
        for located in located_objects
        if isinstance(located.object, Secret) and located.object.credential is not None
    }
    for file in sorted(files):
        if Path(file).stat().st_mode & _OTHERS_MODE:
            reason = f"has a credential that users other than its owner may read; run: chmod 600 {shlex.quote(file)}"
            yield Finding(severity="warning", file=file, reason=reason)


def _folder_findings(folder: Path, connectors: list[LocatedObject]) -> Iterator[Finding]:
    """Find ignored files, and folders without Connectors: a CI check of the wrong folder must fail."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    manifests = [entry for entry in entries if entry.name.endswith(SUFFIXES) and not entry.is_dir()]
    for entry in entries:
        if entry not in manifests:
            kind = "sub-folders are" if entry.is_dir() else "is"
            yield Finding(severity="info", file=str(entry), reason=f"{kind} not read; manifests are {_PATTERNS}")
    step = f"create one with: connectorctl init {shlex.quote(str(folder))}"
    if not manifests:
        yield Finding(severity="error", file=str(folder), reason=f"the folder has no manifests ({_PATTERNS}); {step}")
    elif not connectors:
        yield Finding(severity="error", file=str(folder), reason=f"the folder has no Connector; {step}")


def finding_at(located: LocatedObject, path: str, severity: Severity, reason: str) -> Finding:
    """Return a finding at a field of an object."""
    line = located.lines.get(path, located.line)
    return Finding(
        severity=severity, file=located.file, line=line, subject=describe(located.object), path=path, reason=reason
    )


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (finding.file, finding.line)))


def _pluralize(number: int, name: str) -> str:
    return f"1 {name}" if number == 1 else f"{number} {name}s"
