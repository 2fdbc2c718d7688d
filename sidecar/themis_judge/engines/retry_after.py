"""What an HTTP endpoint says about when to come back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """What the endpoint asks for, in milliseconds, in seconds or as a date; None if it doesn't. headers: names
    in any case are found, as in an HTTP client's own mapping."""
    for name, per_second in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        if re.fullmatch(r"\d+(\.\d*)?", headers.get(name, "")):
            return float(headers[name]) / per_second
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError):  # the latter for days beyond what a machine word holds
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return max(0.0, moment.timestamp() - now_s)
