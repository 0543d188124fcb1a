// The script updates pages live. The server renders everything: for an update, the script
// gets the page again and replaces the regions that have changed. An element #live has the
// settings, data-*: the feed, the last event that the page shows (seen), an interval in
// milliseconds (refresh), and the page's path if it is not the address (self).

const live = document.getElementById("live"), notice = document.createElement("p");
Object.assign(notice, { id: "notice", className: "notice", role: "status", hidden: true });
document.querySelector("main")?.prepend(notice);
const self = live?.dataset.self || location.pathname + location.search;

// update gets the page again and replaces its live regions.
let updating = false, again = false;
async function update() {
  if (updating) { again = true; return; }
  updating = true;
  try {
    const answer = await fetch(self, { headers: { Accept: "text/html" } });
    const now = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) {
      lost(now.getElementById("detail")?.textContent || `The server answers ${answer.status}.`);
      return;
    }
    if (document.getElementById("detail")) { location.reload(); return; } // the page of an error
    for (const region of document.querySelectorAll("[data-live]")) {
      const next = now.getElementById(region.id);
      if (next && !next.isEqualNode(region)) takeOver(region, next);
    }
    Object.assign(live.dataset, now.getElementById("live")?.dataset);
    notice.hidden = true;
    if (source ? source.readyState === EventSource.OPEN : live.dataset.refresh > 0) say("live");
    refreshEvery(Number(live.dataset.refresh));
  } catch (e) {
    if (!(e instanceof TypeError)) throw e;
    lost("The server does not answer.");
  } finally {
    updating = false;
    if (again) { again = false; later(); }
  }
}

// lost shows why the page cannot be updated, and tries again until it can.
function lost(reason) {
  const detail = document.getElementById("detail");
  if (detail) detail.textContent = reason;
  else notice.textContent = `${reason.replace(/\.?$/, ".")} This page shows an older state, and continues by itself.`;
  notice.hidden = Boolean(detail);
  say("not live");
  refreshEvery(2000);
}

// say shows whether the page is up to date.
function say(state) {
  live.textContent = state;
  live.classList.toggle("lost", state !== "live");
}

// takeOver replaces the content of a region and keeps the keyboard's focus. In a keyed
// region it compares children by their ids and replaces only those that differ.
function takeOver(region, next) {
  const focus = document.activeElement, id = region.contains(focus) ? focus.id || focus.getAttribute("href") : "";
  if (region.dataset.live !== "keyed") {
    region.replaceChildren(...next.childNodes);
    for (const name of next.getAttributeNames()) region.setAttribute(name, next.getAttribute(name));
  } else {
    const old = new Map([...region.children].map(c => [c.id, c]));
    let at = region.firstElementChild;
    for (const child of [...next.children]) {
      const before = old.get(child.id);
      old.delete(child.id);
      if (before && before.isEqualNode(child)) {
        if (before === at) at = at.nextElementSibling; else region.insertBefore(before, at);
      } else if (before) {
        if (before === at) at = at.nextElementSibling;
        before.replaceWith(child);
      } else {
        child.classList.add("arrived");
        child.addEventListener("animationend", () => child.classList.remove("arrived"), { once: true });
        region.insertBefore(child, at);
      }
    }
    for (const gone of old.values()) gone.remove();
  }
  if (id && !region.contains(document.activeElement)) {
    (document.getElementById(id) || region.querySelector(`[href="${CSS.escape(id)}"]`))?.focus({ preventScroll: true });
  }
  region.dispatchEvent(new CustomEvent("live", { bubbles: true }));
}

// later updates soon, but not more often than four times a second.
let timer = 0, last = 0;
function later() {
  if (timer) return;
  timer = setTimeout(() => { timer = 0; last = performance.now(); update(); }, Math.max(0, last + 250 - performance.now()));
}

let interval = 0;
function refreshEvery(ms) {
  clearInterval(interval);
  if (ms > 0) interval = setInterval(() => { if (!document.hidden) update(); }, ms);
}

// follow updates the page after each event of its feed.
let source;
function follow() {
  const mine = source = new EventSource(live.dataset.feed);
  let first = true;
  mine.onopen = () => {
    say("live");
    if (!first || !notice.hidden) later();
    first = false;
  };
  mine.onmessage = e => { if (!(Number(e.lastEventId) <= Number(live.dataset.seen))) later(); };
  mine.onerror = () => {
    say("not live");
    later(); // shows the reason
    // A refusal ends an EventSource for good; a broken connection does not.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => { if (source === mine) follow(); }, 2000);
  };
}

