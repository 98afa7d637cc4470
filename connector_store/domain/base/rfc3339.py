"""Times as Kubernetes writes them (RFC 3339, UTC).

>>> write(datetime(2026, 1, 2, 3, 4, 5, 6, UTC)), write_micro(datetime(2026, 1, 2, 3, 4, 5, 6, UTC))
('2026-01-02T03:04:05Z', '2026-01-02T03:04:05.000006Z')
"""

from datetime import UTC, datetime


def write(when: datetime) -> str:
    """metav1.Time: whole seconds."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_micro(when: datetime) -> str:
    """metav1.MicroTime: always six digits."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: object) -> float | None:
    """Unix seconds; None for what is no time, or one without a zone."""
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
        return when.timestamp() if when is not None and when.tzinfo is not None else None
    except ValueError:
        return None
