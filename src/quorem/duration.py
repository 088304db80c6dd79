"""Spans of time, in words."""


def duration(seconds: float) -> str:
    """Seconds, minutes from two of them on, or hours and minutes: 50 s, 30 min, 5 h 0 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"
