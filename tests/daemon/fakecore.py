#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A core that does what a test says: fakecore.py ADDRESS

It answers as org.hvpatch1 on the bus at ADDRESS. Documents are those of examples of openapi.json,
roles a table in memory. Over org.hvpatch.Test it is told to hang, to answer garbage, to die, and to
make events. What only a real core can show is not tested with it.
"""

import copy
import fnmatch
import hashlib
import json
import os
import sys
import uuid

from gi.repository import Gio, GLib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
OPENAPI = os.path.join(ROOT, 'hv-patcher', 'apid', 'openapi.json')
TIME = '2026-03-01T12:00:00.000000Z'
MAX_EVENTS = 4096
DOMAINS = (('5c5c1b3e-8f0a-4b43-9f0b-0c6f1f2a9d11', 'web-01'),
           ('1b7d6a52-3a7f-4c8a-a3ee-5a9a0c7e6b22', 'db-01'))
END_STATES = ('applied', 'checked', 'reverted', 'recovered', 'failed', 'cancelled')

XML = '''<node>
<interface name="org.hvpatch1.Manager">
 <method name="ListDomains"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
 <method name="GetDomain"><arg type="s" direction="in"/><arg type="s" direction="in"/>
  <arg type="s" direction="out"/></method>
 <method name="RefreshDomain"><arg type="s" direction="in"/><arg type="s" direction="in"/>
  <arg type="s" direction="out"/></method>
 <method name="MayUpload"><arg type="s" direction="in"/></method>
 <method name="UploadPatch"><arg type="s" direction="in"/><arg type="h" direction="in"/>
  <arg type="ay" direction="in"/><arg type="s" direction="out"/><arg type="b" direction="out"/>
 </method>
 <method name="ListPatches"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
 <method name="GetPatch"><arg type="s" direction="in"/><arg type="s" direction="in"/>
  <arg type="s" direction="out"/></method>
 <method name="DeletePatch"><arg type="s" direction="in"/><arg type="s" direction="in"/></method>
 <method name="StartOperation"><arg type="s" direction="in"/><arg type="s" direction="in"/>
  <arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="s" direction="out"/>
  <arg type="b" direction="out"/></method>
 <method name="GetOperation"><arg type="s" direction="in"/><arg type="s" direction="in"/>
  <arg type="s" direction="out"/></method>
 <method name="ListOperations"><arg type="s" direction="in"/><arg type="s" direction="in"/>
  <arg type="s" direction="out"/></method>
 <method name="CancelOperation"><arg type="s" direction="in"/><arg type="s" direction="in"/>
  <arg type="s" direction="out"/></method>
 <method name="GetEvents"><arg type="s" direction="in"/><arg type="t" direction="in"/>
  <arg type="u" direction="in"/><arg type="s" direction="out"/><arg type="t" direction="out"/>
  <arg type="t" direction="out"/></method>
 <method name="GetMetrics"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
 <signal name="Event"><arg type="t"/><arg type="s"/></signal>
 <property name="Version" type="s" access="read"/>
 <property name="Ready" type="b" access="read"/>
</interface>
<interface name="org.hvpatch.Test">
 <method name="Tell"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
</interface>
</node>'''


class Refusal(Exception):
    """An error of the interface: its code, and more members of its document."""

    def __init__(self, code, detail, **members):
        super().__init__(detail)
        self.code = code
        self.document = {'type': f'urn:hvpatch:error:{code}', 'title': 'Fake', 'status': 400,
                         'code': code, 'detail': detail, **members}


class Core:
    """The state, and a method for each of the interface's."""

    def __init__(self, examples):
        self.examples = examples
        self.roles = {}
        self.default_role = {'verbs': ['*'], 'domains': ['*']}
        self.patches = {}
        self.operations = {}
        self.keys = {}
        self.events = []
        self.seq = 0
        self.calls = []
        self.hanging, self.garbage = set(), set()
        self.holding, self.held = set(), []
        self.emit = lambda seq, text: None

    # --- who may what

    def role(self, principal):
        return self.roles.get(principal, self.default_role)

    def may(self, principal, verb, name=None):
        role = self.role(principal)
        return (('*' in role['verbs'] or verb in role['verbs'])
                and (name is None or any(fnmatch.fnmatchcase(name, pattern)
                                         for pattern in role['domains'])))

    def demand(self, principal, verb, name=None):
        if not self.may(principal, verb, name):
            raise Refusal('FORBIDDEN', f'{principal} may not {verb}')

    # --- documents

    def domain(self, number):
        document = copy.deepcopy(self.examples['Domain'])
        document['uuid'], document['name'] = DOMAINS[number]
        document['operation'] = next(
            (operation['id'] for operation in self.operations.values()
             if operation['domain'] == document['uuid']
             and operation['state'] not in END_STATES), None)
        return document

    def seen_domain(self, principal, wanted):
        for number, (identity, name) in enumerate(DOMAINS):
            if identity == wanted and self.may(principal, 'view', name):
                return self.domain(number)
        raise Refusal('NOT_FOUND', 'there is no such domain')

    def seen_operation(self, principal, wanted):
        operation = self.operations.get(wanted)
        if operation is None or not self.may(principal, 'view', operation['domain_name']):
            raise Refusal('NOT_FOUND', 'there is no such operation')
        return operation

    def add_event(self, kind, identity, document):
        self.seq += 1
        event = {'seq': self.seq, 'at': TIME, 'type': kind, 'id': identity,
                 'document': copy.deepcopy(document)}
        self.events = (self.events + [event])[-MAX_EVENTS:]
        self.emit(self.seq, json.dumps(event))

    # --- the interface

    def ListDomains(self, principal):
        self.demand(principal, 'view')
        return json.dumps([self.domain(number) for number, (_, name) in enumerate(DOMAINS)
                           if self.may(principal, 'view', name)]),

    def GetDomain(self, principal, wanted):
        return json.dumps(self.seen_domain(principal, wanted)),

    def RefreshDomain(self, principal, wanted):
        document = self.seen_domain(principal, wanted)
        self.add_event('domain', wanted, document)
        return json.dumps(document),

    def MayUpload(self, principal):
        self.demand(principal, 'upload')
        return ()

    def UploadPatch(self, principal, contents, signature):
        self.demand(principal, 'upload')
        if not contents.startswith(b'\x7fELF'):
            raise Refusal('BAD_DATA', 'the file is not an ELF object')
        digest = hashlib.sha256(contents).hexdigest()
        created = digest not in self.patches
        if created:
            self.patches[digest] = {
                **self.examples['Patch'], 'sha256': digest, 'size': len(contents),
                'principal': principal, 'signature': 'minisign' if signature else 'none',
                'signed_by': 'test' if signature else None}
            self.add_event('patch', digest, self.patches[digest])
        return json.dumps(self.patches[digest]), created

    def ListPatches(self, principal):
        self.demand(principal, 'view')
        return json.dumps(list(self.patches.values())),

    def GetPatch(self, principal, digest):
        self.demand(principal, 'view')
        if digest not in self.patches:
            raise Refusal('NOT_FOUND', 'there is no such patch')
        return json.dumps(self.patches[digest]),

    def DeletePatch(self, principal, digest):
        self.demand(principal, 'delete')
        if self.patches.pop(digest, None) is None:
            raise Refusal('NOT_FOUND', 'there is no such patch')
        self.add_event('patch', digest, None)
        return ()

    def StartOperation(self, principal, wanted, request_text, key):
        domain = self.seen_domain(principal, wanted)
        request = json.loads(request_text)
        self.demand(principal, request['verb'], domain['name'])
        if key and (principal, key) in self.keys:
            before, identity = self.keys[(principal, key)]
            if before != (wanted, request):
                raise Refusal('IDEMPOTENCY', 'the key was used with another request')
            return json.dumps(self.operations[identity]), False
        if domain['operation']:
            raise Refusal('BUSY', 'the domain has an operation already',
                          operation=domain['operation'])
        if 'patch' in request and request['patch'] not in self.patches:
            raise Refusal('NOT_FOUND', 'there is no such patch')
        return json.dumps(self.begin(principal, domain, request, key)), True

    def begin(self, principal, domain, request, key):
        identity = str(uuid.uuid4())
        operation = {
            **copy.deepcopy(self.examples['Operation']), 'id': identity,
            'domain': domain['uuid'], 'domain_name': domain['name'], 'verb': request['verb'],
            'patch': request.get('patch'), 'name': request.get('name'), 'state': 'queued',
            'result': None, 'started_at': None, 'ended_at': None, 'principal': principal,
            'cancellable': True}
        operation['options'].update(request.get('options', {}))
        self.operations[identity] = operation
        if key:
            self.keys[(principal, key)] = (domain['uuid'], request), identity
        self.add_event('operation', identity, operation)
        return operation

    def GetOperation(self, principal, identity):
        return json.dumps(self.seen_operation(principal, identity)),

    def ListOperations(self, principal, filter_text):
        self.demand(principal, 'view')
        wanted = json.loads(filter_text)
        limit = wanted.pop('limit', 100)
        return json.dumps([
            operation for operation in reversed(self.operations.values())
            if self.may(principal, 'view', operation['domain_name'])
            and all(operation[name] == value for name, value in wanted.items())][:limit]),

    def CancelOperation(self, principal, identity):
        operation = self.seen_operation(principal, identity)
        self.demand(principal, 'cancel', operation['domain_name'])
        if not operation['cancellable']:
            raise Refusal('CONFLICT', 'the operation has switched already')
        self.end(operation, 'cancelled')
        return json.dumps(operation),

    def end(self, operation, state):
        operation.update(state=state, cancellable=False, started_at=TIME, ended_at=TIME)
        self.add_event('operation', operation['id'], operation)

    def GetEvents(self, principal, since, limit):
        self.demand(principal, 'view')
        events = [event for event in self.events if event['seq'] > since][:limit]
        oldest = self.events[0]['seq'] if self.events else self.seq + 1
        return json.dumps(events), oldest, self.seq

    def GetMetrics(self, principal):
        self.demand(principal, 'metrics')
        return '# TYPE hvpatch_operations_total counter\nhvpatch_operations_total 0\n',

    # --- what the test says

    def tell(self, order):
        """{"do": ..., ...}; returns something JSON."""
        return getattr(self, 'do_' + order.pop('do'))(**order)

    def do_roles(self, roles, default=None):
        self.roles = roles
        self.default_role = default or {'verbs': [], 'domains': []}

    def do_hang(self, methods):
        self.hanging = set(methods)

    def do_hold(self, methods):
        """Answers to METHODS wait until this is said again."""
        self.holding = set(methods)
        held, self.held = self.held, []
        for answer in held:
            answer()

    def do_garbage(self, methods):
        self.garbage = set(methods)

    def do_calls(self):
        calls, self.calls = self.calls, []
        return calls

    def do_events(self, count, padding=0):
        for _ in range(count):
            self.add_event('daemon', 'test', {'version': 1, 'message': 'x' * padding})
        return self.seq

    def do_forget(self):
        self.patches, self.operations, self.keys = {}, {}, {}

    def do_commit(self, identity):
        self.operations[identity]['cancellable'] = False

    def do_release(self, identity):
        """Lets the domain go, though the operation stays as it is."""
        self.operations[identity]['domain'] = '00000000-0000-0000-0000-000000000000'

    def do_end(self, identity, state):
        self.end(self.operations[identity], state)

    def do_die(self):
        os._exit(1)


