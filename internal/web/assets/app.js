// The script updates pages live and runs the shop's load button. The server renders
// everything: for an update, the script gets the page again and replaces the regions
// that have changed.

// update gets the page again and replaces its live regions.
let updating = false, again = false;
async function update() {
  if (updating) { again = true; return; }
  updating = true;
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const now = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of document.querySelectorAll("[data-live]")) {
      const next = now.getElementById(region.id);
      if (next && !next.isEqualNode(region)) takeOver(region, next);
    }
    const live = now.getElementById("live");
    refreshEvery(Number(live?.dataset.refresh));
  } catch (e) {
    if (!(e instanceof TypeError)) throw e; // the server is away
  } finally {
    updating = false;
    if (again) { again = false; later(); }
  }
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

// follow updates the page after each event of the feed, and shows the connection state.
const live = document.getElementById("live");
function follow(url) {
  const source = new EventSource(url);
  let first = true;
  source.onopen = () => {
    live.textContent = "live";
    live.classList.remove("lost");
    if (!first) later();
    first = false;
  };
  source.onmessage = later;
  source.onerror = () => {
    live.textContent = "reconnecting";
    live.classList.add("lost");
    // A refusal ends an EventSource for good; a broken connection does not.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 3000, url);
  };
  // A page that is left must not hold one of the browser's few connections.
  addEventListener("pagehide", () => source.close(), { once: true });
  addEventListener("pageshow", e => { if (e.persisted && source.readyState === EventSource.CLOSED) { follow(url); later(); } }, { once: true });
}
if (live?.dataset.feed) follow(live.dataset.feed);
refreshEvery(Number(live?.dataset.refresh));

// The load button: each customer places an order and waits for its end.
const customers = 4; // a browser has six connections to a host, one is the feed's
const load = document.querySelector(".load-form");
if (load) {
  const start = document.getElementById("load-start"), stop = document.getElementById("load-stop");
  const bar = document.getElementById("load-progress"), said = document.getElementById("load-said");
  start.disabled = false;
  load.addEventListener("submit", e => { e.preventDefault(); run(Number(document.getElementById("load-count").value)); });

  async function run(count) {
    const stopping = new AbortController(), signal = stopping.signal;
    stop.onclick = () => stopping.abort();
    start.disabled = stop.hidden = false; start.disabled = true;
    document.getElementById("load-run").hidden = false;
    const times = n => n === 1 ? "once" : `${n} times`;
    const state = { next: 0, ended: {}, failed: 0, comeBacks: 0, unanswered: 0, took: [] }, began = performance.now();
    const show = word => {
      const done = state.took.length + state.failed, seconds = (performance.now() - began) / 1000;
      bar.max = count; bar.value = done;
      const took = state.took.toSorted((a, b) => a - b), parts = [`${done} of ${count} ${word}`];
      for (const [end, n] of Object.entries(state.ended)) parts.push(`${n} ${end}`);
      if (state.failed) parts.push(`${state.failed} failed: ${state.error}`);
      if (took.length) parts.push(`${Math.round(done / seconds)} per second`, `median ${Math.round(took[took.length >> 1])} ms from order to end`);
      if (state.comeBacks) parts.push(`asked to come back later ${times(state.comeBacks)}`);
      if (state.unanswered) parts.push(`no answer ${times(state.unanswered)}`);
      said.textContent = parts.join(", ") + ".";
    };
    const ticking = setInterval(show, 500, "done");
    const customer = async () => {
      while (state.next < count && !signal.aborted) {
        state.next++;
        const from = performance.now();
        try {
          const end = await order(signal, state);
          state.ended[end] = (state.ended[end] || 0) + 1;
          state.took.push(performance.now() - from);
        } catch (e) {
          if (signal.aborted) return;
          state.failed++;
          state.error = e.message;
        }
      }
    };
    await Promise.all(Array.from({ length: customers }, customer));
    clearInterval(ticking);
    show(signal.aborted ? "done, then stopped" : "done");
    start.disabled = false; stop.hidden = true;
  }

  // order places one order, waits for its end and returns it.
  async function order(signal, state) {
    const key = crypto.getRandomValues(new Uint32Array(4)).join("-"); // repeated requests place one order
    const placed = await ask(signal, state, "/orders", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify({
        customer: { name: "Robin Example", email: "robin@example.com" }, items: [{ sku: "TRAIL-MAP", quantity: 1 }],
        payment: { token: "tok_ok" }, shipping: { address: "1 Trailhead Way, 12345 Sampleton" },
      }),
    });
    for (let pause = 10, until = performance.now() + 60_000; performance.now() < until; pause = Math.min(2 * pause, 500)) {
      const now = await ask(signal, state, "/orders/" + placed.id, {});
      if (now.state === "shipped" || now.state === "cancelled") return now.state;
      await sleep(signal, pause);
    }
    throw new Error("not concluded within a minute");
  }

  // ask makes a request, and repeats it while the shop rejects it with a Retry-After or is away.
  async function ask(signal, state, url, request) {
    for (let tries = 0; ; tries++) {
      const answer = await fetch(url, { ...request, signal }).catch(e => {
        if (signal.aborted || tries === 60) throw e;
      });
      if (answer?.ok) return answer.json();
      const after = answer ? Number(answer.headers.get("Retry-After")) : 1;
      if (answer && ((answer.status !== 429 && answer.status !== 503) || !after || tries === 60)) {
        throw new Error((await answer.json().catch(() => ({}))).detail || `the shop answers ${answer.status}`);
      }
      if (answer) state.comeBacks++; else state.unanswered++;
      await sleep(signal, after * 1000);
    }
  }

  function sleep(signal, ms) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
    });
  }
}

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
    copy.removeAttribute("aria-labelledby");
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
    hide(); // also what the focus has shown
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
    kept = "";
    show(id);
    kept = id;
    panel.focus({ preventScroll: true });
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
    kept = "";
    show(id);
    kept = id;
    rowOf(id)?.scrollIntoView({ block: "nearest" });
    panel.focus({ preventScroll: true });
  });
  addEventListener("keydown", e => { if (e.key === "Escape" && !panel.hidden) leave(); });
  waterfall.addEventListener("live", () => { const id = kept || shown; shown = ""; if (id) { show(id); } });
}
