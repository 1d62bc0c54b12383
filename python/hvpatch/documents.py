# SPDX-License-Identifier: GPL-2.0-or-later
"""The API's documents as objects that do not change.

Each has what programs ask for as attributes and the whole as it came in raw (a dict), members
that are not known here among it. Times are aware datetimes, microseconds end in _usec, digests
are lower-case hex. None: not known, or not yet.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from hvpatch.errors import BadAnswer

Document = dict[str, Any]
GOOD_STATES = frozenset(('checked', 'applied', 'reverted', 'recovered'))
END_STATES = GOOD_STATES | {'failed', 'rolled-back', 'needs-operator', 'cancelled'}


def _time(text: str | None) -> datetime.datetime | None:
    return None if text is None else datetime.datetime.fromisoformat(text)


def _read(build: Any, document: Any) -> Any:
    """What BUILD makes of DOCUMENT; BadAnswer if that lacks something or has another shape."""
    try:
        return build(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f'not a document of this API: {error!r}') from error


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What runs in a domain. Each may be None: the guest did not tell."""

    release: str | None
    version: str | None
    build_id: str | None

    @classmethod
    def of(cls, document: Document) -> Kernel:
        return cls(document['release'], document['version'], document['build_id'])


@dataclasses.dataclass(frozen=True)
class AppliedPatch:
    """A patch that is in force in a domain, as the guest's memory has it.

    verified: its bytes are all there. state: switched, original, busy, tampered, gone.
    functions: names of what it replaces.
    """

    name: str
    sha256: str | None
    applied_at: datetime.datetime | None
    verified: bool
    state: str | None
    why: str
    functions: tuple[str, ...]
    cves: tuple[str, ...]
    raw: Document = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Document) -> AppliedPatch:
        return cls(document['name'], document['sha256'], _time(document['applied_at']),
                   document['verified'], document.get('state'), document.get('why', ''),
                   tuple(item['name'] for item in document['functions']),
                   tuple(document['cves']), document)


@dataclasses.dataclass(frozen=True)
class Domain:
    """A VM. state: in virsh's words, as "running". backend: kvm, gdbstub or None.

    kernel, patchable, patches: as they were at seen_at; None: not looked at yet. reasons: why it
    cannot be patched. error: the problem of a look that failed, or None. operation: the id of the
    one that is at work there, or None.
    """

    uuid: str
    name: str
    state: str
    kernel: Kernel | None
    backend: str | None
    patchable: bool | None
    reasons: tuple[str, ...]
    patches: tuple[AppliedPatch, ...] | None
    operation: str | None
    seen_at: datetime.datetime | None
    error: Document | None
    raw: Document = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Document) -> Domain:
        return _read(cls._of, document)

    @classmethod
    def _of(cls, document: Document) -> Domain:
        patches = document['patches']
        return cls(document['uuid'], document['name'], document['state'],
                   document['kernel'] and Kernel.of(document['kernel']), document['backend'],
                   document['patchable'], tuple(document['reasons']),
                   None if patches is None else tuple(map(AppliedPatch.of, patches)),
                   document['operation'], _time(document['seen_at']),
                   document.get('error'), document)

    def has(self, patch: Patch | str) -> bool:
        """Whether a patch (a Patch, its SHA-256 or its name) is in force here, and verified.

        False says that it is not only where patches is not None and seen_at is behind the end of
        the last operation: it is no ground to leave out a revert.
        """
        wanted = patch.sha256 if isinstance(patch, Patch) else patch
        return any(applied.verified and wanted in (applied.sha256, applied.name)
                   for applied in self.patches or ())


@dataclasses.dataclass(frozen=True)
class Patch:
    """A patch that was uploaded. size: bytes. functions: how many it replaces.

    signed_by: name of the host's key that signed it, or None. signature: minisign, pkcs7, none.
    format: kpatch, klp-build, klp.
    """

    sha256: str
    name: str
    size: int
    uploaded_at: datetime.datetime
    principal: str
    signed_by: str | None
    signature: str
    format: str
    functions: int
    cves: tuple[str, ...]
    serial: int | None
    raw: Document = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Document) -> Patch:
        return _read(cls._of, document)

    @classmethod
    def _of(cls, document: Document) -> Patch:
        return cls(document['sha256'], document['name'], document['size'],
                   _time(document['uploaded_at']), document['principal'], document['signed_by'],
                   document['signature'], document['format'], document['functions'],
                   tuple(document['cves']), document['serial'], document)


@dataclasses.dataclass(frozen=True)
class Blocker:
    """A task in the way. reason: ACTIVE (it is in function), UNRELIABLE, POLICY.

    stack: "function+0x10/0x40", innermost first.
    """

    pid: int
    comm: str
    kthread: bool
    function: str | None
    reason: str
    stack: tuple[str, ...]

    @classmethod
    def of(cls, document: Document) -> Blocker:
        return cls(document['pid'], document['comm'], document['kthread'], document['function'],
                   document['reason'], tuple(document['stack']))


@dataclasses.dataclass(frozen=True)
class Operation:
    """Something that is done, or was, to a domain.

    domain: its uuid. verb: check, apply, revert, replace, recover. patch: SHA-256. name: of the
    patch's module. state: queued, checking, loading, waiting, switching, verifying; at its end
    checked, applied, reverted, recovered, failed (nothing changed), rolled-back (the old code is
    proven back), needs-operator, cancelled. attempt, blockers: numbers while it waits.
    error: a problem document, or None. result: what the command line prints as JSON, or None.
    """

    id: str
    domain: str
    domain_name: str
    verb: str
    patch: str | None
    name: str | None
    options: Document
    state: str
    step: str
    attempt: int
    blockers: int
    principal: str
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    error: Document | None
    result: Document | None
    cancellable: bool
    raw: Document = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Document) -> Operation:
        return _read(cls._of, document)

    @classmethod
    def _of(cls, document: Document) -> Operation:
        values = {field.name: document[field.name] for field in dataclasses.fields(cls)
                  if field.name != 'raw'}
        for name in ('created_at', 'started_at', 'ended_at'):
            values[name] = _time(values[name])
        return cls(raw=document, **values)

    @property
    def ended(self) -> bool:
        """Whether it is over; then it does not change any more."""
        return self.state in END_STATES

    @property
    def succeeded(self) -> bool:
        """Whether it is over and did what it was to do; a check: whether the patch can be applied.
        """
        if self.state == 'checked':
            return (self.result or {}).get('applicable', True) is not False
        return self.state in GOOD_STATES

    @property
    def pause_usec(self) -> int | None:
        """For how long the VM stood still in order to switch; None: it was not stopped."""
        return (self.result or {}).get('pause_usec') or None

    @property
    def blocking(self) -> tuple[Blocker, ...]:
        """Who was in the way when it ended."""
        return tuple(map(Blocker.of, (self.result or {}).get('blockers', ())))


_DOCUMENTS = {'operation': Operation, 'domain': Domain, 'patch': Patch}


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened. seq: counts up, with gaps for what the reader may not see.

    type: operation, domain, patch, daemon. id: of the thing. document: an Operation, Domain or
    Patch as it is since then; None: it is gone; for other types the dict as it came.
    """

    seq: int
    at: datetime.datetime
    type: str
    id: str
    document: Operation | Domain | Patch | Document | None
    raw: Document = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Document) -> Event:
        return _read(cls._of, document)

    @classmethod
    def _of(cls, document: Document) -> Event:
        inner = document['document']
        kind = _DOCUMENTS.get(document['type'])
        return cls(document['seq'], _time(document['at']), document['type'], document['id'],
                   kind.of(inner) if kind and inner is not None else inner, document)
