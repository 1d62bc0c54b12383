// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers, times and names as people read them.

import { make } from './dom.js';

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });
export const compareText = (a, b) => collator.compare(a, b);

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium', hourCycle: 'h23' });
export const clockNow = () => clock.format(Date.now());

const dated = new Intl.DateTimeFormat(undefined,
  { dateStyle: 'short', timeStyle: 'short', hourCycle: 'h23' });
const DAY_MSEC = 24 * 3600 * 1000;

/** Microseconds: "85 µs", "1.22 ms", "1.3 s". */
export function pause(usec) {
  if (usec < 1000) return `${usec} µs`;
  const [value, unit] = usec < 1000000 ? [usec / 1000, 'ms'] : [usec / 1000000, 's'];
  return `${Number(value.toPrecision(3))} ${unit}`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1024 * 1024) return `${(count / 1024).toFixed(0)} KiB`;
  return `${(count / 1024 / 1024).toFixed(1)} MiB`;
}

export function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many || `${one}s`}`;
}

export const short = (hash) => (hash ? hash.slice(0, 12) : '');

/** A <time>: the clock today, else the date with it; the whole in its title. */
export function when(text) {
  const time = new Date(text);
  if (!text || Number.isNaN(time.getTime())) return make('span', { class: 'dim' }, '–');
  const words = Date.now() - time < DAY_MSEC ? clock.format(time) : dated.format(time);
  return make('time', { datetime: time.toISOString(), title: time.toString() }, words);
}
