// Keeps the page current. The server renders all HTML; this swaps it in.
"use strict";

(() => {
  const body = document.body;
  // The least time between two loads of the table, and their share of the time.
  const MIN_LOAD_MS = 400;
  const LOAD_SHARE = 0.25;

  // --- Live updates ---

  let close = null;
  let stale = false;
  let nextLoad = 0;
  let loading = null;

  const takers = {
    state: (data) => showState(JSON.parse(data)),
    rows: (data) => showRows(JSON.parse(data)),
    all: () => loadSoon(),
    open: () => {
      if (stale) loadSoon();
      stale = false;
    },
    error: () => {
      stale = true;
      showState({ state: "down", problem: "The dashboard itself does not answer." });
    },
  };

  function connect() {
    // A hidden page needs no events; it loads all when it is shown again.
    const url = body.dataset.events;
    if (!url || document.hidden || close) return;
    close = window.SharedWorker ? listenTogether(url) : listenAlone(url);
  }

  function disconnect() {
    if (close) close();
    close = null;
    stale = true;
  }

  function listenTogether(url) {
    const { port } = new SharedWorker("/static/events.js");
    port.onmessage = ({ data }) => takers[data.kind](data.data);
    port.postMessage(url);
    return () => port.postMessage(null);
  }

  function listenAlone(url) {
    const source = new EventSource(url);
    for (const kind of ["state", "rows", "all"]) {
      source.addEventListener(kind, (event) => takers[kind](event.data));
    }
    source.onopen = takers.open;
    source.onerror = takers.error;
    return () => source.close();
  }

  function showState(state) {
    const badge = document.getElementById("state");
    const trouble = document.getElementById("trouble");
    if (!badge || !trouble) return;
    if (state.state === "closed") state = { state: "down", problem: "The dashboard has ended." };
    badge.className = `state ${state.state}`;
    badge.firstElementChild.textContent = state.state;
    trouble.hidden = state.state !== "down";
    trouble.lastElementChild.textContent = state.problem;
  }

  function showRows({ changed, html }) {
    const table = document.getElementById("table");
    if (table) showTableRows(table, changed, html);
    const record = document.getElementById("record");
    if (record && record.dataset.project in changed) loadRecord(record);
  }

  function showTableRows(table, changed, html) {
    let reload = false;
    for (const [project, structure] of Object.entries(changed)) {
      const row = document.getElementById(`row-${project}`);
      if (row && project in html) swapRow(row, html[project]);
      // A project that appears, disappears, or may match the filter now.
      const known = Boolean(row) === project in html;
      if (row && !known) row.remove();
      if (structure && (!known || table.dataset.loose)) reload = true;
    }
    if (reload) loadSoon();
  }

  function swapRow(row, html) {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const fresh = holder.content.querySelector("tr");
    if (!fresh) return;
    const picked = row.querySelector("input")?.checked;
    const focus = row.contains(document.activeElement) ? document.activeElement.id : "";
    row.replaceWith(fresh);
    if (picked) fresh.querySelector("input").checked = true;
    if (focus) document.getElementById(focus)?.focus();
    fresh.classList.add("fresh");
  }

  function loadSoon() {
    if (loading) return;
    loading = setTimeout(load, Math.max(0, nextLoad - Date.now()));
  }

  async function load() {
    const begun = Date.now();
    try {
      const table = document.getElementById("table");
      const record = document.getElementById("record");
      if (table) await loadTable(table);
      if (record) await loadRecord(record);
    } finally {
      const took = Date.now() - begun;
      nextLoad = Date.now() + Math.max(MIN_LOAD_MS, took / LOAD_SHARE);
      loading = null;
    }
  }

  async function loadTable(table) {
    const picked = [...table.querySelectorAll("input:checked")].map((one) => one.id);
    const scrolled = table.querySelector(".scroll")?.scrollLeft || 0;
    await window.htmx.ajax("GET", table.dataset.url, { target: "#table", swap: "outerHTML" });
    for (const id of picked) {
      const box = document.getElementById(id);
      if (box) box.checked = true;
    }
    const scroll = document.querySelector("#table .scroll");
    if (scroll) scroll.scrollLeft = scrolled;
  }

  async function loadRecord(record) {
    await window.htmx.ajax("GET", record.dataset.url, { target: "#record", swap: "outerHTML" });
    const events = document.getElementById("project-events");
    if (events) window.htmx.trigger(events, "refresh");
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else connect();
  });
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);

  // --- htmx ---

  // Errors come as parts of pages, too: show them.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status >= 400 && event.detail.xhr.status !== 401) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
    }
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    const table = document.getElementById("table");
    const box = document.getElementById("filter");
    if (box) box.setAttribute("aria-invalid", String(Boolean(document.getElementById("filter-error"))));
    if (table && event.detail.target && event.detail.target.id === "table") stale = false;
  });

  // --- Ages ---

  const SPANS = [[31536000, "y"], [86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  function age(seconds) {
    const passed = Date.now() / 1000 - seconds;
    for (const [length, unit] of SPANS) {
      if (Math.abs(passed) >= length) {
        const text = `${Math.round(Math.abs(passed) / length)} ${unit}`;
        return passed < 0 ? `in ${text}` : `${text} ago`;
      }
    }
    return "now";
  }

  setInterval(() => {
    if (document.hidden) return;
    for (const one of document.querySelectorAll("time[data-s]")) {
      const seconds = Number(one.dataset.s);
      if (!seconds) continue;
      const text = age(seconds);
      if (one.textContent !== text) one.textContent = text;
    }
  }, 1000);

  // --- Keys and forms ---

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "/" && !typing) {
      const box = document.getElementById("filter");
      if (box) {
        event.preventDefault();
        box.focus();
        box.select();
      }
    }
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    const link = { n: "a[rel=next][href]", p: "a[rel=prev][href]" }[event.key];
    if (link) document.querySelector(link)?.click();
    if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  });

  function step(by) {
    const links = [...document.querySelectorAll("table.projects th[scope=row] a")];
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    links[Math.min(Math.max(at + by, 0), links.length - 1)].focus();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-confirm]");
    if (button && !window.confirm(button.dataset.confirm)) event.preventDefault();
  });

  document.addEventListener("change", (event) => {
    if (event.target.name !== "column") return;
    const boxes = document.querySelectorAll("input[name=column]:checked");
    const address = new URL(window.location.href);
    address.searchParams.set("cols", [...boxes].map((one) => one.value).join(","));
    window.location.assign(address);
  });

  connect();
})();
