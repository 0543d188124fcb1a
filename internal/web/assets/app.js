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
