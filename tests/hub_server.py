"""A Hub on loopback that the real client talks to, with faults on demand."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hub_routes import Reply, error_reply, route
from hub_store import HubError, HubStore


@dataclass
class Fault:
    """What goes wrong with the next requests that fit.

    Args:
        pattern: Searched in "METHOD /path".
        times: For how many requests.
        status: Answer with it, instead of doing anything.
        retry_after: Seconds to ask for with it.
        cut_at: Break the connection after so many bytes of the body.
        change: Put this in place of the body; the length that was announced by HEAD stays.
        before: Run this first, then answer as usual: a branch that moves, a test that kills its client.
    """

    pattern: str
    times: int = 1
    status: int | None = None
    retry_after: int | None = None
    cut_at: int | None = None
    change: Callable[[bytes], bytes] | None = None
    before: Callable[[], None] | None = None


class HubServer:
    """A Hub for one test module; its address goes into the client's HF_ENDPOINT.

    Args:
        token: Requests need it; None lets everyone in.
    """

    def __init__(self, *, token: str | None = None) -> None:
        self.store = HubStore()
        self.token = token
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Address without a final slash."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, name: str, files: dict[str, bytes], *, branch: str = "main", title: str = "upload") -> str:
        """Put files on a branch, which starts empty where it is new; return the commit."""
        with self.store.lock:
            repository = self.store.repositories.get(name) or self.store.create(name)
            digests = {path: self.store.put(content) for path, content in files.items()}
            return repository.commit(branch, digests, title=title).oid

    def fault_for(self, request: str) -> Fault | None:
        """Take the first fault that fits and has uses left."""
        with self.store.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or a connection that a fault cut, is part of the test."""


def _handler_for(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        server_hub = hub

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # With Nagle's algorithm every answer waits 40 ms for the client's acknowledgement.
    disable_nagle_algorithm = True
    server_hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read `requests` instead."""

    def answer(self) -> None:
        """Read the body whatever comes, or it would be taken for the next request."""
        body = self._read_body()
        request = f"{self.command} {self.path}"
        self.server_hub.requests.append(request)
        fault = self.server_hub.fault_for(request)
        if fault and fault.before:
            fault.before()
        if fault and fault.status:
            status, headers, body = error_reply(HubError(fault.status, None, "injected fault"))
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._send((status, headers | wait, body))
            return
        try:
            self._check_token()
            with self.server_hub.store.lock:
                reply = route(
                    self.server_hub.store,
                    self.server_hub.url,
                    method=self.command,
                    target=self.path,
                    body=body,
                    range=self.headers.get("Range"),
                )
        except HubError as error:
            reply = error_reply(error)
        self._send(reply, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _check_token(self) -> None:
        wanted, given = self.server_hub.token, self.headers.get("Authorization")
        # The address that a large file goes to is signed; the client sends no token there, nor where cards are judged.
        free = self.path == "/api/validate-yaml" or (self.command == "PUT" and self.path.startswith("/lfs/"))
        if wanted is not None and given != f"Bearer {wanted}" and not free:
            code = None if given else "RepoNotFound"
            raise HubError(401, code, "Invalid credentials in Authorization header" if given else "Unauthorized")

    def _send(self, reply: Reply, fault: Fault | None = None) -> None:
        status, headers, content = reply
        if fault and fault.change and self.command == "GET":
            content = fault.change(content)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.cut_at is not None:
            self.wfile.write(content[: fault.cut_at])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.wfile.write(content)
