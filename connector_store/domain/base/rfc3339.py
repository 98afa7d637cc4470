"""Times in Kubernetes' notation (RFC 3339, UTC).

>>> format_time(datetime(2026, 1, 2, 3, 4, 5, 6, UTC))
'2026-01-02T03:04:05Z'
>>> format_micro_time(datetime(2026, 1, 2, 3, 4, 5, 6, UTC))
'2026-01-02T03:04:05.000006Z'
"""

from datetime import UTC, datetime


def format_time(time: datetime) -> str:
    """Format a metav1.Time, which has whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_unix_time(seconds: float) -> str:
    """Format Unix seconds as a metav1.Time."""
    return format_time(datetime.fromtimestamp(seconds, UTC))


def format_micro_time(time: datetime) -> str:
    """Format a metav1.MicroTime, which has six fractional digits."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: object) -> float | None:
    """Parse a time and return Unix seconds. Return None if it is not a time or has no zone."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
        return time.timestamp() if time is not None and time.tzinfo is not None else None
    except ValueError:
        return None
