// SPDX-License-Identifier: GPL-2.0-or-later
// Building the page: all that comes from the API goes in as text, never as markup.

const SVG = 'http://www.w3.org/2000/svg';

export const byId = (id) => document.getElementById(id);

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An element; properties are attributes, or listeners where their names begin with "on". */
export function make(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

export function makeSvg(name, properties, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

function keyOf(container, node) {
  const keyed = node && container.contains(node) ? node.closest('[data-key]') : null;
  return keyed && container.contains(keyed) ? keyed.dataset.key : null;
}

const find = (container, key) => container.querySelector(`[data-key="${CSS.escape(key)}"]`);

/**
 * Replaces what is in a container when its signature changed. The focus stays on the element with
 * the same data-key, and what was open stays open: live data must not take away the ground that a
 * keyboard stands on.
 */
export function refresh(container, signature, build) {
  if (container.signature === signature) return;
  container.signature = signature;
  const focused = keyOf(container, document.activeElement);
  const open = [...container.querySelectorAll('details[open][data-key]')].map((d) => d.dataset.key);
  container.replaceChildren(...build());
  for (const key of open) find(container, key)?.setAttribute('open', '');
  if (focused === null) return;
  const next = find(container, focused) || container.closest('[tabindex]');
  next?.focus({ preventScroll: true });
}

/** Puts nodes into a container in this order, moving only what has to move. */
export function arrange(container, nodes) {
  const focused = document.activeElement;
  let next = container.firstChild;
  for (const node of nodes) {
    if (node === next) next = next.nextSibling;
    else container.insertBefore(node, next);
  }
  while (next) {
    const after = next.nextSibling;
    next.remove();
    next = after;
  }
  if (focused !== document.activeElement && container.contains(focused))
    focused.focus({ preventScroll: true });
}
