// SPDX-License-Identifier: GPL-2.0-or-later
// The page of hvpatch-apid: reads all once, then follows the events, and asks for operations.

import * as api from './part/api.js';
import { Dialog, field, optionFields, patchSelect } from './part/dialog.js';
import { byId, make, refresh, setText } from './part/dom.js';
import { DomainTable } from './part/domains.js';
import {
  attentionCard, blockedCard, elapsed, operationLine, problemNote, runningCard,
} from './part/operations.js';
import { patchLines } from './part/patches.js';
import { PauseView, pausesOf } from './part/pauses.js';
import { clockNow } from './part/format.js';
import { hasEnded, patchName, Store } from './part/store.js';

const MAX_CARDS = 50;
const MAX_LINES = 50;
// Operations at work that so many newer ones were begun since that no list has them.
const MAX_OLDER = 20;

const store = new Store();
const actions = {};
const dialog = new Dialog(actions);
const table = new DomainTable(store, actions);
const pauses = new PauseView(store);

function announce(text) {
  setText(byId('announce'), text);
}

function alert(problem) {
  const close = () => byId('alerts').replaceChildren();
  byId('alerts').replaceChildren(make('div', { class: 'alert' },
    problemNote(problem.document, actions),
    make('button', { class: 'small push', onclick: close }, 'Dismiss')));
}

/** Runs something that asks the API; what goes wrong is shown on top of the page. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof api.Problem)) throw error;
    alert(error);
  }
}

function started(operation) {
  store.put(operation);
  announce(`${operation.verb} on ${operation.domain_name}: ${operation.state}`);
}

function askToUse(domain, verb, title, words) {
  const patch = patchSelect(store);
  const options = optionFields(verb);
  const changes = verb !== 'check';
  dialog.ask({
    title, go: changes ? `Apply to ${domain.name}` : `Check on ${domain.name}`,
    body: [
      make('p', { class: 'dim' }, words), field('Patch', patch),
      ...(changes ? options.fields : []),
    ],
    send: (key) => api.start(domain.uuid,
      { verb, patch: patch.value, ...(changes ? { options: options.read() } : {}) }, key),
    done: started,
  });
}

actions.check = (domain) => askToUse(domain, 'check', `Check a patch on ${domain.name}`,
  'Goes through all that applying needs, and writes nothing.');

actions.apply = (domain) => askToUse(domain, 'apply', `Apply a patch to ${domain.name}`,
  `Kernel ${domain.kernel?.release || 'not known yet'}. ` +
  'All functions switch at one instant, or none does.');

actions.revert = (domain, patch) => {
  const options = optionFields('revert');
  dialog.ask({
    title: `Revert ${patch.name} on ${domain.name}`, go: `Revert on ${domain.name}`, danger: true,
    body: [make('p', null, 'The old functions come back, and the patch is unloaded.',
      patch.cves.length > 0 ? ` The guest is open to ${patch.cves.join(', ')} again.` : ''),
    ...options.fields],
    send: (key) => api.start(domain.uuid,
      { verb: 'revert', name: patch.name, options: options.read() }, key),
    done: started,
  });
};

actions.recover = (domain) => dialog.ask({
  title: `Recover ${domain.name}`, go: `Recover ${domain.name}`,
  body: [make('p', null, 'Finishes what an operation left behind: rolls it back, or forward where ',
    'the switch was made.')],
  send: (key) => api.start(domain.uuid, { verb: 'recover' }, key),
  done: started,
});

actions.cancel = (operation) => dialog.ask({
  title: `Cancel ${operation.verb} on ${operation.domain_name}`, danger: true,
  go: 'Cancel the operation',
  body: [make('p', null, `${operation.verb} ${patchName(operation, store)} is given up, `,
    'unless it has switched by then.')],
  send: () => api.cancel(operation.id),
  done: (answer) => answer && store.put(answer),
});

actions.look = (domain) => attempt(async () => {
  await api.look(domain.uuid);
  announce(`${domain.name} is being looked at`);
});

actions.reveal = (uuid) => table.reveal(uuid);

/** Shows an operation that may not be on the page: goes to its domain, else to what runs. */
actions.show = (id) => {
  const operation = store.operations.get(id);
  const card = document.querySelector(`[data-key="${CSS.escape(`cancel ${id}`)}"]`);
  if (card && !card.disabled) card.focus();
  else if (operation) table.reveal(operation.domain);
  else byId('running').focus();
};

