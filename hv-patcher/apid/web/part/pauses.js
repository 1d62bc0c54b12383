// SPDX-License-Identifier: GPL-2.0-or-later
// How long VMs stood still: a plot of the ended operations, and the same as a table.

import { byId, make, makeSvg, refresh, setText } from './dom.js';
import { pause, plural, when } from './format.js';
import { patchName, pauseOf } from './store.js';

const MAX_POINTS = 500;
const HEIGHT = 190;
const EDGE = { left: 56, right: 12, top: 10, bottom: 24 };
const MIN_WIDTH = 240;
const SECOND = 1000;
const STEPS = [1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 12 * 3600, 24 * 3600, 7 * 24 * 3600,
  30 * 24 * 3600, 365 * 24 * 3600].map((seconds) => seconds * SECOND);
const MAX_TICKS = 5;

/** Newest first. */
export function pausesOf(store) {
  return store.ended().filter((operation) => pauseOf(operation) > 0).slice(0, MAX_POINTS);
}

function kindOf(operation) {
  if (operation.state === 'reverted') return 'reverted';
  return operation.state === 'applied' ? 'applied' : 'other';
}

/** Powers of ten that hold all pauses and the limit, with room for its words; at least two. */
function decades(values) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.log10(Math.max(...values)) + 0.4;
  return { low, high: Math.max(high, low + 2) };
}

function timeRange(times) {
  const first = Math.min(...times);
  const last = Math.max(...times);
  const margin = Math.max((last - first) * 0.03, 30 * SECOND);
  return { first: first - margin, last: last + margin };
}

function scales(width, points, limit) {
  const { low, high } = decades([...points.map((point) => point.usec), limit]);
  const { first, last } = timeRange(points.map((point) => point.time));
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  return {
    low, high, first, last, width,
    x: (time) => EDGE.left + inner.width * (time - first) / (last - first),
    y: (usec) => EDGE.top + inner.height * (high - Math.log10(usec)) / (high - low),
  };
}

function across(name, scale, y) {
  return makeSvg('line',
    { class: name, x1: EDGE.left, x2: scale.width - EDGE.right, y1: y, y2: y });
}

function rules(scale) {
  const nodes = [];
  for (let power = scale.low; power <= scale.high; power++) {
    const y = scale.y(10 ** power);
    nodes.push(across('rule', scale, y),
      makeSvg('text', { x: EDGE.left - 8, y: y + 4, 'text-anchor': 'end' }, pause(10 ** power)));
  }
  return nodes;
}

function tickWords(time, step) {
  const date = new Date(time);
  const second = step < 60 * SECOND ? '2-digit' : undefined;
  const options = step >= 24 * 3600 * SECOND ? { month: 'short', day: 'numeric' }
    : { hour: '2-digit', minute: '2-digit', second, hourCycle: 'h23' };
  return new Intl.DateTimeFormat(undefined, options).format(date);
}

function ticks(scale) {
  const span = scale.last - scale.first;
  const step = STEPS.find((candidate) => span / candidate <= MAX_TICKS) || STEPS.at(-1);
  const offset = new Date(scale.last).getTimezoneOffset() * 60 * SECOND;
  const bottom = HEIGHT - EDGE.bottom;
  const nodes = [];
  let time = Math.ceil((scale.first - offset) / step) * step + offset;
  for (; time <= scale.last; time += step) {
    const x = scale.x(time);
    nodes.push(makeSvg('line', { class: 'rule', x1: x, x2: x, y1: bottom, y2: bottom + 4 }),
      makeSvg('text', { x, y: HEIGHT - 6, 'text-anchor': 'middle' }, tickWords(time, step)));
  }
  return nodes;
}

function limitLine(scale, limit) {
  const y = scale.y(limit);
  return [across('limit', scale, y),
    makeSvg('text', { class: 'limit', x: scale.width - EDGE.right, y: y - 4, 'text-anchor': 'end' },
      `limit ${pause(limit)}`)];
}

function mark(point, scale) {
  const x = scale.x(point.time);
  const y = scale.y(point.usec);
  const shape = point.kind === 'other'
    ? makeSvg('path', { d: `M${x - 3.5} ${y - 3.5}l7 7m0-7l-7 7` })
    : makeSvg('circle', { cx: x, cy: y, r: point.kind === 'applied' ? 3.2 : 3.4 });
  shape.setAttribute('class', `point ${point.kind}`);
  shape.append(makeSvg('title', null, point.words));
  return shape;
}

function legend(points) {
  const names = { applied: 'applied', reverted: 'reverted', other: 'failed or taken back' };
  const marks = { applied: '●', reverted: '○', other: '×' };
  return make('p', { class: 'legend dim', 'aria-hidden': 'true' }, Object.keys(names)
    .filter((kind) => points.some((point) => point.kind === kind))
    .map((kind) => make('span', null, make('b', { class: kind }, marks[kind]), ` ${names[kind]}`)));
}

function statistics(points) {
  const sorted = points.map((point) => point.usec).sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
  return `${plural(points.length, 'pause')}: median ${pause(at(0.5))}, ` +
    `99th percentile ${pause(at(0.99))}, longest ${pause(sorted.at(-1))}`;
}

function pointOf(operation, store) {
  const usec = pauseOf(operation);
  return {
    time: Date.parse(operation.ended_at), usec, kind: kindOf(operation),
    words: `${pause(usec)}: ${operation.verb} ${patchName(operation, store)} ` +
      `on ${operation.domain_name}, ${operation.state}`,
  };
}

function draw(points, limit, width) {
  const scale = scales(width, points, limit);
  return [makeSvg('svg', {
    viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: 'img',
    'aria-label': `${statistics(points)}. The table below has each.`,
  }, rules(scale), ticks(scale), limitLine(scale, limit),
  points.map((point) => mark(point, scale))),
  legend(points)];
}

function tableRow(operation, store) {
  return make('tr', null, make('td', null, when(operation.ended_at)),
    make('td', null, operation.domain_name),
    make('td', null, `${operation.verb} ${patchName(operation, store)}: ${operation.state}`),
    make('td', { class: 'number' }, pause(pauseOf(operation))));
}

export class PauseView {
  constructor(store) {
    this.store = store;
    new ResizeObserver(() => this.update()).observe(byId('plot'));
    byId('pauses-details').addEventListener('toggle', () => this.update());
  }

  update() {
    if (!this.store.loaded) return;
    const operations = pausesOf(this.store);
    const signature = operations.map((operation) => operation.id).join();
    const width = Math.max(MIN_WIDTH, Math.floor(byId('plot').clientWidth));
    const points = operations.map((operation) => pointOf(operation, this.store));
    setText(byId('pauses-summary'), points.length > 0 ? statistics(points) : '');
    byId('pauses-details').hidden = points.length === 0;
    refresh(byId('plot'), `${width} ${signature}`, () => (points.length > 0
      ? draw(points, operations[0].options.max_pause * 1000, width)
      : [make('p', { class: 'empty' }, 'No VM was stopped yet.')]));
    if (byId('pauses-details').open)
      refresh(byId('pause-rows'), signature, () =>
        operations.map((operation) => tableRow(operation, this.store)));
  }
}
