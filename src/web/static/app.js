// Keeps the values of a page current. The server sends changed texts by element id; the script
// sets texts and attributes only, so that no value can become markup.
"use strict";

(() => {
  const body = document.body;
  const connection = document.getElementById("connection");
  const clock = document.getElementById("clock");
  let asOf = clock ? clock.textContent : "";

  function show(severity, text) {
    if (!connection || connection.textContent === text) return;
    connection.dataset.severity = severity;
    connection.textContent = text;
  }

  // The reader has followed a link. A reload would undo that. A download leaves the page open, so
  // this holds only for a while.
  let isLeaving = false;
  addEventListener("beforeunload", () => {
    isLeaving = true;
    setTimeout(() => (isLeaving = false), 3000);
  });

  // A page with a changed structure is loaded again, unless its reader is busy with it.
  function isBusy() {
    const active = document.activeElement;
    const isEditing = active && active.matches("input:not([data-kept]), select, textarea");
    const selection = document.getSelection();
    const isReading = document.querySelector("main details[open]") || (selection && selection.toString());
    return isEditing || Boolean(isReading);
  }

  function update(frame) {
    for (const [id, value] of Object.entries(frame.values)) {
      const element = document.getElementById(id);
      if (!element) continue;
      if (element.textContent !== value.text) element.textContent = value.text;
      if (value.severity) element.dataset.severity = value.severity;
      else delete element.dataset.severity;
    }
    if (frame.structure === body.dataset.structure || isLeaving) return;
    if (isBusy()) document.getElementById("reload").hidden = false;
    else location.reload();
  }

  // Ticks are notes of the person at this browser, so they are kept here and nowhere else.
  function keepTicks() {
    for (const box of document.querySelectorAll("input[data-kept]")) {
      const key = `stockbridge-tick:${box.id}`;
      box.checked = localStorage.getItem(key) !== null;
      box.addEventListener("change", () => {
        if (box.checked) localStorage.setItem(key, "1");
        else localStorage.removeItem(key);
      });
    }
  }

  // The server has refused the stream. If it asks for the password now, the page does too.
  async function reconnect() {
    try {
      const page = await fetch(location.href, { redirect: "manual", headers: { Accept: "text/html" } });
      if (page.type === "opaqueredirect") return location.reload();
    } catch {
      // The server is away.
    }
    connect();
  }

  function connect() {
    const stream = new EventSource(body.dataset.live);
    stream.onmessage = (event) => {
      update(JSON.parse(event.data));
      asOf = clock.textContent;
      show("good", connection.dataset.liveText);
    };
    // The browser connects again by itself, unless the server has refused.
    stream.onerror = () => {
      show("attention", `${connection.dataset.lostText} ${asOf}`);
      if (stream.readyState === EventSource.CLOSED) setTimeout(reconnect, 5000);
    };
    addEventListener("pagehide", () => stream.close(), { once: true });
  }

  if (body.dataset.live) connect();
  try {
    keepTicks();
  } catch {
    // The browser keeps no data of this page, so ticks last as long as the page.
  }
})();
