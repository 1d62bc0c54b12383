# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates for the tests, made with openssl when they run."""

import os
import ssl
import subprocess

CONFIGURATION = '''
[req]
distinguished_name = name
[name]
[ca]
default_ca = ours
[ours]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
crlnumber = {folder}/crlnumber
default_md = sha256
policy = any
default_crl_days = 30
unique_subject = no
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
[server]
basicConstraints = CA:false
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
[client]
basicConstraints = CA:false
extendedKeyUsage = clientAuth
[nothing]
basicConstraints = CA:false
'''


class Authority:
    """A CA in a folder of its own."""

    def __init__(self, folder, name):
        self.folder = os.path.join(folder, name)
        os.mkdir(self.folder)
        self.configuration = self.path('openssl.cnf')
        self.write('openssl.cnf', CONFIGURATION.format(folder=self.folder))
        self.write('index.txt', '')
        self.write('serial', '1000\n')
        self.write('crlnumber', '1000\n')
        self.key('ca')
        self.openssl('req', '-x509', '-new', '-key', self.path('ca.key'), '-subj', f'/CN={name}',
                     '-days', '30', '-extensions', 'authority', '-out', self.path('ca.crt'))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), 'w') as stream:
            stream.write(text)

    def openssl(self, command, *arguments):
        result = subprocess.run(['openssl', command, '-config', self.configuration, *arguments],
                                capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr

    def key(self, name):
        subprocess.run(['openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out',
                        self.path(name + '.key')], check=True, capture_output=True, timeout=60)

    def issue(self, name, subject, extensions, *options):
        """A certificate and its key: (path, path)."""
        self.key(name)
        self.openssl('req', '-new', '-key', self.path(name + '.key'), '-subj', subject, '-out',
                     self.path(name + '.csr'))
        dates = options or ('-days', '10')
        self.openssl('ca', '-batch', '-notext', '-cert', self.path('ca.crt'), '-keyfile',
                     self.path('ca.key'), '-in', self.path(name + '.csr'), '-extensions',
                     extensions, '-out', self.path(name + '.crt'), *dates)
        return self.path(name + '.crt'), self.path(name + '.key')

    def revoke(self, name):
        self.openssl('ca', '-cert', self.path('ca.crt'), '-keyfile', self.path('ca.key'),
                     '-revoke', self.path(name + '.crt'))

    def revocation_list(self):
        self.openssl('ca', '-cert', self.path('ca.crt'), '-keyfile', self.path('ca.key'),
                     '-gencrl', '-out', self.path('ca.crl'))
        return self.path('ca.crl')


def context(authority, certificate=None):
    """For a client who trusts AUTHORITY and shows CERTIFICATE, a pair of paths."""
    result = ssl.create_default_context(cafile=authority.path('ca.crt'))
    if certificate is not None:
        result.load_cert_chain(*certificate)
    return result
