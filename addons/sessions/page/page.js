// Shows the stream of changes of one proxy. All text of others enters the page by textContent, in a <bdi>.
"use strict";

const RETRY_SECONDS = [1, 2, 5, 10];
const SILENCE_SECONDS = 15; // three heartbeats
const objects = new Map();
const totals = new Map();
const rows = { session: new Map(), refusal: new Map(), connector: new Map() };

const byId = (id) => document.getElementById(id);

// Return text without control and invisible characters, which could hide or turn other text.
function printable(value) {
  return String(value ?? "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "\uFFFD");
}

function age(seconds) {
  for (const [minimum, size, unit] of [[345600, 86400, "days"], [7200, 3600, "h"], [120, 60, "min"]]) {
    if (seconds >= minimum) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

function bytes(size) {
  for (const [unit, name] of [[2 ** 30, "GB"], [2 ** 20, "MB"], [2 ** 10, "kB"]]) {
    if (size >= unit) return `${(size / unit).toPrecision(3)} ${name}`;
  }
  return `${size} B`;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : 0);
const join = (...parts) => parts.filter(Boolean).join("/");

function expiry(text) {
  if (!text) return "";
  const seconds = (Date.parse(text) - Date.now()) / 1000;
  return seconds < 0 ? "expired" : `in ${age(seconds)}`;
}

// Return the cells of an object: label, text, and classes.
const CELLS = {
  session: (row) => [
    ["Since", age(Date.now() / 1000 - number(row.since)), "short"],
    ["Kind", row.kind, "short"],
    ["Caller", row.caller, ""],
    ["Connector", row.connector, ""],
    ["Object", join(row.namespace, row.name), ""],
    ["What", row.command || `${row.verb} ${row.resource}`, "what"],
    ["Bytes", bytes(number(row.bytesIn) + number(row.bytesOut)), "number"],
  ],
  refusal: (row) => [
    ["Time", clock(number(row.time)), "short"],
    ["Status", number(row.status) || "", "number"],
    ["Caller", row.caller || `stranger at ${row.sourceIP}`, ""],
    ["Connector", row.connector, ""],
    ["Request", row.request, "what"],
    ["Message", row.message ? `${row.message} (${row.reason})` : row.reason, ""],
  ],
  connector: (row) => [
    ["Connector", row.connector, ""],
    ["Target", row.address, ""],
    ["Usable", row.usable ? "yes" : `no: ${row.message}`, row.usable ? "good" : "bad why"],
    ["Permissions", row.permissions, ""],
    ["Expires", expiry(row.expires), "short"],
    ["A minute", perMinute(row), "number"],
    ["Callers of 15 minutes", callers(row), ""],
  ],
};

function perMinute(row) {
  const errors = number(row.errorsPerMinute);
  return `${number(row.requestsPerMinute)} requests${errors ? `, ${errors} failed` : ""}`;
}

function callers(row) {
  const shown = (row.callers ?? []).slice(0, 5).map((use) => {
    const errors = use.errors ? `, ${use.errors} failed` : "";
    const why = use.errors && row.usable ? `: ${use.lastError}` : "";
    return `${use.caller} (${use.requests} requests${errors}${why})`;
  });
  const more = number(row.callerCount) - shown.length;
  return shown.join("; ") + (more > 0 ? ` and ${more} more` : "");
}

const ORDER = {
  session: (a, b) => number(a.since) - number(b.since),
  refusal: (a, b) => number(b.number) - number(a.number),
  connector: (a, b) => Number(a.usable) - Number(b.usable) || (a.connector < b.connector ? -1 : 1),
};
const NAMES = { session: "sessions", refusal: "refusals", connector: "connectors" };

function render() {
  for (const kind of Object.keys(NAMES)) renderTable(kind);
}

function renderTable(kind) {
  const name = NAMES[kind];
  const body = byId(`${name}-rows`);
  const listed = [...objects].filter(([key]) => key.startsWith(`${kind}/`)).sort((a, b) => ORDER[kind](a[1], b[1]));
  const current = new Set(listed.map(([key]) => key));
  for (const [key, row] of rows[kind]) {
    if (!current.has(key)) {
      row.remove();
      rows[kind].delete(key);
    }
  }
  let next = body.firstElementChild;
  for (const [key, object] of listed) {
    let row = rows[kind].get(key);
    if (!row) {
      row = document.createElement("tr");
      row.setAttribute("role", "row");
      rows[kind].set(key, row);
    }
    fill(row, CELLS[kind](object));
    if (row === next) next = next.nextElementSibling;
    else body.insertBefore(row, next);
  }
  const total = totals.get(name) ?? listed.length;
  byId(`${name}-count`).textContent = total > listed.length ? `${listed.length} of ${total}` : `${total}`;
  byId(`${name}-empty`).hidden = listed.length > 0;
  body.closest(".scroll").hidden = listed.length === 0;
}

// Write the cells that have changed.
function fill(row, cells) {
  cells.forEach(([label, value, classes], index) => {
    const text = printable(value);
    let cell = row.children[index];
    if (!cell) {
      cell = document.createElement("td");
      cell.setAttribute("role", "cell");
      cell.dataset.label = label;
      cell.append(document.createElement("bdi"));
      row.append(cell);
    }
    if (cell.firstChild.textContent !== text) cell.firstChild.textContent = text;
    const wanted = text ? classes : `${classes} none`.trim();
    if (cell.className !== wanted) cell.className = wanted;
  });
}

function say(text, className) {
  const state = byId("state");
  if (state.textContent !== text) state.textContent = text;
  state.className = className;
  document.body.classList.toggle("stale", className !== "good");
}

function apply(event) {
  if (event.hello) {
    objects.clear();
    totals.clear();
    byId("proxy").textContent = printable(`${event.hello.version} · proxy ${event.hello.proxy}`);
  } else if (event.put?.startsWith("total/")) {
    totals.set(event.put.slice(6), event.object);
  } else if (event.put) {
    objects.set(event.put, event.object);
  } else if (event.gone) {
    objects.delete(event.gone);
  } else if (event.now) {
    say("connected", "good");
    render();
  }
}

// Read the stream until it ends. Throw if it is refused or silent.
async function read(secret) {
  const stop = new AbortController();
  let timer;
  const rewind = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENCE_SECONDS * 1000);
  };
  rewind();
  try {
    const headers = secret ? { Authorization: `Bearer ${secret}` } : {};
    const response = await fetch("changes", { headers, signal: stop.signal, cache: "no-store" });
    if (!response.ok) throw Object.assign(new Error(await response.text()), { status: response.status });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rewind();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) apply(JSON.parse(line));
    }
  } finally {
    clearTimeout(timer);
  }
}

// The secret is in the fragment, which is not sent. It leaves the address bar, and stays with this tab.
function takeSecret() {
  if (location.hash.length > 1) {
    sessionStorage.setItem("secret", location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("secret") ?? "";
}

async function run() {
  const secret = takeSecret();
  for (let attempt = 0; ; attempt += 1) {
    let reason = "the proxy is gone; trying again";
    try {
      await read(secret);
      attempt = 0;
    } catch (error) {
      if (error.status) reason = printable(error.message.trim());
    }
    say(reason, "bad");
    const seconds = RETRY_SECONDS[Math.min(attempt, RETRY_SECONDS.length - 1)];
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

addEventListener("hashchange", () => location.reload()); // the URL of the proxy, opened again
setInterval(() => document.hidden || render(), 1000);
run();
