#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""polkit's place on a bus of a test's own: fake-polkit.py ADDRESS ANSWERS

ANSWERS is a file with an object: for an action "yes", "no" or "hang" (no answer at all); what is
not there is "no". Each question is noted, a line each, in ANSWERS.asked.
"""

import json
import sys

import gi

gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib  # pylint: disable=wrong-import-position

NODE = """<node><interface name="org.freedesktop.PolicyKit1.Authority">
  <method name="CheckAuthorization">
    <arg type="(sa{sv})" direction="in"/><arg type="s" direction="in"/>
    <arg type="a{ss}" direction="in"/><arg type="u" direction="in"/>
    <arg type="s" direction="in"/><arg type="(bba{ss})" direction="out"/>
  </method>
  <method name="CancelCheckAuthorization"><arg type="s" direction="in"/></method>
  <signal name="Changed"/>
  <property name="BackendName" type="s" access="read"/>
  <property name="BackendVersion" type="s" access="read"/>
  <property name="BackendFeatures" type="u" access="read"/>
</interface></node>"""
PROPERTIES = {'BackendName': GLib.Variant('s', 'fake'), 'BackendVersion': GLib.Variant('s', '1'),
              'BackendFeatures': GLib.Variant('u', 0)}


def on_call(_connection, _sender, _path, _interface, method, parameters, invocation):
    if method != 'CheckAuthorization':
        invocation.return_value(None)
        return
    subject, action, details, flags, _ = parameters.unpack()
    with open(sys.argv[2] + '.asked', 'a', encoding='utf-8') as file:
        file.write(json.dumps([subject[0], action, details, flags]) + '\n')
    with open(sys.argv[2], encoding='utf-8') as file:
        answer = json.load(file).get(action, 'no')
    if answer != 'hang':
        invocation.return_value(GLib.Variant('((bba{ss}))', ((answer == 'yes', False, {}),)))


def main():
    connection = Gio.DBusConnection.new_for_address_sync(
        sys.argv[1], Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
        Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
    connection.register_object(
        '/org/freedesktop/PolicyKit1/Authority', Gio.DBusNodeInfo.new_for_xml(NODE).interfaces[0],
        on_call, lambda *arguments: PROPERTIES[arguments[4]], None)
    Gio.bus_own_name_on_connection(connection, 'org.freedesktop.PolicyKit1',
                                   Gio.BusNameOwnerFlags.NONE, None, None)
    GLib.MainLoop().run()


main()
