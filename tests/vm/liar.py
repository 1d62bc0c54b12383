# SPDX-License-Identifier: GPL-2.0-or-later
"""Stands between hvpatch and the guest's agent, and changes what the agent says.

    with Liar(agent_socket, path, lambda message: ...) as liar:
        guest.hvpatch('--agent', path, ...)
"""

import json
import os
import select
import socket
import threading


class Liar:
    """Takes one client after another; CHANGE gets each message of the agent and returns another.

    What it returns may be an object, bytes to be sent as they are, or None for nothing.
    """

    def __init__(self, agent_path, path, change):
        self.agent_path, self.path, self.change = agent_path, path, change
        self.requests = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        os.close(self._wake)
        self._thread.join()
        self._listener.close()
        os.close(self._stop)
        os.unlink(self.path)

    def _run(self):
        while self._stop not in select.select([self._stop, self._listener], [], [])[0]:
            client, _ = self._listener.accept()
            with client, socket.socket(socket.AF_UNIX) as agent:
                agent.connect(self.agent_path)
                self._relay(client, agent)

    def _relay(self, client, agent):
        rest = b''
        while True:
            ready = select.select([self._stop, client, agent], [], [])[0]
            if self._stop in ready:
                return
            try:
                if client in ready:
                    request = client.recv(65536)
                    if not request:
                        return
                    self.requests.append(request)
                    agent.sendall(request)
                if agent in ready:
                    rest += agent.recv(65536)
                    while b'\n' in rest:
                        line, _, rest = rest.partition(b'\n')
                        client.sendall(self._changed(line))
            except OSError:
                return

    def _changed(self, line):
        _, mark, text = line.rpartition(b'\xff')
        changed = self.change(json.loads(text))
        if isinstance(changed, bytes):
            return changed
        if changed is None:
            return b''
        return mark + json.dumps(changed).encode() + b'\n'


def threads(message):
    """The threads of an answer or event; none if it is another message."""
    value = message.get('data') or message.get('return')
    return value.get('kthreads', []) if isinstance(value, dict) else []


def lie_about(comm, /, **members):
    """A change of the members of the thread COMM; a function of the thread, or a value."""
    def change(message):
        for thread in threads(message):
            if thread['comm'] == comm:
                thread.update({name: value(thread) if callable(value) else value
                               for name, value in members.items()})
        return message
    return change
