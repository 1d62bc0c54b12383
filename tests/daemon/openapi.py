# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether documents are as hv-patcher/apid/openapi.json says: the part of OpenAPI 3.0's schemas
that the file uses. A keyword that is not known here is an error, so that nothing goes unchecked."""

import functools
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PATH = os.environ.get('HVPATCH_OPENAPI', os.path.join(ROOT, 'hv-patcher/apid/openapi.json'))
TYPES = {'object': dict, 'array': list, 'string': str, 'integer': int, 'number': (int, float),
         'boolean': bool}
SAID_TO_PEOPLE = {'description', 'default', 'example', 'examples', 'format', 'title',
                  'additionalProperties', 'nullable'}


class Broken(AssertionError):
    """A document is not as its schema says; the message has where and why."""


@functools.cache
def document():
    with open(PATH, encoding='utf-8') as stream:
        return json.load(stream)


def resolve(node):
    while '$ref' in node:
        target = document()
        for part in node['$ref'].removeprefix('#/').split('/'):
            target = target[part.replace('~1', '/').replace('~0', '~')]
        node = target
    return node


def fail(where, why, value):
    raise Broken(f'{where or "the document"}: {why}: {json.dumps(value)[:200]}')


def check_type(schema, value, where):
    if value is None:
        if not schema.get('nullable'):
            fail(where, 'is null', value)
        return False
    wanted = schema.get('type')
    if wanted and (not isinstance(value, TYPES[wanted])
                   or isinstance(value, bool) != (wanted == 'boolean')):
        fail(where, f'no {wanted}', value)
    return True


def check_object(schema, value, where):
    for name in schema.get('required', ()):
        if name not in value:
            fail(where, f'has no {name}', value)
    properties = schema.get('properties', {})
    for name, member in value.items():
        if name in properties:
            check(properties[name], member, f'{where}.{name}')
        elif schema.get('additionalProperties') is False:
            fail(where, f'{name} is not known', value)


def check_any(choices, value, where):
    reasons = []
    for choice in choices:
        try:
            return check(choice, value, where)
        except Broken as reason:
            reasons.append(str(reason))
    return fail(where, ' and '.join(reasons), value)


# Each keyword: whether the value is as its argument says.
RULES = {
    'enum': lambda wanted, value: value in wanted,
    'minimum': lambda wanted, value: value >= wanted,
    'maximum': lambda wanted, value: value <= wanted,
    'minLength': lambda wanted, value: len(value) >= wanted,
    'maxLength': lambda wanted, value: len(value) <= wanted,
    'maxItems': lambda wanted, value: len(value) <= wanted,
    'uniqueItems': lambda wanted, value: len(set(value)) == len(value),
    'pattern': lambda wanted, value: re.search(wanted.replace('$)', '\\Z)'), value) is not None,
}


def check(schema, value, where=''):
    """Raises Broken unless VALUE is as SCHEMA says."""
    schema = resolve(schema)
    if 'anyOf' in schema:
        check_any(schema['anyOf'], value, where)
        return
    if not check_type(schema, value, where):
        return
    if isinstance(value, dict):
        check_object(schema, value, where)
    for index, item in enumerate(value if isinstance(value, list) else ()):
        check(schema.get('items', {}), item, f'{where}[{index}]')
    for keyword, argument in schema.items():
        if keyword in RULES:
            if not RULES[keyword](argument, value):
                fail(where, f'{keyword} {argument}', value)
        elif keyword not in SAID_TO_PEOPLE | {'type', 'required', 'properties', 'items'}:
            raise NotImplementedError(f'keyword {keyword} at {where}')


def check_named(name, value):
    """Raises Broken unless VALUE is a NAME of components/schemas."""
    check(document()['components']['schemas'][name], value, name)


def operation_of(method, path):
    """The operation object of a request's path without its query, None if there is none."""
    for template, item in document()['paths'].items():
        if re.fullmatch(re.sub(r'\{\w+\}', '[^/]+', template), path):
            return item.get(method.lower())
    return None


def check_answer(method, path, status, content_type, body):
    """Raises Broken unless this is an answer that the contract has; BODY: bytes."""
    operation = operation_of(method, path.split('?')[0])
    if operation is None:
        return
    if str(status) not in operation['responses']:
        fail(f'{method} {path}', 'has no such status', status)
    content = resolve(operation['responses'][str(status)]).get('content', {})
    if not content:
        return
    if content_type not in content:
        fail(f'{method} {path} {status}', 'has no such Content-Type', content_type)
    if content_type.endswith('json') and content_type != 'application/x-ndjson':
        check(content[content_type]['schema'], json.loads(body), f'{method} {path} {status}')
