// A worker that all pages share: one stream of events for each address, because browsers
// open only a few connections to a host.
"use strict";

// For each address, its stream, the pages that listen, and the last state.
const streams = new Map();

function open(url) {
  const stream = { source: new EventSource(url), ports: new Set(), state: null };
  streams.set(url, stream);
  const tell = (message) => {
    for (const port of stream.ports) port.postMessage(message);
  };
  for (const kind of ["state", "rows", "all"]) {
    stream.source.addEventListener(kind, (event) => {
      if (kind === "state") stream.state = event.data;
      tell({ kind, data: event.data });
    });
  }
  stream.source.onopen = () => tell({ kind: "open" });
  stream.source.onerror = () => {
    stream.state = null;
    tell({ kind: "error" });
    // A refused stream is not tried again by the browser.
    if (stream.source.readyState === EventSource.CLOSED) {
      setTimeout(() => retry(url, stream), 2000);
    }
  };
  return stream;
}

function retry(url, stream) {
  if (streams.get(url) !== stream || !stream.ports.size) return;
  const fresh = open(url);
  fresh.ports = stream.ports;
}

function leave(port) {
  for (const [url, stream] of streams) {
    if (stream.ports.delete(port) && !stream.ports.size) {
      stream.source.close();
      streams.delete(url);
    }
  }
}

self.onconnect = (connection) => {
  const port = connection.ports[0];
  port.onmessage = ({ data }) => {
    leave(port);
    if (!data) return;
    const stream = streams.get(data) || open(data);
    stream.ports.add(port);
    if (stream.state !== null) {
      port.postMessage({ kind: "open" });
      port.postMessage({ kind: "state", data: stream.state });
    }
  };
};