class Service:
    """The core on the bus."""

    def __init__(self, core, bus):
        self.core = core
        self.bus = bus
        node = Gio.DBusNodeInfo.new_for_xml(XML)
        for interface in node.interfaces:
            bus.register_object('/org/hvpatch1', interface, self.called, self.read, None)
        core.emit = self.emit

    def emit(self, seq, text):
        self.bus.emit_signal(None, '/org/hvpatch1', 'org.hvpatch1.Manager', 'Event',
                             GLib.Variant('(ts)', (seq, text)))

    def read(self, _bus, _sender, _path, _interface, name):
        return GLib.Variant('s', '0.1.0') if name == 'Version' else GLib.Variant('b', True)

    def called(self, _bus, _sender, _path, interface, method, parameters, invocation):
        arguments = list(parameters.unpack())
        if interface == 'org.hvpatch.Test':
            answer = json.dumps(self.core.tell(json.loads(arguments[0])))
            invocation.return_value(GLib.Variant('(s)', (answer,)))
            return
        self.core.calls.append([method, arguments[0]])
        if method in self.core.hanging:
            return
        if method == 'UploadPatch':
            descriptors = invocation.get_message().get_unix_fd_list()
            with os.fdopen(descriptors.get(arguments[1]), 'rb') as stream:
                arguments[1] = stream.read()
        if method in self.core.holding:
            self.core.held.append(lambda: self.answer(method, arguments, invocation))
            return
        self.answer(method, arguments, invocation)

    def answer(self, method, arguments, invocation):
        try:
            values = getattr(self.core, method)(*arguments)
        except Refusal as refusal:
            text = 'garbage' if method in self.core.garbage else json.dumps(refusal.document)
            invocation.return_dbus_error(f'org.hvpatch1.Error.{refusal.code}', text)
            return
        kinds = {str: 's', bool: 'b', int: 't'}
        if method in self.core.garbage:
            values = tuple('{"a":' if isinstance(value, str) else value for value in values)
        invocation.return_value(GLib.Variant(
            '(' + ''.join(kinds[type(value)] for value in values) + ')', values))


def main(address):
    with open(OPENAPI) as stream:
        schemas = json.load(stream)['components']['schemas']
    examples = {name: schema['example'] for name, schema in schemas.items()
                if 'example' in schema}
    bus = Gio.DBusConnection.new_for_address_sync(
        address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
        | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
    Service(Core(examples), bus)
    Gio.bus_own_name_on_connection(bus, 'org.hvpatch1', Gio.BusNameOwnerFlags.NONE,
                                   lambda *_: print('ready', flush=True), None)
    GLib.MainLoop().run()


if __name__ == '__main__':
    main(sys.argv[1])
