// SPDX-License-Identifier: GPL-2.0-or-later
// The one dialog: what is about to be done, to which domain, and what came of asking for it.
// It is modal, so the browser keeps the focus inside and gives it back afterwards.

import { newKey, Problem } from './api.js';
import { byId, make, setText } from './dom.js';
import { short } from './format.js';
import { problemNote } from './operations.js';
import { sortedPatches } from './patches.js';

const MAX_TIMEOUT_SECONDS = 86400;
const MAX_PAUSE_MSEC = 1000;

export class Dialog {
  constructor(actions) {
    this.actions = actions;
    this.node = byId('dialog');
    this.asking = null;
    byId('dialog-close').addEventListener('click', () => this.node.close());
    byId('dialog-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.go();
    });
    byId('dialog-form').addEventListener('input', () => this.renew());
    this.node.addEventListener('close', () => { this.asking = null; });
  }

  /**
   * title, body (nodes), go (the words on the button), send(key) -> what done(answer) gets;
   * danger: the button is drawn as what it is.
   */
  ask(question) {
    this.asking = question;
    this.renew();
    setText(byId('dialog-title'), question.title);
    byId('dialog-body').replaceChildren(...question.body);
    byId('dialog-problem').replaceChildren();
    setText(byId('dialog-go'), question.go);
    byId('dialog-go').dataset.tone = question.danger ? 'bad' : 'calm';
    this.work(false);
    this.node.showModal();
    const field = byId('dialog-body').querySelector('select, input');
    (field || byId('dialog-close')).focus();
  }

  /** Another request has another key; the same one, sent again, keeps its own. */
  renew() {
    this.key = newKey();
  }

  work(working) {
    byId('dialog-go').disabled = working;
    this.node.setAttribute('aria-busy', String(working));
  }

  async go() {
    const question = this.asking;
    if (!question || byId('dialog-go').disabled || !byId('dialog-form').reportValidity()) return;
    this.work(true);
    byId('dialog-problem').replaceChildren();
    try {
      const answer = await question.send(this.key);
      if (this.asking === question) this.node.close();
      question.done?.(answer);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (this.asking === question) this.fail(error);
    }
    if (this.asking === question) this.work(false);
  }

  fail(problem) {
    byId('dialog-problem').replaceChildren(problemNote(problem.document, {
      show: (id) => { this.node.close(); this.actions.show(id); },
    }));
    // What the daemon decided stays decided for this key; what it may not have heard goes again.
    if (problem.code !== 'OFFLINE' && problem.code !== 'TIMED_OUT' && problem.status < 500)
      this.renew();
  }
}

export function field(title, control, hint) {
  return make('label', { class: 'field' }, make('span', null, title), control,
    hint ? make('small', { class: 'dim' }, hint) : null);
}

export function patchSelect(store) {
  const words = (patch) => [patch.name, short(patch.sha256), ...patch.cves.slice(0, 2),
    patch.signed_by ? '' : 'not signed'].filter(Boolean).join(' · ');
  return make('select', { name: 'patch', required: true }, sortedPatches(store).map((patch) =>
    make('option', { value: patch.sha256 }, words(patch))));
}

function numberInput(name, value, max, step) {
  return make('input', {
    name, type: 'number', value, min: step, max, step: 'any', required: true, inputmode: 'decimal',
  });
}

/** The options of an operation that changes a guest; read() gives them as the API wants them. */
export function optionFields(verb) {
  const timeout = numberInput('timeout', '30', MAX_TIMEOUT_SECONDS, '0');
  const maxPause = numberInput('max_pause', '10', MAX_PAUSE_MSEC, '0.01');
  const prod = make('input', { name: 'prod', type: 'checkbox', checked: true });
  const replace = make('select', { name: 'replace' },
    make('option', { value: '' }, 'as the patch says'),
    make('option', { value: 'true' }, 'replace them'),
    make('option', { value: 'false' }, 'keep them'));
  const fields = [
    make('div', { class: 'pair' },
      field('Keep trying for', timeout, 'seconds, while tasks are in the way'),
      field('Stop the VM for at most', maxPause, 'milliseconds')),
    verb === 'apply' ? field('Patches in force already', replace) : null,
    make('label', { class: 'tick' }, prod,
      make('span', null, 'Send sleeping tasks out of the functions')),
  ].filter(Boolean);
  const read = () => ({
    timeout: Number(timeout.value), max_pause: Number(maxPause.value), prod: prod.checked,
    ...(verb === 'apply' ? { replace: { '': null, true: true, false: false }[replace.value] } : {}),
  });
  return { fields, read };
}
