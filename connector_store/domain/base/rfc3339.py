"""Times as Kubernetes writes them (RFC 3339, UTC).

>>> write(datetime(2026, 1, 2, 3, 4, 5, 6, UTC)), write_micro(datetime(2026, 1, 2, 3, 4, 5, 6, UTC))
('2026-01-02T03:04:05Z', '2026-01-02T03:04:05.000006Z')
"""

from datetime import UTC, datetime


def format_time(time: datetime) -> str:
    """metav1.Time: whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(time: datetime) -> str:
    """metav1.MicroTime: always six digits."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: object) -> float | None:
    """Unix seconds; None for what is no time, or one without a zone."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
        return time.timestamp() if time is not None and time.tzinfo is not None else None
    except ValueError:
        return None
