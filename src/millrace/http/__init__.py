"""The ASGI side: the stages of a request, streaming bodies, the server and the CONNECT proxy."""

from millrace.http.app import ASGIApp, PlainHandler, app
from millrace.http.proxy import ConnectProxy
from millrace.http.server import serve

__all__ = ["ASGIApp", "ConnectProxy", "PlainHandler", "app", "serve"]
