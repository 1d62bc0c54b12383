# SPDX-License-Identifier: GPL-2.0-or-later
"""Client: the API's resources as methods."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import time
import urllib.parse
import uuid
from typing import Any, Callable

from hvpatch.documents import Document, Domain, Operation, Patch
from hvpatch.errors import (
    Ambiguous, BadAnswer, DeadlineExceeded, NotFound, OperationFailed)
from hvpatch.events import SILENCE_SECONDS, EventStream
from hvpatch.requests import Requests
from hvpatch.transport import DEFAULT_ADDRESS, Address, tls_context

FIRST_POLL_SECONDS = 0.1
MAX_POLL_SECONDS = 2.0
POLL_GROWTH = 1.3
OPTIONS = ('timeout', 'max_pause', 'prod', 'replace', 'accept', 'kthreads')


def _segment(text: str) -> str:
    """A part of a path: ids and digests alone, so that none can become another path."""
    if not re.fullmatch(r'[0-9a-f-]{1,64}', text):
        raise ValueError(f'not an id of this API: {text!r}')
    return text


def _uuid_of(domain: Domain | str) -> str:
    return _segment(domain if isinstance(domain, str) else domain.uuid)


def _id_of(operation: Operation | str) -> str:
    return _segment(operation if isinstance(operation, str) else operation.id)


def _sha256_of(patch: Patch | str) -> str:
    return _segment(patch if isinstance(patch, str) else patch.sha256)


def _read_file(what: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(what, bytes):
        return what
    with open(what, 'rb') as stream:
        return stream.read()


def _items(kind: Any, documents: Any) -> list[Any]:
    if not isinstance(documents, list):
        raise BadAnswer('not a list')
    return [kind.of(document) for document in documents]


class Client:
    """The API of one host.

    address: unix:PATH (or a path), or https://HOST[:PORT]; http:// only for this machine, such as
        a tunnel. Left out: $HVPATCH_API, else unix:/run/hvpatch/api.socket.
    ca, cert, key: PEM files for https://, of the authority of the host's certificate (None: the
        system's) and of the client's own. tls: an ssl.SSLContext instead.
    timeout: seconds for one try of a request, from connecting to the last byte.
    retry_seconds: for so long a request is tried again when the API is away, too slow or has too
        much to do (503, 429, whose Retry-After is heeded); 0: one try. Nothing is done twice
        by that: what begins an operation carries an Idempotency-Key.

    Methods raise subclasses of Error; ValueError for arguments that can be none. On a unix socket
    the API knows the caller by his uid, over TLS by the common name of his certificate.
    """

    def __init__(self, address: str | None = None, *, ca: str | None = None,
                 cert: str | None = None, key: str | None = None,
                 tls: ssl.SSLContext | None = None, timeout: float = 30.0,
                 retry_seconds: float = 60.0) -> None:
        if tls is None and cert is not None:
            tls = tls_context(ca, cert, key)
        where = Address(address or os.environ.get('HVPATCH_API') or DEFAULT_ADDRESS, tls)
        self._requests = Requests(where, timeout, retry_seconds)

    def __repr__(self) -> str:
        return f'Client({self._requests.address.text!r})'

    # Domains.

    def domains(self) -> list[Domain]:
        """All domains that the caller may see, by name."""
        return _items(Domain, self._requests.json('GET', '/v1/domains')[1])

    def domain(self, domain: Domain | str) -> Domain:
        """One domain, by its uuid, as it is now. NotFound."""
        return Domain.of(self._requests.json('GET', f'/v1/domains/{_uuid_of(domain)}')[1])

    def find_domain(self, name: str) -> Domain:
        """The domain of this name or uuid. NotFound; Ambiguous if several are called so."""
        found = [domain for domain in self.domains() if name in (domain.name, domain.uuid)]
        if len(found) == 1:
            return found[0]
        code, kind = ('AMBIGUOUS', Ambiguous) if found else ('NOT_FOUND', NotFound)
        raise kind({'code': code, 'status': 404, 'detail': f'{len(found)} domains called {name}'})

    def refresh(self, domain: Domain | str) -> Domain:
        """Has the guest looked at anew; the domain as it was. An event tells when it is done.

        The host does so at most once a second.
        """
        return Domain.of(self._requests.json('POST', f'/v1/domains/{_uuid_of(domain)}/refresh')[1])

    # Patches.

    def patches(self) -> list[Patch]:
        """The patches that were uploaded, newest first."""
        return _items(Patch, self._requests.json('GET', '/v1/patches')[1])

    def patch(self, patch: Patch | str) -> Patch:
        """One patch, by its SHA-256. NotFound."""
        return Patch.of(self._requests.json('GET', f'/v1/patches/{_sha256_of(patch)}')[1])

    def upload(self, file: str | os.PathLike[str] | bytes,
               signature: str | os.PathLike[str] | bytes | None = None) -> tuple[Patch, bool]:
        """Uploads a module (.ko): a path, or its bytes. (its document, whether it is new here)

        signature: a minisign file, a path or its bytes; modules that carry the kernel's kind of
        signature need none. BadData: no patch. PermissionRefused: the host takes none without a
        signature of a key that it knows. TooLarge.
        """
        headers = {'Content-Type': 'application/octet-stream'}
        if signature is not None:
            headers['Hvpatch-Signature'] = base64.b64encode(_read_file(signature)).decode()
        status, document = self._requests.json('POST', '/v1/patches', headers, _read_file(file))
        return Patch.of(document), status == 201

    def delete_patch(self, patch: Patch | str) -> None:
        """Forgets a patch; domains in which it is applied keep it. NotFound.

        Busy: an operation uses it; Conflict: one that the caller may not see.
        """
        try:
            self._requests.ask('DELETE', f'/v1/patches/{_sha256_of(patch)}')
        except NotFound as error:
            # The first try may have done it, and its answer been lost.
            if error.tries == 1:
                raise

    # Operations.

    def operations(self, *, domain: Domain | str | None = None, state: str | None = None,
                   verb: str | None = None,
                   limit: int | None = None) -> list[Operation]:
        """Operations, newest first: only those that match. limit: 1 to 1000, else 100."""
        query = {'domain': domain and _uuid_of(domain), 'state': state, 'verb': verb,
                 'limit': limit}
        text = urllib.parse.urlencode({key: value for key, value in query.items()
                                       if value is not None})
        path = '/v1/operations' + ('?' + text if text else '')
        return _items(Operation, self._requests.json('GET', path)[1])

    def operation(self, operation: Operation | str) -> Operation:
        """One operation, by its id, as it is now. NotFound."""
        return Operation.of(
            self._requests.json('GET', f'/v1/operations/{_id_of(operation)}')[1])

    def start(self, domain: Domain | str, verb: str, *, patch: Patch | str | None = None,
              name: str | None = None, idempotency_key: str | None = None,
              **options: Any) -> Operation:
        """Begins an operation; returns it as it is then, mostly queued. See wait_for().

        verb: check, apply, replace (with patch); revert (with patch, or the name of its module);
        recover (with neither).
        options: timeout, seconds to try while tasks are in the way (30); max_pause, milliseconds
        that the VM may stand still (10); prod, whether sleeping tasks are sent out of the functions
        (True); replace, whether patches in force go (None: as the patch says); accept, a list of
        items of check that may fail; kthreads, what is asked of kernel threads (None: as the patch
        says).
        idempotency_key: 1 to 128 printable characters; with the same one the same request begins
        one operation, also from another process. Left out: a new one a call.

        Busy: another operation is at work there, its id in the error's operation. Forbidden,
        PermissionRefused, NotFound, InvalidArgument, IdempotencyConflict.
        """
        unknown = set(options) - set(OPTIONS)
        if unknown:
            raise ValueError(f'no option of an operation: {", ".join(sorted(unknown))}')
        request: Document = {'verb': verb}
        if patch is not None:
            request['patch'] = _sha256_of(patch)
        if name is not None:
            request['name'] = name
        if options:
            request['options'] = options
        headers = {'Content-Type': 'application/json',
                   'Idempotency-Key': idempotency_key or str(uuid.uuid4())}
        # Sorted: what is sent again with its key has to be the same to the byte.
        body = json.dumps(request, sort_keys=True).encode()
        path = f'/v1/domains/{_uuid_of(domain)}/operations'
        return Operation.of(self._requests.json('POST', path, headers, body)[1])

    def check(self, domain: Domain | str, patch: Patch | str, **options: Any) -> Operation:
        """Begins a dry run: is this patch for that domain? Writes nothing. See start()."""
        return self.start(domain, 'check', patch=patch, **options)

    def apply(self, domain: Domain | str, patch: Patch | str, **options: Any) -> Operation:
        """Begins to apply a patch. See start()."""
        return self.start(domain, 'apply', patch=patch, **options)

    def replace(self, domain: Domain | str, patch: Patch | str, **options: Any) -> Operation:
        """Begins to apply a patch in place of those in force. See start()."""
        return self.start(domain, 'replace', patch=patch, **options)

    def revert(self, domain: Domain | str, patch: Patch | str, **options: Any) -> Operation:
        """Begins to take a patch back: a Patch, its SHA-256, or the name of its module."""
        if isinstance(patch, str) and not re.fullmatch('[0-9a-f]{64}', patch):
            return self.start(domain, 'revert', name=patch, **options)
        return self.start(domain, 'revert', patch=patch, **options)

    def recover(self, domain: Domain | str, **options: Any) -> Operation:
        """Begins to finish what an operation left behind: back, or forward once switched."""
        return self.start(domain, 'recover', **options)

    def cancel(self, operation: Operation | str) -> Operation:
        """Gives an operation up. Conflict: it has switched, or ended, already."""
        path = f'/v1/operations/{_id_of(operation)}/cancel'
        return Operation.of(self._requests.json('POST', path)[1])

    def wait_for(self, operation: Operation | str, timeout: float | None = None, *,
                 check: bool = True,
                 progress: Callable[[Operation], object] | None = None) -> Operation:
        """Waits until an operation has ended; returns it as it ended.

        timeout: seconds from now; DeadlineExceeded behind it, and the operation goes on. None:
        without end, since an operation has a timeout of its own.
        check: raise OperationFailed, whose code says why, unless it did what it was to do.
        progress: called with the operation each time that it has changed.
        """
        ends_at = None if timeout is None else time.monotonic() + timeout
        before: Document | None = None
        poll = FIRST_POLL_SECONDS
        while True:
            now = self.operation(operation)
            if progress is not None and now.raw != before:
                progress(now)
            before = now.raw
            if now.ended:
                return self._checked(now) if check else now
            if ends_at is not None and time.monotonic() + poll > ends_at:
                raise DeadlineExceeded(f'{now.verb} on {now.domain_name} has not ended within '
                                       f'{timeout:g} s: {now.state}')
            time.sleep(poll)
            poll = min(MAX_POLL_SECONDS, poll * POLL_GROWTH)

    @staticmethod
    def _checked(operation: Operation) -> Operation:
        if operation.succeeded:
            return operation
        error = operation.error or operation.result or {}
        other = 'CANCELLED' if operation.state == 'cancelled' else 'UNSUPPORTED'
        raise OperationFailed(operation, error.get('code') or other,
                              error.get('detail') or error.get('message') or '')

    # Events and the service.

    def events(self, since: int | None = None, *,
               silence: float = SILENCE_SECONDS) -> EventStream:
        """What happens, as it happens: an iterator of Event without an end; see EventStream.

        since: events behind this number; None: those from now on. silence: seconds without a
        sign of life behind which the connection is taken for dead and made anew.
        """
        return EventStream(self._requests, since, silence)

    def metrics(self) -> str:
        """Numbers for Prometheus, in its text format."""
        return self._requests.ask('GET', '/metrics')[1].decode('utf-8', 'replace')

    def health(self) -> Document:
        """{"version", "status": "ok", "daemon": its version}; Unavailable while it is not."""
        return self._requests.json('GET', '/v1/healthz')[1]

    def openapi(self) -> Document:
        """The API's contract, an OpenAPI 3 document."""
        return self._requests.json('GET', '/v1/openapi.json')[1]
