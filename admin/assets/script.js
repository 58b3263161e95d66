// What the pages do beyond forms and links. Without it, everything reads and every form works.
(() => {
  "use strict";
  const $ = (selector, within = document) => within.querySelector(selector);

  // A page that asks before something is done opens in a dialog.
  async function ask(url) {
    const answer = await fetch(url, {headers: {"HX-Request": "true"}});
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const asked = $("#confirm", page);
    const dialog = $("#dialog");
    if (!asked || !dialog) {
      location.href = url;
      return;
    }
    dialog.replaceChildren(document.importNode(asked, true));
    dialog.showModal();
  }

  // A form without an answer yet is not sent twice.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    for (const button of event.target.querySelectorAll("button:not([name])")) {
      setTimeout(() => { button.disabled = true; }, 0);
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
    if (bulk && bulk.form && bulk.form.method === "get") {
      event.preventDefault();
      const query = new URLSearchParams(new FormData(bulk.form, bulk));
      const url = (bulk.getAttribute("formaction") || bulk.form.action) + "?" + query;
      ask(url).catch(() => { location.href = url; });
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

  // A slash goes to the search.
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = $("[data-search]");
      if (search) {
        event.preventDefault();
        search.focus();
      }
    }
  });

  // Times tell their distance from now.
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function told(element) {
    const away = Math.round((Date.parse(element.dateTime) - Date.now()) / 1000);
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
