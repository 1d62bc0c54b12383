// SPDX-License-Identifier: GPL-2.0-or-later
// The patches that were uploaded, and how many domains have each.

import { make } from './dom.js';
import { bytes, plural, short, when } from './format.js';

const SIGNATURES = { minisign: 'minisign', pkcs7: 'module signature', none: 'not signed' };

function countUsers(patch, store) {
  return [...store.domains.values()].filter((domain) =>
    (domain.patches || []).some((entry) => entry.sha256 === patch.sha256)).length;
}

function signedBy(patch) {
  return patch.signed_by ? `signed by ${patch.signed_by}` : SIGNATURES[patch.signature];
}

function patchLine(patch, store) {
  return make('li', null,
    make('details', { 'data-key': patch.sha256 },
      make('summary', null,
        make('span', { class: 'grow' }, make('b', null, patch.name), ' ',
          make('code', { class: 'dim' }, short(patch.sha256))),
        ...patch.cves.slice(0, 3).map((cve) => make('span', { class: 'tag' }, cve)),
        make('span', { class: 'mark', 'data-tone': patch.signed_by ? 'good' : 'warn' },
          signedBy(patch)),
        make('span', { class: 'dim number' },
          `on ${plural(countUsers(patch, store), 'domain')}`)),
      make('div', { class: 'inside' },
        make('p', null, make('code', null, patch.sha256)),
        make('p', null, [patch.format, plural(patch.functions, 'function'), bytes(patch.size),
          patch.serial === null ? '' : `serial ${patch.serial}`, SIGNATURES[patch.signature],
        ].filter(Boolean).join(', ')),
        make('p', { class: 'dim' }, `Uploaded by ${patch.principal}, `, when(patch.uploaded_at)),
        patch.cves.length > 3 ? make('p', null, patch.cves.join(', ')) : null)));
}

export function sortedPatches(store) {
  return [...store.patches.values()].sort((a, b) => b.uploaded_at.localeCompare(a.uploaded_at));
}

export const patchLines = (store) => sortedPatches(store).map((patch) => patchLine(patch, store));
