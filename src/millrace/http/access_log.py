"""A log line for each request, or for those that were refused."""

import logging

from millrace.http.exchange import Exchange, OnExchange

__all__ = ["access_log"]

log = logging.getLogger("millrace.access")

FIRST_ERROR = 400
_PATH_LIMIT = 300


def access_log(kind: str) -> OnExchange | None:
    """Return what logs requests: "all", "errors" (status 400 and above), or nothing for "none"."""
    if kind == "none":
        return None
    least = 0 if kind == "all" else FIRST_ERROR

    def write(exchange: Exchange) -> None:
        if exchange.status < least or not log.isEnabledFor(logging.INFO):
            return
        log.info(
            "request",
            extra={
                "request_id": exchange.request_id,
                "service": exchange.service,
                "operation": exchange.operation,
                "method": exchange.method,
                "path": exchange.path[:_PATH_LIMIT],
                "status": exchange.status,
                "duration_ms": round(exchange.seconds * 1000, 3),
            },
        )

    return write
