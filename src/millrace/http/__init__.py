"""The ASGI side: the stages of a request, streaming bodies and the server.

The CONNECT proxy is not re-exported: its cryptography costs 50 ms that a server without a proxy need not pay.
"""

from millrace.http.app import ASGIApp, PlainHandler, app
from millrace.http.server import serve

__all__ = ["ASGIApp", "PlainHandler", "app", "serve"]
