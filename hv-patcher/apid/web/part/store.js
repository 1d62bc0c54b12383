// SPDX-License-Identifier: GPL-2.0-or-later
// What the page knows: the newest document of each domain, operation and patch.

const ENDED = new Set(['checked', 'applied', 'reverted', 'recovered', 'failed', 'rolled-back',
  'needs-operator', 'cancelled']);
const GOOD = new Set(['checked', 'applied', 'reverted', 'recovered']);
const MAX_ENDED = 2000;
// Many events in a row are one change of the page.
const BATCH_MSEC = 60;

export const hasEnded = (operation) => ENDED.has(operation.state);
export const isGood = (operation) => GOOD.has(operation.state);
/** Who is in the way, [] while nobody is known to be. */
export const blockersOf = (operation) => operation.result?.blockers || [];
export const pauseOf = (operation) => operation.result?.pause_usec || 0;
/** What a person calls the patch of an operation. */
export const patchName = (operation, store) =>
  operation.name || store.patches.get(operation.patch)?.name || operation.patch?.slice(0, 12) || '';

const timeOf = (operation) => Date.parse(operation.ended_at || operation.created_at) || 0;

export class Store {
  constructor() {
    this.domains = new Map();
    this.operations = new Map();
    this.patches = new Map();
    this.listeners = [];
    this.timer = null;
    this.indexes = null;
    this.loaded = false;
  }

  /** All at once, as lists; what is not in them is gone. */
  load({ domains, operations, patches }) {
    this.domains = new Map(domains.map((domain) => [domain.uuid, domain]));
    this.operations = new Map(operations.map((operation) => [operation.id, operation]));
    this.patches = new Map(patches.map((patch) => [patch.sha256, patch]));
    this.loaded = true;
    this.changed();
  }

  /** One event of the daemon's. Without a document its thing is gone. */
  apply(event) {
    const maps = { domain: this.domains, operation: this.operations, patch: this.patches };
    const map = maps[event.type];
    if (!map) return;
    if (event.document) map.set(event.id, event.document);
    else map.delete(event.id);
    this.changed();
  }

  put(operation) {
    this.apply({ type: 'operation', id: operation.id, document: operation });
  }

  changed() {
    this.indexes = null;
    if (this.timer === null) this.timer = setTimeout(() => this.tell(), BATCH_MSEC);
  }

  tell() {
    this.timer = null;
    this.forget();
    for (const listener of this.listeners) listener();
  }

  /** Of ended operations only the newest are kept. */
  forget() {
    const ended = this.ended();
    if (ended.length <= MAX_ENDED) return;
    for (const operation of ended.slice(MAX_ENDED)) this.operations.delete(operation.id);
    this.indexes = null;
  }

  index() {
    if (this.indexes) return this.indexes;
    const sorted = [...this.operations.values()].sort((a, b) => timeOf(b) - timeOf(a));
    const ofDomain = new Map();
    for (const operation of sorted) {
      const list = ofDomain.get(operation.domain);
      if (list) list.push(operation);
      else ofDomain.set(operation.domain, [operation]);
    }
    this.indexes = {
      ofDomain,
      running: sorted.filter((operation) => !hasEnded(operation)).reverse(),
      ended: sorted.filter(hasEnded),
    };
    return this.indexes;
  }

  /** Oldest first. */
  running() { return this.index().running; }

  /** Newest first. */
  ended() { return this.index().ended; }

  /** Newest first. */
  operationsOf(uuid) { return this.index().ofDomain.get(uuid) || []; }

  runningOf(uuid) { return this.operationsOf(uuid).find((operation) => !hasEnded(operation)); }

  /** The newest operation of each domain, checks apart, if it ended in one of these ways. */
  latest(wanted) {
    return [...this.domains.keys()].map((uuid) => this.latestOf(uuid))
      .filter((operation) => operation && wanted(operation));
  }

  latestOf(uuid) {
    return this.operationsOf(uuid).find((operation) => operation.verb !== 'check' ||
      !hasEnded(operation));
  }

  /** Operations that tasks are in the way of, or were when the newest one of a domain gave up. */
  blocked() {
    return this.latest((operation) => (hasEnded(operation) ? !isGood(operation) &&
      operation.state !== 'cancelled' && blockersOf(operation).length > 0
      : operation.blockers > 0 || blockersOf(operation).length > 0));
  }

  /** Domains that need a person: { domain, operation or null, patches not as recorded }. */
  attention() {
    return [...this.domains.values()].map((domain) => {
      const latest = this.latestOf(domain.uuid);
      return {
        domain, operation: latest?.state === 'needs-operator' ? latest : null,
        patches: (domain.patches || []).filter((patch) => !patch.verified),
      };
    }).filter(({ operation, patches }) => operation || patches.length > 0);
  }

  /** One word for a domain; what a person would look at first wins. */
  kindOf(domain) {
    if (this.latestOf(domain.uuid)?.state === 'needs-operator') return 'attention';
    if ((domain.patches || []).some((patch) => !patch.verified)) return 'attention';
    if (this.runningOf(domain.uuid)) return 'busy';
    if (domain.patches?.length > 0) return 'patched';
    if (domain.patchable === false) return 'unpatchable';
    return domain.kernel && domain.patches ? 'clean' : 'unknown';
  }
}