function cards(name, things, build) {
  const shown = things.slice(0, MAX_CARDS);
  const signature = JSON.stringify([things.length, shown, [...store.patches.keys()]]);
  refresh(byId(`${name}-list`), signature, () => {
    const nodes = shown.map((thing) => build(thing, store, actions));
    if (things.length > MAX_CARDS)
      nodes.push(make('li', { class: 'dim' }, `and ${things.length - MAX_CARDS} more`));
    return nodes;
  });
  setText(byId(`tally-${name}`), String(things.length));
}

function showEnded() {
  const ended = store.ended().slice(0, MAX_LINES);
  const signature = JSON.stringify([ended.map((operation) => operation.id), store.patches.size]);
  refresh(byId('ended-list'), signature, () =>
    ended.map((operation) => operationLine(operation, store, actions, 'ended')));
  byId('ended-empty').hidden = ended.length > 0;
}

function showPatches() {
  const users = [...store.domains.values()].map((domain) =>
    (domain.patches || []).map((patch) => patch.sha256));
  const signature = JSON.stringify([[...store.patches.values()], users]);
  refresh(byId('patch-list'), signature, () => patchLines(store));
  byId('patches-empty').hidden = store.patches.size > 0;
  setText(byId('tally-patches'), String(store.patches.size));
}

function show() {
  table.update();
  cards('running', store.running(), runningCard);
  cards('blocked', store.blocked(), blockedCard);
  cards('attention', store.attention(), attentionCard);
  byId('running-empty').hidden = store.running().length > 0;
  byId('blocked').hidden = store.blocked().length === 0;
  byId('attention').hidden = store.attention().length === 0;
  pauses.update();
  showEnded();
  showPatches();
  setText(byId('tally-domains'), String(store.domains.size));
  setText(byId('tally-pauses'), String(pausesOf(store).length));
  document.title = store.running().length > 0 ? `(${store.running().length}) hvpatch` : 'hvpatch';
}

function tick() {
  for (const node of document.querySelectorAll('[data-elapsed]')) {
    const operation = store.operations.get(node.dataset.elapsed);
    if (operation) setText(node, elapsed(operation));
  }
}

function showLink(state, text) {
  byId('link').dataset.state = state;
  setText(byId('link'), text);
}

async function readAll() {
  const [domains, operations, patches] = await Promise.all(
    [api.listDomains(), api.listOperations(), api.listPatches()]);
  const known = new Set(operations.map((operation) => operation.id));
  const older = domains.map((domain) => domain.operation).filter((id) => id && !known.has(id));
  const running = await Promise.all(older.slice(0, MAX_OLDER).map(api.getOperation));
  store.load({ domains, operations: [...operations, ...running], patches });
}

const listener = {
  async opened(first) {
    if (first) await readAll();
    byId('alerts').replaceChildren();
    showLink('live', 'live');
  },

  event(event) {
    const before = store.operations.get(event.id);
    store.apply(event);
    if (event.type === 'daemon') attempt(readAll);
    const operation = event.type === 'operation' ? event.document : null;
    if (operation && hasEnded(operation) && !(before && hasEnded(before)))
      announce(`${operation.verb} on ${operation.domain_name}: ${operation.state}`);
  },

  lost(problem, msec) {
    if (byId('link').dataset.state !== 'lost') showLink('lost', `not live since ${clockNow()}`);
    if (problem.code === 'OFFLINE' && msec <= 1000) return;
    alert(problem);
  },
};

setText(byId('host'), location.host);
store.listeners.push(show);
setInterval(tick, 1000);
api.follow(listener);
