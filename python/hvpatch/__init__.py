# SPDX-License-Identifier: GPL-2.0-or-later
"""Client of hvpatch-apid, the HTTP API of hvpatchd: live patching of VM kernels from their host.

    import hvpatch

    client = hvpatch.Client()                       # unix:/run/hvpatch/api.socket
    patch, _ = client.upload('fix.ko', signature='fix.ko.minisig')
    domain = client.find_domain('web-1')
    operation = client.apply(domain, patch, timeout=60)
    print(client.wait_for(operation).pause_usec)

Standard library only. A Client has no state but where the API is: threads may share one. See
Client, the documents' classes (Domain, Operation, Patch, Event) and the errors, all of them Error.
"""

from hvpatch.client import Client
from hvpatch.documents import (
    AppliedPatch, Blocker, Domain, Event, Kernel, Operation, Patch)
from hvpatch.errors import (
    Ambiguous, ApiError, BadAnswer, BadData, Busy, Conflict, ConnectionFailed, DeadlineExceeded,
    Error, Fault, Forbidden, Gone, IdempotencyConflict, Inconsistent, Internal, InvalidArgument,
    NotFound, OperationFailed, PermissionRefused, Tampered, TimedOut, TooLarge, TooMany,
    Unauthenticated, Unavailable, Undone, Unreliable, Unsupported, VmGone)
from hvpatch.events import EventStream

__version__ = '0.1.0'
__all__ = [
    'Ambiguous', 'ApiError', 'AppliedPatch', 'BadAnswer', 'BadData', 'Blocker', 'Busy', 'Client',
    'Conflict', 'ConnectionFailed', 'DeadlineExceeded', 'Domain', 'Error', 'Event', 'EventStream',
    'Fault', 'Forbidden', 'Gone', 'IdempotencyConflict', 'Inconsistent', 'Internal',
    'InvalidArgument', 'Kernel', 'NotFound', 'Operation', 'OperationFailed', 'Patch',
    'PermissionRefused', 'Tampered', 'TimedOut', 'TooLarge', 'TooMany', 'Unauthenticated',
    'Unavailable', 'Undone', 'Unreliable', 'Unsupported', 'VmGone']
