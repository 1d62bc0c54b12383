// SPDX-License-Identifier: GPL-2.0-or-later
// The table of domains: filter, sort, a row that opens, and the keys to walk it.

import { arrange, byId, make, refresh, setAttribute, setText } from './dom.js';
import { domainDetail } from './domain.js';
import { compareText } from './format.js';
import { hasEnded, isGood, patchName } from './store.js';

const COLUMNS = [
  { name: 'name', title: 'Domain' },
  { name: 'state', title: 'State' },
  { name: 'kernel', title: 'Kernel' },
  { name: 'patches', title: 'Patches' },
  { name: 'now', title: 'Now' },
];
// The order in which kinds sort in the column "Now": what wants a look comes first.
const KINDS = ['attention', 'busy', 'unpatchable', 'clean', 'unknown', 'patched'];

function describePatches(domain) {
  if (!domain.patches) return domain.kernel ? 'not looked at' : '';
  if (domain.patches.length === 0) return 'none';
  return domain.patches.map((patch) => patch.name).join(', ');
}

function describeNow(domain, kind, store) {
  const latest = store.latestOf(domain.uuid);
  if (latest && !hasEnded(latest)) return `${latest.verb}: ${latest.state}`;
  if (kind === 'attention') {
    const wrong = (domain.patches || []).find((patch) => !patch.verified);
    return wrong ? `patch ${wrong.state || 'altered'}` : 'needs an operator';
  }
  if (domain.patchable === false) return 'cannot be patched';
  if (latest && !isGood(latest)) return `${latest.verb} ${latest.state}`;
  return kind === 'unknown' ? 'not looked at' : '';
}

/** What a row shows, sorts and is found by. */
function describe(domain, store) {
  const kind = store.kindOf(domain);
  const row = {
    kind, name: domain.name, state: domain.state, kernel: domain.kernel?.release || '–',
    patches: describePatches(domain), now: describeNow(domain, kind, store),
  };
  const cves = (domain.patches || []).flatMap((patch) => patch.cves || []);
  const latest = store.latestOf(domain.uuid);
  row.words = [row.name, domain.uuid, row.state, row.kernel, row.patches, row.now,
    latest ? patchName(latest, store) : '', ...cves].join('\n').toLowerCase();
  row.order = `${KINDS.indexOf(kind)} ${row.now}`;
  return row;
}

class Row {
  constructor(uuid, table) {
    this.uuid = uuid;
    this.button = make('button', {
      class: 'name', 'aria-expanded': 'false', tabindex: '-1', onclick: () => table.toggle(uuid),
    });
    this.cells = {
      name: make('th', { scope: 'row', role: 'rowheader' }, this.button),
      ...Object.fromEntries(COLUMNS.slice(1).map(({ name, title }) =>
        [name, make('td', { role: 'cell', 'data-title': title })])),
    };
    this.node = make('tr', { role: 'row', 'data-uuid': uuid }, Object.values(this.cells));
    this.detail = null;
  }

  show(row) {
    this.row = row;
    setText(this.button, row.name);
    for (const { name } of COLUMNS.slice(1)) setText(this.cells[name], row[name]);
    setAttribute(this.node, 'data-kind', row.kind);
    setAttribute(this.node, 'data-power', row.state === 'running' ? null : 'off');
  }

  get isOpen() { return this.detail !== null; }

  open() {
    const id = `detail-${this.uuid}`;
    this.cell = make('td', { colspan: COLUMNS.length, role: 'cell' });
    this.detail = make('tr', { class: 'detail', role: 'row', id }, this.cell);
    setAttribute(this.button, 'aria-controls', id);
    setAttribute(this.button, 'aria-expanded', 'true');
  }

  close() {
    this.detail = null;
    setAttribute(this.button, 'aria-controls', null);
    setAttribute(this.button, 'aria-expanded', 'false');
  }
}

export class DomainTable {
  constructor(store, actions) {
    this.store = store;
    this.actions = actions;
    this.rows = new Map();
    this.visible = [];
    this.sort = { name: 'name', down: false };
    this.active = null;
    byId('domain-table').setAttribute('role', 'table');
    byId('domain-head').append(...COLUMNS.map((column) => this.head(column)));
    byId('domain-rows').addEventListener('keydown', (event) => this.key(event));
    byId('domain-rows').addEventListener('focusin', (event) => this.follow(event.target));
    byId('filter').addEventListener('submit', (event) => event.preventDefault());
    byId('filter-text').addEventListener('input', () => this.arrange());
    byId('filter-kind').addEventListener('input', () => this.arrange());
  }

