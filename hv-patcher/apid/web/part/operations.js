// SPDX-License-Identifier: GPL-2.0-or-later
// Operations as cards (what runs, who is in the way) and as lines (what has ended).

import { make } from './dom.js';
import { duration, pause, plural, when } from './format.js';
import { blockersOf, hasEnded, isGood, patchName, pauseOf } from './store.js';

const STAGES = ['queued', 'checking', 'loading', 'waiting', 'switching', 'verifying'];
const MAX_BLOCKERS = 20;
const REASONS = {
  ACTIVE: 'is in it', UNRELIABLE: 'stack cannot be trusted',
  POLICY: 'kernel threads are not to be in it',
};

export function toneOf(operation) {
  if (!hasEnded(operation)) return 'busy';
  if (isGood(operation)) return 'good';
  return { cancelled: 'calm', 'needs-operator': 'bad' }[operation.state] || 'warn';
}

/** The name of a domain as a button that goes there. */
function domainLink(operation, actions, key) {
  return make('button', {
    class: 'text', 'data-key': `${key} ${operation.id} domain`,
    onclick: () => actions.reveal(operation.domain),
  }, operation.domain_name);
}

function stages(operation) {
  const at = STAGES.indexOf(operation.state);
  return make('ol', { class: 'stages', 'aria-label': 'Progress' }, STAGES.map((name, index) =>
    make('li', {
      'data-at': index < at ? 'done' : index === at ? 'now' : null,
      'aria-current': index === at ? 'step' : null,
    }, name)));
}

function progressWords(operation) {
  const words = [];
  if (operation.attempt > 0) words.push(`attempt ${operation.attempt}`);
  if (operation.blockers > 0) words.push(`${plural(operation.blockers, 'task')} in the way`);
  return words.join(', ');
}

export function elapsed(operation) {
  const since = Date.parse(operation.started_at || operation.created_at);
  return duration((Date.now() - since) / 1000);
}

export function runningCard(operation, store, actions) {
  return make('li', { class: 'card' },
    make('div', { class: 'top' },
      make('div', null, make('b', null, operation.verb, ' ', patchName(operation, store)), ' on ',
        domainLink(operation, actions, 'running')),
      make('span', { class: 'dim', 'data-elapsed': operation.id }, elapsed(operation)),
      make('button', {
        class: 'small', disabled: !operation.cancellable, 'data-key': `cancel ${operation.id}`,
        'aria-label': `Cancel ${operation.verb} on ${operation.domain_name}`,
        onclick: () => actions.cancel(operation),
      }, 'Cancel…')),
    stages(operation),
    make('div', { class: 'line dim' }, operation.step,
      make('span', { class: 'push' }, progressWords(operation))),
    blockerTable(operation));
}

function whyOf(blocker, key) {
  const why = REASONS[blocker.reason] || blocker.reason;
  if (!blocker.stack.length) return make('div', { class: 'dim' }, why);
  return make('details', { 'data-key': key }, make('summary', null, why),
    make('pre', { tabindex: '0', 'aria-label': `Stack of ${blocker.comm}` },
      blocker.stack.join('\n')));
}

function blockerRow(blocker, key) {
  return make('tr', null,
    make('td', { class: 'number' }, String(blocker.pid)),
    make('td', null, blocker.comm,
      blocker.kthread ? make('span', { class: 'dim' }, ' kernel thread') : null),
    make('td', null, make('code', null, blocker.function || '–'), whyOf(blocker, key)));
}

export function blockerTable(operation) {
  const blockers = blockersOf(operation);
  if (blockers.length === 0) return null;
  const more = blockers.length - MAX_BLOCKERS;
  const heads = [['PID', 'number'], ['Task', null], ['Function', null]];
  return make('div', { class: 'scroll' },
    make('table', { class: 'rows' },
      make('caption', { class: 'unseen' }, `Tasks in the way on ${operation.domain_name}`),
      make('thead', null, make('tr', null, heads.map(([title, name]) =>
        make('th', { scope: 'col', class: name }, title)))),
      make('tbody', null, blockers.slice(0, MAX_BLOCKERS).map((blocker, index) =>
        blockerRow(blocker, `${operation.id} ${blocker.pid} ${index}`)))),
    more > 0 ? make('p', { class: 'dim' }, `and ${more} more`) : null);
}

export function blockedCard(operation, store, actions) {
  const ended = hasEnded(operation);
  return make('li', { class: 'card' },
    make('div', { class: 'line' },
      domainLink(operation, actions, 'blocked'),
      make('span', { class: 'dim' },
        `${operation.verb} ${ended ? 'gave up' : 'waits'}: ${patchName(operation, store)}`),
      make('span', { class: 'dim push' }, ended ? when(operation.ended_at)
        : `${plural(operation.blockers, 'task')} now`)),
    blockerTable(operation) ||
      make('p', { class: 'dim' }, 'Who they are is told when the operation ends.'));
}

