#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Load for hvpatch-apid: apiload.py SOCKET READERS RATE

READERS connections that follow the events, and RATE times a second GET /v1/domains on some
others. Prints "ready" when they are there; at the end of its input how many answers there were
a second.
"""

import os
import selectors
import socket
import sys
import time

NICE = 15
CONNECTIONS = 8
TICK_SECONDS = 0.001
EVENTS = b'GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n'
DOMAINS = b'GET /v1/domains HTTP/1.1\r\nHost: localhost\r\n\r\n'
STATUS = b'HTTP/1.1 200'
CHUNK_BYTES = 65536


def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


class Load:
    def __init__(self, path, readers, rate):
        self.selector = selectors.DefaultSelector()
        self.rate, self.answers, self.sent = rate, 0, 0
        for _ in range(readers):
            reader = connect(path)
            reader.sendall(EVENTS)
            assert reader.recv(CHUNK_BYTES).startswith(STATUS), 'no events'
            self._listen(reader, False)
        # Each answers one after the other: those that have been asked and have not answered.
        self.idle = [connect(path) for _ in range(CONNECTIONS)]
        for connection in self.idle:
            self._listen(connection, True)
        self.selector.register(sys.stdin, selectors.EVENT_READ)

    def _listen(self, connection, counted):
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, counted)

    def _receive(self, key):
        data = key.fileobj.recv(CHUNK_BYTES)
        assert data, 'hvpatch-apid has closed a connection'
        if key.data and STATUS in data:
            self.answers += data.count(STATUS)
            self.idle.append(key.fileobj)

    def _ask(self, due):
        """What is late is asked for as soon as there is a connection."""
        while self.sent < due and self.idle:
            self.idle.pop().sendall(DOMAINS)
            self.sent += 1

    def run(self):
        """Until the input ends; answers a second."""
        began = time.monotonic()
        while True:
            self._ask((time.monotonic() - began) * self.rate)
            for key, _ in self.selector.select(TICK_SECONDS):
                if key.fileobj is sys.stdin:
                    return self.answers / (time.monotonic() - began)
                self._receive(key)


def main(path, readers, rate):
    load = Load(path, int(readers), int(rate))
    print('ready', flush=True)
    print(load.run())


if __name__ == '__main__':
    # In life it takes no CPU of this host.
    os.nice(NICE)
    main(*sys.argv[1:])
