// SPDX-License-Identifier: GPL-2.0-or-later
// The HTTP API of hvpatch-apid, as this page uses it. Addresses are relative to the page.

const TIMEOUT_MSEC = 30000;
// The daemon says something at least this often, be it an empty comment.
const SILENCE_MSEC = 60000;
const MAX_OPERATIONS = 1000;
const MAX_WAIT_MSEC = 30000;
const MAX_LINE_CHARACTERS = 8 * 1024 * 1024;

/** An answer that says no: the problem document (RFC 9457), or one made up where none came. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail || document.title);
    this.document = document;
    this.code = document.code;
    this.status = document.status;
  }
}

export const offline = (detail) => new Problem({
  code: 'OFFLINE', title: 'The daemon does not answer', detail, status: 0,
});

async function problemOf(response) {
  try {
    const document = await response.json();
    if (document && typeof document.code === 'string') return new Problem(document);
  } catch { /* No JSON: what the status says has to do. */ }
  return new Problem({
    code: `HTTP ${response.status}`, title: response.statusText || 'No answer of hvpatch-apid',
    status: response.status,
  });
}

async function request(method, path, options = {}) {
  let response;
  try {
    response = await fetch(path, { method, cache: 'no-store', redirect: 'error', ...options });
  } catch (error) {
    throw offline(error.name === 'TimeoutError' ? 'no answer in 30 s' : error.message);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function json(method, path, options) {
  const signal = AbortSignal.timeout(TIMEOUT_MSEC);
  const response = await request(method, path, { signal, ...options });
  return response.status === 204 ? null : response.json();
}

const segment = encodeURIComponent;

export const listDomains = () => json('GET', 'v1/domains');
export const listPatches = () => json('GET', 'v1/patches');
export const cancel = (id) => json('POST', `v1/operations/${segment(id)}/cancel`);
export const look = (uuid) => json('POST', `v1/domains/${segment(uuid)}/refresh`);

/** The newest, as many as one answer has. */
export const listOperations = () => json('GET', `v1/operations?limit=${MAX_OPERATIONS}`);
export const getOperation = (id) => json('GET', `v1/operations/${segment(id)}`);

/** Starts an operation. The same key with the same body starts one, however often it is sent. */
export function start(uuid, body, key) {
  return json('POST', `v1/domains/${segment(uuid)}/operations`, {
    headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key },
    body: JSON.stringify(body),
  });
}

/** crypto.randomUUID() exists in secure contexts only. */
export function newKey() {
  const words = crypto.getRandomValues(new Uint8Array(16));
  return [...words].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Yields the data of each message of a stream of server-sent events. */
async function* messages(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    if (rest.length > MAX_LINE_CHARACTERS) throw new Error('a line without end');
    for (const line of lines.map((text) => text.replace(/\r$/, ''))) {
      if (line.startsWith('data:')) data.push(line.slice(5));
      else if (line === '' && data.length > 0) {
        yield data.join('\n');
        data = [];
      }
    }
  }
}

async function readOnce(since, listener) {
  const silence = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MSEC);
  };
  heard();
  try {
    const query = since === null ? '' : `?since=${since}`;
    const response = await request('GET', `v1/events${query}`,
      { headers: { Accept: 'text/event-stream' }, signal: silence.signal });
    await listener.opened();
    for await (const text of messages(response.body, heard)) listener.event(JSON.parse(text));
  } finally {
    clearTimeout(timer);
  }
}

const sleep = (msec) => new Promise((resolve) => { setTimeout(resolve, msec); });

/**
 * Follows the events for as long as the page lives. The listener has opened(), event(document),
 * lost(problem, msec until the next try) and gap(): events were missed, all has to be read again.
 */
export async function follow(listener) {
  let since = null;
  let wait = 0;
  const follower = {
    opened: () => { wait = 0; return listener.opened(since === null); },
    event: (event) => { since = event.seq; listener.event(event); },
  };
  for (;;) {
    let problem = offline('the stream of events ended');
    try {
      await readOnce(since, follower);
    } catch (error) {
      problem = error instanceof Problem ? error : offline(error.message);
    }
    if (problem.code === 'GONE') since = null;
    wait = Math.min(MAX_WAIT_MSEC, wait * 2 || 1000);
    listener.lost(problem, wait);
    await sleep(wait);
  }
}
