// What the pages do beyond forms and links. Without it, everything reads and every form works.
(() => {
  "use strict";
  const $ = (selector, within = document) => within.querySelector(selector);

  // A page that asks before something is done opens in a dialog.
  async function ask(url, form) {
    const answer = await fetch(url, {headers: {"HX-Request": "true"}, method: form ? "POST" : "GET", body: form});
    const done = answer.headers.get("HX-Redirect");
    if (done) {
      location.href = done;
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const asked = $("#confirm", page);
    const dialog = $("#dialog");
    if (!asked || !dialog) throw new Error("nothing is asked");
    dialog.replaceChildren(document.importNode(asked, true));
    dialog.showModal();
  }

  // A form without an answer yet is not sent twice.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    for (const field of event.target.elements) {
      if (field.matches("button:not([name])")) setTimeout(() => { field.disabled = true; }, 0);
    }
  });
  // A page that comes back from the browser's memory has its buttons again.
  window.addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("button[disabled]:not([data-off])")) button.disabled = false;
  });

  document.addEventListener("click", async (event) => {
    const on = (selector) => event.target.closest(selector);
    const asks = on("a[data-dialog]");
    if (asks && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
      event.preventDefault();
      ask(asks.href).catch(() => { location.href = asks.href; });
      return;
    }
    // A button of a form of ticked rows that asks first.
    const bulk = on("button[data-dialog]");
    if (bulk && bulk.form) {
      event.preventDefault();
      const fields = new URLSearchParams(new FormData(bulk.form, bulk));
      const url = bulk.getAttribute("formaction") || bulk.form.action;
      const asked = bulk.form.method === "get" ? ask(`${url}?${fields}`) : ask(url, fields);
      asked.catch(() => { bulk.form.requestSubmit(bulk); });
      return;
    }
    if (on("dialog [data-close]")) {
      event.preventDefault();
      $("#dialog").close();
      return;
    }
    const copies = on("[data-copy]");
    if (copies) {
      await navigator.clipboard.writeText(copies.dataset.copy);
      const before = copies.textContent;
      copies.textContent = "Copied";
      setTimeout(() => { copies.textContent = before; }, 1500);
    }
  });

  document.addEventListener("change", (event) => {
    // One box ticks all rows.
    const all = event.target.closest("[data-tick]");
    if (all) {
      for (const box of document.querySelectorAll(`input[name="${all.dataset.tick}"]`)) box.checked = all.checked;
    }
    // A choice that acts at once.
    if (event.target.matches("[data-send]")) event.target.form.requestSubmit();
  });

  // Rows that somebody points at, has in focus or has ticked do not move: news wait.
  document.addEventListener("htmx:sse:before:message", (event) => {
    const part = event.target;
    const isBusy = () => $("tbody:hover, tbody :focus, tbody :checked", part);
    if (event.detail.message.event || !isBusy()) return;
    event.detail.waitUntil(new Promise((go) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "news";
      button.textContent = "Show what changed";
      const timer = setInterval(() => { if (!isBusy()) show(); }, 500);
      const show = () => {
        clearInterval(timer);
        button.remove();
        go();
      };
      button.addEventListener("click", show);
      part.after(button);
    }));
  });
  // A page that nobody sees asks for nothing.
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden && event.target.matches("[hx-trigger^=every]")) event.preventDefault();
  });
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status !== 401 || $("#over")) return;
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = "Log in again";
    const told = document.createElement("p");
    told.id = "over";
    told.className = "notice bad";
    told.setAttribute("role", "alert");
    told.append("Your session is over. ", link);
    event.target.before(told);
  });

  // Keys without Ctrl: / goes to the search, j and k go through the rows, Esc goes back. They can be
  // turned off (WCAG 2.1.4).
  const keys = {
    get on() { try { return localStorage.getItem("keys") !== "off"; } catch { return true; } },
    set on(on) { try { localStorage.setItem("keys", on ? "on" : "off"); } catch { /* for this page only */ } },
  };
  for (const label of document.querySelectorAll("[data-keys]")) {
    const box = $("[data-keys-switch]", label);
    box.checked = keys.on;
    box.addEventListener("change", () => { keys.on = box.checked; });
    label.hidden = false;
  }
  document.addEventListener("keydown", (event) => {
    if (!keys.on || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (typing) {
      if (event.key === "Escape") typing.blur();
      return;
    }
    if (event.key === "Escape") {
      $("[data-back]")?.click();
      return;
    }
    const step = {j: 1, k: -1}[event.key];
    const search = event.key === "/" && $("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
    } else if (step) {
      const rows = [...document.querySelectorAll("[data-row]")];
      const at = rows.indexOf(document.activeElement);
      const next = at < 0 ? 0 : Math.min(Math.max(at + step, 0), rows.length - 1);
      rows[next]?.focus();
    }
  });

  // Times tell their distance from now. The clock of the server counts: that of the browser may
  // be wrong.
  const ahead = Date.parse(document.body.dataset.now) - Date.now() || 0;
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function told(element) {
    const away = Math.round((Date.parse(element.dateTime) - Date.now() - ahead) / 1000);
    if (!away) return "now";
    const size = Math.abs(away);
    const [unit, name] = units.find(([unit]) => size >= unit);
    const span = `${Math.floor(size / unit)} ${name}`;
    return away < 0 ? `${span} ago` : `in ${span}`;
  }
  setInterval(() => {
    if (document.hidden) return;
    for (const element of document.querySelectorAll("time[datetime]")) element.textContent = told(element);
  }, 10000);

  $("[data-focus]")?.focus();
})();
