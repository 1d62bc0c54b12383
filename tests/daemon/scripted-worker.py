#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stands in for hvpatch-worker: does what $HVPATCH_TEST_SCRIPT/VERB.json says, or NAME.VERB.json
for the domain NAME, and notes its job in the file "jobs" there. A script is an object:

    progress  a list of progress objects, sent first
    wait      the name of a file in that folder, waited for; {"cancel":true} ends it as CANCELLED
    do        crash, hang, stop, flood, garbage, binary, huge, truncated, liar, mute
    result, exit, error    of the answer
    attached  whether the result goes as a sealed memory file

"inspect" it leaves to the real one, $HVPATCH_REAL_WORKER, where there is no script for it.
"""

import fcntl
import hashlib
import json
import os
import signal
import socket
import sys
import time

FOLDER = os.environ['HVPATCH_TEST_SCRIPT']
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
CHANGE = {'version': 1, 'message': None, 'code': None, 'kernel': '6.1.0', 'functions': [],
          'tasks': 3, 'rechecked': 0, 'attempts': 1, 'stops': 1, 'pause_usec': 85,
          'pause': {}, 'total_usec': 1000, 'blockers': []}
LOOK = {'version': 1,
        'info': {'version': 1, 'backend': 'kvm', 'patchable': True, 'reasons': [],
                 'kernel': {'release': '6.1.0', 'version': '#1', 'build_id': 'ab',
                            'text_base': '0x1'}},
        'status': {'version': 1, 'patches': []}}


def default_result(job):
    verb = job['verb']
    if verb == 'inspect':
        return None
    if verb == 'look':
        return LOOK
    if verb == 'check':
        return {'version': 1, 'applicable': True}
    if verb == 'recover':
        return {'version': 1, 'recovered': False, 'done': ''}
    reverting = verb == 'revert'
    return {**CHANGE, 'operation': 'revert' if reverting else 'apply',
            'result': 'reverted' if reverting else 'applied', 'domain': job['domain']['name'],
            'patch': job.get('name'), 'sha256': job.get('patch')}


def read_script(job):
    domain = job.get('domain', {}).get('name', '')
    for name in (f'{domain}.{job["verb"]}', job['verb']):
        try:
            with open(os.path.join(FOLDER, name + '.json'), encoding='utf-8') as file:
                return json.load(file)
        except FileNotFoundError:
            pass
    return {}


def note(job, fds):
    entry = {'job': job, 'at': time.time(), 'pid': os.getpid()}
    if fds:
        with open(fds[0], 'rb', closefd=False) as file:
            entry['sha256'] = hashlib.sha256(file.read()).hexdigest()
        entry['sealed'] = fcntl.fcntl(fds[0], fcntl.F_GET_SEALS) & SEALS == SEALS
    with open(os.path.join(FOLDER, 'jobs'), 'a', encoding='utf-8') as file:
        file.write(json.dumps(entry) + '\n')


def send(channel, message):
    channel.send(json.dumps(message).encode())


def misbehave(channel, how):
    if how == 'crash':
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == 'hang':
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    elif how == 'stop':
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == 'flood':
        while True:
            send(channel, {'progress': {'state': 'waiting', 'step': 'x' * 1000}})
    elif how == 'garbage':
        channel.send(b'{"result":{},')
    elif how == 'binary':
        channel.send(bytes(range(256)))
    elif how == 'huge':
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        channel.send(b'{"progress":{"step":"' + b'x' * 150000 + b'"}}')
        channel.send(b'[' * 150000)
    elif how == 'truncated':
        channel.send(b'')
    elif how == 'liar':
        send(channel, {'progress': {'state': 'applied', 'step': 'done\x1b[31m\n',
                                    'attempt': -1, 'blockers': 1 << 62}})
        send(channel, {'result': 'applied', 'exit': 0, 'error': None})
    time.sleep(30)
    sys.exit(1)


def wait(channel, name):
    """True: cancelled meanwhile."""
    channel.settimeout(0.02)
    while not os.path.exists(os.path.join(FOLDER, name)):
        try:
            if json.loads(channel.recv(4096)).get('cancel'):
                return True
        except TimeoutError:
            pass
    return False


def attach(channel, message):
    fd = os.memfd_create('result', os.MFD_ALLOW_SEALING)
    os.write(fd, json.dumps(message['result']).encode())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    message.update(result=None, attached=True)
    socket.send_fds(channel, [json.dumps(message).encode()], [fd])


def inspect(channel):
    """Patches are looked at by the real one, to which the job is left; unless there is a script."""
    job = json.loads(channel.recv(1 << 20, socket.MSG_PEEK))
    real = os.environ['HVPATCH_REAL_WORKER']
    if job['verb'] == 'inspect' and not os.path.exists(os.path.join(FOLDER, 'inspect.json')):
        os.set_inheritable(3, True)
        os.execv(real, [real])


def main():
    channel = socket.socket(fileno=3)
    inspect(channel)
    message, fds, _, _ = socket.recv_fds(channel, 1 << 20, 4)
    job = json.loads(message)
    script = read_script(job)
    note(job, fds)
    for progress in script.get('progress', []):
        send(channel, {'progress': progress})
    answer = {'result': script.get('result', default_result(job)), 'attached': False,
              'exit': script.get('exit', 0), 'error': script.get('error')}
    if 'wait' in script and wait(channel, script['wait']):
        answer.update(result=None, exit=1,
                      error={'code': 'CANCELLED', 'message': 'cancelled; nothing was switched'})
    if 'do' in script:
        misbehave(channel, script['do'])
    if script.get('attached'):
        attach(channel, answer)
    else:
        send(channel, answer)


main()
