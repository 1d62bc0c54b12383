# SPDX-License-Identifier: GPL-2.0-or-later
"""openapi.json as something to hold answers against."""

import json
import os
import re

import jsonschema

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PATH = os.path.join(ROOT, 'hv-patcher', 'apid', 'openapi.json')


def to_json_schema(schema):
    """OpenAPI 3.0 says "nullable" for what JSON Schema says by types."""
    if isinstance(schema, list):
        return [to_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: to_json_schema(value) for key, value in schema.items()
              if key not in ('nullable', 'example', 'examples')}
    if schema.get('nullable') is True and isinstance(schema.get('type'), str):
        result['type'] = [schema['type'], 'null']
        if 'enum' in result and None not in result['enum']:
            result['enum'] = result['enum'] + [None]
    return result


class Contract:
    """Judges answers."""

    def __init__(self):
        with open(PATH) as stream:
            self.document = json.load(stream)
        self.components = to_json_schema(self.document['components'])
        self.paths = [(re.compile('^' + re.sub(r'\{\w+\}', '[^/]+', path) + '$'), path)
                      for path in self.document['paths']]

    def validate(self, schema, value):
        whole = {**to_json_schema(schema), 'components': self.components}
        jsonschema.Draft7Validator(
            whole, format_checker=jsonschema.FormatChecker()).validate(value)

    def schema(self, name):
        return {'$ref': '#/components/schemas/' + name}

    def resolve(self, thing):
        while '$ref' in thing:
            name = thing['$ref'].split('/')[2:]
            thing = self.document['components'][name[0]][name[1]]
        return thing

    def operation(self, method, path):
        """What the contract says of a request; None: nothing."""
        method = 'get' if method == 'HEAD' else method.lower()
        for pattern, template in self.paths:
            # Where two fit, the one without a hole is meant.
            if pattern.match(path) and method in self.document['paths'][template]:
                return self.document['paths'][template][method]
        return None

    def check(self, method, path, answer):
        """Fails unless ANSWER is one that the contract has for this."""
        kind = answer.headers.get('content-type', '').split(';')[0]
        operation = self.operation(method, path.split('?')[0])
        if operation is None or str(answer.status) not in operation['responses']:
            # What no operation is responsible for is a problem, and says which.
            assert answer.status in (204, 400, 403, 404, 405, 413, 414, 415, 421, 429, 431), \
                f'{method} {path}: {answer.status} is not in the contract'
            if answer.status == 204:
                return
            content = {'application/problem+json': {'schema': self.schema('Problem')}}
        else:
            response = self.resolve(operation['responses'][str(answer.status)])
            for name, header in response.get('headers', {}).items():
                self.check_header(name, header, answer)
            content = response.get('content', {})
        self.check_body(method, path, content, kind, answer)

    def check_header(self, name, header, answer):
        value = answer.headers.get(name.lower())
        assert value is not None or not header.get('required'), f'no header {name}'
        if value is not None and header['schema']['type'] == 'string':
            self.validate(header['schema'], value)

    def check_body(self, method, path, content, kind, answer):
        if not content:
            assert answer.body == b'', f'{method} {path}: {answer.status} with a body'
            return
        assert kind in content, f'{method} {path}: {answer.status} as {kind}'
        if method == 'HEAD':
            assert answer.body == b'', 'HEAD with a body'
        elif kind.endswith('json') and kind != 'application/x-ndjson':
            value = json.loads(answer.body)
            self.validate(content[kind]['schema'], value)
            if kind == 'application/problem+json':
                assert value['status'] == answer.status, value
        elif kind == 'application/x-ndjson':
            for line in answer.body.splitlines():
                if line:
                    self.validate(content[kind]['schema'], json.loads(line))