// A page that is left, or hidden, must not hold one of the browser's few connections.
function leave() { source?.close(); source = undefined; }
function comeBack() { if (live?.dataset.feed && !source && !document.hidden) { follow(); later(); } }
addEventListener("pagehide", leave);
addEventListener("pageshow", e => { if (e.persisted) comeBack(); });
document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else comeBack(); });
if (live?.dataset.feed && !document.hidden) follow();
refreshEvery(Number(live?.dataset.refresh));

// The waterfall: hovering or focusing a row shows its span and links; a click, or
// Enter, keeps them shown.
document.documentElement.classList.add("js");
const waterfall = document.getElementById("waterfall");
if (waterfall) {
  const panel = document.createElement("aside");
  panel.className = "panel";
  panel.hidden = true;
  panel.tabIndex = -1;
  panel.id = "panel";
  panel.setAttribute("aria-label", "Span in focus");
  document.body.append(panel);
  let kept = "", shown = "";

  const rowOf = id => document.getElementById("row-" + id);

  function show(id) {
    const article = document.getElementById("span-" + id);
    if (!article || id === shown) return;
    hide();
    shown = id;
    const copy = article.cloneNode(true);
    for (const e of [copy, ...copy.querySelectorAll("[id]")]) e.removeAttribute("id");
    for (const d of copy.querySelectorAll("details")) d.open = true;
    copy.removeAttribute("tabindex");
    const close = document.createElement("button");
    close.className = "button close";
    close.textContent = "Close";
    close.onclick = leave;
    const inner = document.createElement("div");
    inner.className = "inner";
    inner.append(close, copy);
    panel.replaceChildren(inner);
    panel.scrollTop = 0;
    panel.hidden = false;
    document.body.classList.add("has-panel");
    waterfall.classList.add("chosen");
    rowOf(id)?.classList.add("on");
    waterfall.querySelector(`[data-bar="${id}"]`)?.classList.add("on");
    for (const a of waterfall.querySelectorAll(`.arrow[data-from="${id}"], .arrow[data-to="${id}"]`)) {
      a.classList.add("on");
      waterfall.querySelector(`[data-bar="${a.dataset.from === id ? a.dataset.to : a.dataset.from}"]`)?.classList.add("near");
    }
  }

  function hide() {
    for (const e of waterfall.querySelectorAll(".on, .near")) e.classList.remove("on", "near");
    waterfall.classList.remove("chosen");
    panel.hidden = true;
    document.body.classList.remove("has-panel");
    shown = "";
  }

  function leave() {
    const row = rowOf(kept || shown);
    kept = "";
    hide();
    row?.focus({ preventScroll: true });
    hide(); // the focus has shown the row again
  }

  // keep shows a span until another one is chosen, and gives the page its address.
  function keep(id) {
    kept = "";
    show(id);
    kept = id;
    history.replaceState(null, "", "#span-" + id);
    panel.focus({ preventScroll: true });
  }

  const spanAt = target => target.closest?.("[data-span]")?.dataset.span || target.closest?.("[data-bar]")?.dataset.bar;
  let hovering = 0;
  waterfall.addEventListener("pointerover", e => {
    clearTimeout(hovering);
    const id = spanAt(e.target);
    if (id && !kept && e.pointerType === "mouse") hovering = setTimeout(show, 80, id);
  });
  waterfall.addEventListener("focusin", e => { const id = spanAt(e.target); if (id && e.target.matches(":focus-visible")) { kept = ""; show(id); } });
  waterfall.addEventListener("click", e => {
    const id = spanAt(e.target);
    if (!id) return;
    e.preventDefault();
    keep(id);
  });
  waterfall.addEventListener("keydown", e => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (!step) return;
    const rows = [...waterfall.querySelectorAll("[data-span]")], at = rows.indexOf(document.activeElement);
    if (at >= 0 && rows[at + step]) { e.preventDefault(); rows[at + step].focus(); }
  });
  // A tie's other end is shown in the panel too.
  panel.addEventListener("click", e => {
    const id = e.target.closest("a[href^='#span-']")?.getAttribute("href").slice(6);
    if (!id) return;
    e.preventDefault();
    keep(id);
    rowOf(id)?.scrollIntoView({ block: "nearest" });
  });
  addEventListener("keydown", e => { if (e.key === "Escape" && !panel.hidden) leave(); });
  // The page of a span's address shows it, after the browser has scrolled to it below.
  const addressed = location.hash.match(/^#span-([0-9a-f]{16})$/)?.[1];
  if (addressed) addEventListener("load", () => { keep(addressed); rowOf(addressed)?.scrollIntoView({ block: "center" }); });
  waterfall.addEventListener("live", () => { const id = kept || shown; shown = ""; if (id) { show(id); } });
}