/** A problem document, as it is: what, why, its code, and what stands in the way. */
export function problemNote(problem, actions) {
  return make('div', { class: 'note', 'data-tone': 'bad' },
    make('div', { class: 'line' }, make('b', null, problem.title || 'It failed'),
      make('code', { class: 'push' }, problem.code)),
    problem.detail ? make('p', null, problem.detail) : null,
    problem.operation && actions ? make('button', {
      type: 'button', class: 'text', onclick: () => actions.show(problem.operation),
    }, 'Show the operation in the way') : null);
}

function recoverButton(domain, actions) {
  return make('button', {
    class: 'small push', 'data-key': `recover ${domain.uuid}`,
    'aria-label': `Recover ${domain.name}`,
    onclick: () => actions.recover(domain),
  }, 'Recover…');
}

/** A domain that somebody has to look at: its operation says so, or a patch is not as recorded. */
export function attentionCard({ domain, operation, patches }, store, actions) {
  return make('li', { class: 'card' },
    make('div', { class: 'line' },
      make('button', {
        class: 'text', 'data-key': `attention ${domain.uuid}`,
        onclick: () => actions.reveal(domain.uuid),
      }, domain.name),
      operation ? make('span', { class: 'dim' },
        `after ${operation.verb} ${patchName(operation, store)}`) : null,
      operation ? recoverButton(domain, actions) : null),
    operation?.error ? problemNote(operation.error, actions) : null,
    patches.map((patch) => make('div', { class: 'note', 'data-tone': 'bad' },
      make('b', null, `${patch.name} is not as recorded`),
      make('p', null, patch.why || patch.state || ''))));
}

function checkItems(result) {
  if (!result.items) return null;
  return make('ul', { class: 'items' }, result.items.map((item) => make('li', {
    'data-tone': item.ok ? 'good' : item.accepted ? 'warn' : 'bad',
  }, make('b', null, item.ok ? 'yes' : item.accepted ? 'accepted' : 'no'),
  ` ${item.item}`, item.why ? make('span', { class: 'dim' }, ` ${item.why}`) : null)));
}

function pauseParts(result) {
  if (!result.pause_usec) return null;
  const parts = Object.entries(result.pause || {}).map(([name, usec]) =>
    `${name.replace('_usec', '')} ${pause(usec)}`);
  return make('p', { class: 'dim' },
    `Paused ${pause(result.pause_usec)}: ${parts.join(', ')}. ` +
    `${result.tasks} tasks, ${plural(result.attempts, 'attempt')}, ` +
    `${duration(result.total_usec / 1e6)} in all.`);
}

function functionNames(result) {
  if (!result.functions?.length) return null;
  return make('p', null, make('span', { class: 'dim' }, 'Functions: '),
    result.functions.slice(0, 20).map((item) => item.name).join(', '));
}

function outcome(operation, actions) {
  const result = operation.result || {};
  return [
    operation.error ? problemNote(operation.error, actions) : null,
    checkItems(result), pauseParts(result), functionNames(result), blockerTable(operation),
    typeof result.done === 'string' ? make('p', null, result.done) : null,
    make('p', { class: 'dim' }, `By ${operation.principal}, `, when(operation.created_at), '. ',
      make('code', null, operation.id)),
  ].filter(Boolean);
}

function verdict(operation) {
  const result = operation.result || {};
  if (operation.state === 'checked' && result.applicable !== undefined)
    return result.applicable ? 'checked: applicable' : 'checked: not applicable';
  return operation.error ? `${operation.state}: ${operation.error.code}` : operation.state;
}

/** One line of an operation, which opens to all that is known of it. */
export function operationLine(operation, store, actions, where) {
  const usec = pauseOf(operation);
  const tone = verdict(operation) === 'checked: not applicable' ? 'warn' : toneOf(operation);
  return make('li', { 'data-operation': operation.id },
    make('details', { 'data-key': `${where} ${operation.id}` },
      make('summary', null,
        make('span', { class: 'mark', 'data-tone': tone }, verdict(operation)),
        make('span', { class: 'grow' }, `${operation.verb} ${patchName(operation, store)} `,
          where === 'ended' ? make('span', { class: 'dim' }, `on ${operation.domain_name}`) : null),
        usec ? make('span', { class: 'number' }, pause(usec)) : null,
        make('span', { class: 'dim number' }, when(operation.ended_at || operation.created_at))),
      make('div', { class: 'inside' },
        where === 'ended'
          ? make('p', null, 'Domain: ', domainLink(operation, actions, 'ended')) : null,
        ...outcome(operation, actions))));
}
