#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An Ansible module: a livepatch in a running VM, through the Python client of hvpatch."""

import hashlib
import os
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import hvpatch
    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

DOCUMENTATION = '''
module: hvpatch_patch
short_description: A livepatch in the kernel of a running VM, from its host
description:
  - Checks, applies or reverts through hvpatch-apid on the host where the module runs, or over TLS.
  - Does nothing where the VM is as it should be. In check mode asks whether the patch is for it.
  - Where it is not known what is in force, C(absent) begins a revert, which finds out.
  - An operation of the same kind that is at work already is waited for, not begun again.
options:
  domain: {description: Name or UUID of the domain., type: str, required: true}
  state:
    description: C(present) is applied, C(absent) reverted, C(checked) only asked for.
    type: str
    choices: [present, absent, checked]
    default: present
  src:
    description: The module (.ko) on the machine where this runs; uploaded if it is not there yet.
      Beside it FILE.minisig, if there is one, is its signature. One of I(src) and I(patch).
    type: path
  patch: {description: SHA-256 of a patch that was uploaded before., type: str}
  timeout: {description: Seconds to try while tasks are in the way., type: float, default: 30}
  max_pause: {description: Milliseconds for which the VM may stand still., type: float, default: 10}
  replace: {description: Whether patches in force go; left out, as the patch says., type: bool}
  wait: {description: Seconds for the operation as a whole., type: float, default: 300}
  api: {description: "unix:PATH or https://HOST:PORT.", type: str}
  ca: {description: With https, PEM file of the host's authority., type: path}
  cert: {description: With https, PEM file of the client's certificate., type: path}
  key: {description: With https, PEM file of the client's key., type: path}
requirements: [python3-hvpatch]
'''

RETURN = '''
code: {description: When it failed, the stable code such as BUSY., type: str, returned: failure}
blockers: {description: Who was in the way., type: list, returned: failure}
operation: {description: The operation as it ended., type: dict, returned: when there was one}
pause_usec: {description: How long the VM stood still., type: int, returned: when it did}
'''

ARGUMENTS = {
    'domain': {'type': 'str', 'required': True},
    'state': {'type': 'str', 'choices': ['present', 'absent', 'checked'], 'default': 'present'},
    'src': {'type': 'path'}, 'patch': {'type': 'str'},
    'timeout': {'type': 'float', 'default': 30}, 'max_pause': {'type': 'float', 'default': 10},
    'replace': {'type': 'bool'}, 'wait': {'type': 'float', 'default': 300},
    'api': {'type': 'str'}, 'ca': {'type': 'path'}, 'cert': {'type': 'path'},
    'key': {'type': 'path', 'no_log': False},
}
VERBS = {'present': 'apply', 'absent': 'revert', 'checked': 'check'}


def patch_of(client, parameters):
    """The SHA-256 of the patch, which is uploaded unless the host has it."""
    if parameters['patch']:
        return parameters['patch']
    with open(parameters['src'], 'rb') as stream:
        contents = stream.read()
    digest = hashlib.sha256(contents).hexdigest()
    try:
        return client.patch(digest).sha256
    except hvpatch.NotFound:
        signature = parameters['src'] + '.minisig'
        signature = signature if os.path.exists(signature) else None
        return client.upload(contents, signature)[0].sha256


def begin(client, domain, verb, patch, parameters):
    """Begins an operation, or finds the one at work that is the same."""
    options = {}
    if verb != 'check':
        options = {'timeout': parameters['timeout'], 'max_pause': parameters['max_pause']}
    if verb == 'apply' and parameters['replace'] is not None:
        options['replace'] = parameters['replace']
    try:
        return client.start(domain, verb, patch=patch, **options)
    except hvpatch.Busy as busy:
        if busy.operation is None:
            raise
        other = client.operation(busy.operation)
        if (other.verb, other.patch) != (verb, patch):
            raise
        return other


def is_gone(client, domain, patch):
    """Whether the domain is known not to have the patch.

    It is where it is off, and where it was seen without it since the last operation there. A look
    that failed tells nothing, and a record that cannot be read has no digest.
    """
    if domain.state == 'shut off':
        return True
    if domain.patches is None or any(applied.sha256 in (patch, None, '')
                                     for applied in domain.patches):
        return False
    latest = client.operations(domain=domain, limit=1)
    return not latest or (latest[0].ended_at is not None and domain.seen_at is not None and
                          latest[0].ended_at <= domain.seen_at)


def is_done(client, domain, patch, state):
    """Whether nothing is to be done; what is in force needs no check either."""
    return is_gone(client, domain, patch) if state == 'absent' else domain.has(patch)


def carry_out(client, module):
    parameters = module.params
    domain = client.find_domain(parameters['domain'])
    patch = patch_of(client, parameters)
    state = parameters['state']
    if is_done(client, domain, patch, state):
        return {'changed': False, 'patch': patch}
    verb = VERBS[state]
    if module.check_mode and verb == 'apply':
        verb = 'check'
    elif module.check_mode and verb == 'revert':
        return {'changed': True, 'patch': patch}
    begun = begin(client, domain, verb, patch, parameters)
    try:
        ended = client.wait_for(begun, parameters['wait'])
    except hvpatch.OperationFailed as failed:
        if (verb, failed.code) != ('revert', 'NOT_FOUND'):
            raise
        return {'changed': False, 'patch': patch, 'operation': failed.operation.raw}
    return {'changed': state != 'checked', 'patch': patch, 'operation': ended.raw,
            'pause_usec': ended.pause_usec}


def explain(error):
    """What a failed task has beside its words."""
    more = {'code': error.code}
    if isinstance(error, hvpatch.OperationFailed):
        more['operation'] = error.operation.raw
        more['blockers'] = (error.operation.result or {}).get('blockers', [])
    return more


def main():
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True,
                           required_one_of=[['src', 'patch']],
                           mutually_exclusive=[['src', 'patch']])
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib('hvpatch', 'python3-hvpatch'),
                         exception=IMPORT_ERROR)
    parameters = module.params
    try:
        client = hvpatch.Client(parameters['api'], ca=parameters['ca'], cert=parameters['cert'],
                                key=parameters['key'])
        module.exit_json(**carry_out(client, module))
    except hvpatch.Error as error:
        module.fail_json(msg=str(error), **explain(error))
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error), code='INVALID_ARGUMENT')


if __name__ == '__main__':
    main()