  head({ name, title }) {
    const button = make('button', { class: 'sort', onclick: () => this.sortBy(name) }, title);
    return make('th', { scope: 'col', 'data-column': name }, button);
  }

  sortBy(name) {
    this.sort = { name, down: this.sort.name === name && !this.sort.down };
    this.arrange();
  }

  update() {
    for (const uuid of this.rows.keys())
      if (!this.store.domains.has(uuid)) this.rows.delete(uuid);
    for (const [uuid, domain] of this.store.domains) {
      if (!this.rows.has(uuid)) this.rows.set(uuid, new Row(uuid, this));
      this.rows.get(uuid).show(describe(domain, this.store));
    }
    this.arrange();
    for (const row of this.rows.values()) if (row.isOpen) this.fill(row);
  }

  arrange() {
    const words = byId('filter-text').value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = byId('filter-kind').value;
    this.visible = [...this.rows.values()].filter(({ row }) =>
      (!kind || row.kind === kind) && words.every((word) => row.words.includes(word)));
    this.order();
    arrange(byId('domain-rows'), this.visible.flatMap((row) =>
      (row.isOpen ? [row.node, row.detail] : [row.node])));
    this.showCount(words.length > 0 || kind !== '');
    this.rove();
  }

  order() {
    const column = this.sort.name === 'now' ? 'order' : this.sort.name;
    const sign = this.sort.down ? -1 : 1;
    this.visible.sort((a, b) => sign * compareText(a.row[column], b.row[column]) ||
      compareText(a.row.name, b.row.name));
    for (const head of byId('domain-head').children) {
      const sorted = head.dataset.column === this.sort.name;
      const way = this.sort.down ? 'descending' : 'ascending';
      setAttribute(head, 'aria-sort', sorted ? way : null);
    }
  }

  showCount(filtered) {
    const all = this.rows.size;
    setText(byId('filter-count'), filtered ? `${this.visible.length} of ${all}` : '');
    const empty = byId('domains-empty');
    empty.hidden = this.visible.length > 0;
    byId('hint').hidden = this.visible.length === 0;
    setText(empty, all > 0 ? 'No domain is like that.' : 'This host has no domains.');
  }

  /** One row is a tab stop, so that 500 domains are one press of Tab. */
  rove() {
    if (!this.visible.some((row) => row.uuid === this.active))
      this.active = this.visible[0]?.uuid || null;
    for (const row of this.visible)
      setAttribute(row.button, 'tabindex', row.uuid === this.active ? '0' : '-1');
  }

  follow(target) {
    const uuid = target.matches('button.name') && target.closest('tr').dataset.uuid;
    if (!uuid || uuid === this.active) return;
    this.active = uuid;
    this.rove();
  }

  key(event) {
    const at = this.visible.findIndex((row) => row.button === event.target);
    if (at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const last = this.visible.length - 1;
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: last,
    }[event.key];
    if (event.key === 'Escape' && this.visible[at].isOpen) this.toggle(this.visible[at].uuid);
    if (to === undefined) return;
    event.preventDefault();
    const { button } = this.visible[Math.max(0, Math.min(last, to))];
    button.focus();
    button.closest('tr').scrollIntoView({ block: 'nearest' });
  }

  toggle(uuid) {
    const row = this.rows.get(uuid);
    if (row.isOpen) row.close();
    else {
      row.open();
      this.fill(row);
    }
    this.arrange();
  }

  fill(row) {
    const domain = this.store.domains.get(row.uuid);
    const operations = this.store.operationsOf(row.uuid).slice(0, 5);
    refresh(row.cell, JSON.stringify([domain, operations, [...this.store.patches.keys()]]),
      () => domainDetail(domain, operations, this.store, this.actions));
  }

  /** Shows a domain: drops a filter that hides it, opens its row and goes there. */
  reveal(uuid) {
    const row = this.rows.get(uuid);
    if (!row) return;
    if (!this.visible.includes(row)) byId('filter').reset();
    if (!row.isOpen) this.toggle(uuid);
    this.arrange();
    row.button.focus({ preventScroll: true });
    row.node.scrollIntoView({ block: 'center' });
  }
}
