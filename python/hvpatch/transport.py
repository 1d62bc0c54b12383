# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP to hvpatch-apid: a connection a request, and a deadline for all of it."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import time
import urllib.parse
from typing import Any, Mapping

from hvpatch.errors import BadAnswer, ConnectionFailed, DeadlineExceeded

DEFAULT_ADDRESS = 'unix:/run/hvpatch/api.socket'
MAX_ANSWER_BYTES = 256 * 1024 * 1024
CHUNK_BYTES = 64 * 1024


class _Deadline:
    """Mixed into a socket: each receive and send has what is left of one time for all.

    A timeout of a socket's is for one call: a peer that sends a byte now and then never ends.
    """

    ends_at: float | None = None

    def _arm(self) -> None:
        if self.ends_at is None:
            return
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError('timed out')
        self.settimeout(left)   # type: ignore[attr-defined]

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self._arm()
        return super().recv_into(*arguments, **named)   # type: ignore[misc]

    def send(self, *arguments: Any, **named: Any) -> int:
        self._arm()
        return super().send(*arguments, **named)    # type: ignore[misc]

    def sendall(self, *arguments: Any, **named: Any) -> None:
        self._arm()
        super().sendall(*arguments, **named)    # type: ignore[misc]


class _Socket(_Deadline, socket.socket):
    pass


class _TlsSocket(_Deadline, ssl.SSLSocket):
    pass


def _connect_tcp(host: str, port: int, seconds: float) -> _Socket:
    """As socket.create_connection, with a socket of ours."""
    ends_at = time.monotonic() + seconds
    error: OSError = ConnectionRefusedError(f'{host} has no address')
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        plain = _Socket(family, kind, protocol)
        try:
            plain.settimeout(max(0.001, ends_at - time.monotonic()))
            plain.connect(address)
            return plain
        except OSError as reason:
            plain.close()
            error = reason
    raise error


class Address:
    """Where the API is: unix:PATH, https://HOST[:PORT], or http:// on this machine itself."""

    def __init__(self, text: str, tls: ssl.SSLContext | None) -> None:
        self.text = text
        self.path = text.removeprefix('unix:') if text.startswith(('unix:', '/')) else None
        self.tls = tls
        self.host = 'localhost'
        self.port = 0
        if self.path is None:
            self._parse(text)

    def _parse(self, text: str) -> None:
        parts = urllib.parse.urlsplit(text)
        if (parts.scheme not in ('http', 'https') or not parts.hostname
                or parts.path not in ('', '/')):
            raise ValueError(f'not unix:PATH and not https://HOST:PORT: {text}')
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == 'https' else 80)
        if parts.scheme == 'http':
            self.tls = None
            if not _is_this_machine(self.host):
                raise ValueError(f'http:// is for this machine alone, elsewhere https://: {text}')
        elif self.tls is None:
            raise ValueError('https:// needs a certificate of the client: ca=, cert=, key= or tls=')

    def connect(self, seconds: float) -> _Socket | _TlsSocket:
        if self.path is not None:
            local = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                local.settimeout(seconds)
                local.connect(self.path)
            except BaseException:
                local.close()
                raise
            return local
        plain = _connect_tcp(self.host, self.port, seconds)
        if self.tls is None:
            return plain
        self.tls.sslsocket_class = _TlsSocket
        return self.tls.wrap_socket(plain, server_hostname=self.host)   # type: ignore[return-value]


def _is_this_machine(host: str) -> bool:
    try:
        return host == 'localhost' or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(ca: str | None, cert: str, key: str | None) -> ssl.SSLContext:
    """TLS with certificates on both sides. Paths of PEM files; ca None: the system's."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context


class Exchange:
    """One request and its answer; a context manager that closes the connection.

    seconds: for connecting, sending and the answer's head, and for reading the body unless
    until() says otherwise. Raises ConnectionFailed, DeadlineExceeded, BadAnswer.
    """

    def __init__(self, address: Address, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._socket: _Socket | _TlsSocket | None = None
        self._connection = http.client.HTTPConnection(address.host, address.port or None)
        self._answer: http.client.HTTPResponse | None = None

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
        self._connection.close()

    def _guard(self, work: Any, *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except TimeoutError as error:
            raise DeadlineExceeded(f'{self._address.text}: no answer in time') from error
        except ssl.SSLError as error:
            raise ConnectionFailed(f'{self._address.text}: {error}') from error
        except OSError as error:
            raise ConnectionFailed(f'{self._address.text}: {error.strerror or error}') from error
        except http.client.IncompleteRead as error:
            raise ConnectionFailed(f'{self._address.text}: the answer broke off') from error
        except (http.client.HTTPException, ValueError) as error:
            raise BadAnswer(f'{self._address.text}: {error!r}') from error

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> int:
        """Sends the request and reads the answer's head; returns its status."""
        return self._guard(self._send, method, path, headers, body)

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> int:
        ends_at = time.monotonic() + self._seconds
        self._socket = self._address.connect(self._seconds)
        self._socket.ends_at = ends_at
        self._connection.sock = self._socket
        # Who refuses a body need not read all of it, and has answered.
        with contextlib.suppress(BrokenPipeError):
            self._connection.request(method, path, body, {'Connection': 'close', **headers})
        self._answer = self._connection.getresponse()
        return self._answer.status

    def until(self, seconds: float) -> None:
        """From now on the deadline is so many seconds away."""
        assert self._socket is not None
        self._socket.ends_at = time.monotonic() + seconds

    def header(self, name: str) -> str | None:
        assert self._answer is not None
        return self._answer.getheader(name)

    def body(self) -> bytes:
        """All of the answer's body. BadAnswer if that is larger than any is."""
        chunks: list[bytes] = []
        size = 0
        while chunk := self._guard(self._read_chunk):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise BadAnswer(f'{self._address.text}: an answer of more than {size} bytes')
        if self._answer is not None and self._answer.length:
            raise ConnectionFailed(f'{self._address.text}: the answer broke off')
        return b''.join(chunks)

    def _read_chunk(self) -> bytes:
        assert self._answer is not None
        return self._answer.read(CHUNK_BYTES)

    def line(self, limit: int) -> bytes:
        """The next line of the body with its newline, b'' at the end."""
        assert self._answer is not None
        line: bytes = self._guard(self._answer.readline, limit + 1)
        if len(line) > limit:
            raise BadAnswer(f'{self._address.text}: a line of more than {limit} bytes')
        return line
