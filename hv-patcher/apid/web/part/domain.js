// SPDX-License-Identifier: GPL-2.0-or-later
// What an opened row says of a domain, and what can be done there.

import { make } from './dom.js';
import { short, when } from './format.js';
import { operationLine } from './operations.js';
import { hasEnded } from './store.js';

function fact(name, ...value) {
  return [make('dt', null, name), make('dd', null, ...value)];
}

function facts(domain) {
  const kernel = domain.kernel;
  return make('dl', { class: 'facts' },
    kernel ? fact('Kernel', kernel.version || kernel.release) : [],
    kernel?.build_id ? fact('Build id', make('code', null, kernel.build_id)) : [],
    fact('UUID', make('code', null, domain.uuid)),
    domain.backend ? fact('Backend', domain.backend) : [],
    fact('Looked at', when(domain.seen_at)));
}

function reasons(domain) {
  if (domain.patchable !== false || domain.reasons.length === 0) return null;
  return make('div', { class: 'note', 'data-tone': 'warn' }, make('b', null, 'Cannot be patched'),
    make('ul', null, domain.reasons.map((reason) => make('li', null, reason))));
}

function functionsOf(patch) {
  const names = patch.functions.map((item) => item.name);
  if (names.length === 0) return null;
  return make('p', { class: 'dim' }, names.slice(0, 8).join(', '),
    names.length > 8 ? ` and ${names.length - 8} more` : '');
}

function patchItem(domain, patch, busy, actions) {
  const trouble = !patch.verified ? patch.why || patch.state || 'not as recorded' : null;
  return make('li', null,
    make('div', { class: 'line' },
      make('b', null, patch.name), make('code', { class: 'dim' }, short(patch.sha256)),
      ...patch.cves.map((cve) => make('span', { class: 'tag' }, cve)),
      make('span', { class: 'mark', 'data-tone': trouble ? 'bad' : 'good' },
        trouble || 'verified in the guest'),
      make('span', { class: 'dim' }, 'since ', when(patch.applied_at)),
      make('button', {
        'data-key': `revert ${patch.name}`, disabled: busy, class: 'small',
        'aria-label': `Revert ${patch.name} on ${domain.name}`,
        onclick: () => actions.revert(domain, patch),
      }, 'Revert…')),
    functionsOf(patch));
}

function patchList(domain, busy, actions) {
  if (!domain.patches?.length) return null;
  return make('ul', { class: 'effective' },
    domain.patches.map((patch) => patchItem(domain, patch, busy, actions)));
}

function buttons(domain, busy, store, actions) {
  const none = store.patches.size === 0;
  const stuck = store.latestOf(domain.uuid)?.state === 'needs-operator';
  const button = (verb, title, disabled) => make('button', {
    'data-key': verb, disabled, 'aria-label': `${title.replace('…', '')}: ${domain.name}`,
    onclick: () => actions[verb](domain),
  }, title);
  return make('div', { class: 'buttons' },
    button('check', 'Check a patch…', busy || none),
    button('apply', 'Apply a patch…', busy || none),
    stuck ? button('recover', 'Recover…', busy) : null, button('look', 'Look again', busy));
}

/** The nodes of an opened row; operations: the newest few of this domain. */
export function domainDetail(domain, operations, store, actions) {
  const busy = operations.some((operation) => !hasEnded(operation));
  return [
    buttons(domain, busy, store, actions), reasons(domain), patchList(domain, busy, actions),
    facts(domain),
    operations.length === 0 ? null : make('ul', { class: 'log' },
      operations.map((operation) =>
        operationLine(operation, store, actions, `detail ${domain.uuid}`))),
  ].filter(Boolean);
}
