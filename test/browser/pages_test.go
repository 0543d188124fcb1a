package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// Every scenario's button leads to its expected end, which the order's page shows
// as it happens, and from there to the order's trail.
func TestScenarios(t *testing.T) {
	t.Parallel()
	b := open(t, func(cfg *systemtest.Config) {
		cfg.Settings.JaegerUIURL = &url.URL{Scheme: "http", Host: "127.0.0.1:16686"}
	})
	shop := demo.Shop{URL: b.shop, Client: http.DefaultClient}
	ids := map[string]string{}
	for _, sc := range demo.Scenarios() {
		b.visit("/")
		b.follow("#scenario-" + sc.Name)
		id := strings.TrimPrefix(b.path(), "/orders/")
		ids[sc.Name] = id
		eval[bool](b, "window.stayed = true")
		b.until(sc.Name+"'s page shows the end, and every event", fmt.Sprintf(
			`document.querySelector(".state-%s") && document.querySelectorAll("#timeline li").length === %d`, sc.Want.State, len(sc.Want.Events)))
		if !eval[bool](b, "window.stayed === true") {
			t.Errorf("%s: the page was loaded again; it must follow the events by itself", sc.Name)
		}
		order, err := shop.Get(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := sc.Want.Check(order); err != nil {
			t.Errorf("%s: %v", sc.Name, err)
		}
		mails := 0
		for _, e := range sc.Want.Events {
			if e.Domain() == "notify" {
				mails++
			}
		}
		if got := eval[int](b, `document.querySelectorAll("#mails pre").length`); got != mails {
			t.Errorf("%s: the page shows %d mails, want %d", sc.Name, got, mails)
		}
		if eval[bool](b, `Boolean(document.getElementById("cancel"))`) {
			t.Errorf("%s: the page offers to cancel a concluded order", sc.Name)
		}
	}
	// Later, when the trails wait for no more events.
	for _, sc := range demo.Scenarios() {
		b.visit("/orders/" + ids[sc.Name])
		b.follow("#head .primary")
		if got, want := b.path(), "/orders/"+ids[sc.Name]+"/trail"; got != want {
			t.Fatalf("the trail is at %s, want %s", got, want)
		}
		b.until("the trail is complete", `!document.querySelector(".gaps.pending")`)
		b.checkTrail(ids[sc.Name], sc)
	}
}

// checkTrail compares the page of an order's trail with its JSON.
func (b *tab) checkTrail(id string, sc demo.Scenario) {
	b.t.Helper()
	t := b.t
	r, err := http.Get(b.shop + "/orders/" + id + "/trail")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var want ordertrail.Trail
	if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
		t.Fatal(err)
	}
	if !want.Complete {
		t.Errorf("the trail is not complete: %+v", want.Gaps)
	}
	spans, arrows, failed := 0, 0, 0
	for _, l := range want.Lanes {
		for _, n := range l.Spans {
			spans++
			if n.ErrorType != "" {
				failed++
			}
		}
	}
	for _, e := range want.Edges {
		if e.Kind != trail.EdgeParent {
			arrows++
		}
	}
	for what, want := range map[string]int{"[data-bar]": spans, "[data-span]": spans, ".wf-lane": len(want.Lanes), ".arrow[data-from]": arrows, ".bar.failed[data-bar]": failed} {
		if got := eval[int](b, fmt.Sprintf("document.querySelectorAll(`#waterfall %s`).length", what)); got != want {
			t.Errorf("the page has %d of %s, want %d", got, what, want)
		}
	}
	if sc.Name == "flaky" || sc.Name == "poison" {
		if eval[int](b, `document.querySelectorAll(".arrow.retry[data-from]").length`) < 2 {
			t.Error("the deliveries are not tied to each other")
		}
	}
	if sc.Want.Refunded && !eval[bool](b, `Boolean(document.querySelector(".bar.undo[data-bar]"))`) {
		t.Error("nothing is marked as undone")
	}
	// No bar is outside of the picture, or empty.
	if out := eval[[]string](b, `[...document.querySelectorAll("[data-bar]")].filter(e => {
		const b = e.getBoundingClientRect(), p = document.querySelector(".wf-plot").getBoundingClientRect();
		return b.left < p.left - 2 || b.right > p.right + 2 || b.bottom > p.bottom + 2 || b.height < 5 || b.width < 0;
	}).map(e => e.dataset.bar)`); len(out) > 0 {
		t.Errorf("bars outside of the picture: %v", out)
	}
	// A row and its bar have the same height on the page.
	if off := eval[[]string](b, `[...document.querySelectorAll("[data-span]")].filter(e => {
		const r = e.getBoundingClientRect(), b = document.querySelector("[data-bar='" + e.dataset.span + "']").getBoundingClientRect();
		return Math.abs((r.top + r.bottom) / 2 - (b.top + b.bottom) / 2) > 3;
	}).map(e => e.textContent)`); len(off) > 0 {
		t.Errorf("rows that are not beside their bars: %q", off)
	}
}

// The trail works with the keyboard alone: the arrow keys move through the rows, each row
// shows its attributes and links, Enter moves to them, and Escape returns.
func TestKeyboard(t *testing.T) {
	full.Only(t)
	t.Parallel()
	b := open(t, func(cfg *systemtest.Config) {
		cfg.Settings.JaegerUIURL = &url.URL{Scheme: "http", Host: "127.0.0.1:16686"}
	})
	b.visit("/")
	b.run(chromedp.KeyEvent(kb.Tab))
	if got := eval[string](b, "document.activeElement.textContent"); got != "Skip to content" {
		t.Errorf("Tab leads to %q first", got)
	}
	b.follow("#scenario-happy")
	b.until("the order is shipped", `document.querySelector(".state-shipped")`)
	b.follow("#head .primary")
	b.until("the fan-in is there", `[...document.querySelectorAll("[data-span]")].some(e => e.textContent.includes("fulfill order"))`)
	b.run(chromedp.Focus(chromedp.CSS(".wf-row a")), chromedp.KeyEvent(kb.ArrowDown))
	if eval[string](b, `document.activeElement.dataset.span`) != eval[string](b, `document.querySelectorAll("[data-span]")[1].dataset.span`) {
		t.Error("ArrowDown does not lead to the second row")
	}
	for range 60 {
		if eval[bool](b, `document.activeElement.textContent.includes("fulfill order")`) {
			break
		}
		b.run(chromedp.KeyEvent(kb.ArrowDown))
	}
	b.until("the panel shows the span", `!document.getElementById("panel").hidden`)
	panel := eval[string](b, `document.getElementById("panel").innerText`)
	for _, want := range []string{"fulfillment: fulfill order", "fulfillment.trigger_count", "order.id", "payment confirmation", "inventory reservation", "Open in Jaeger"} {
		if !strings.Contains(panel, want) {
			t.Errorf("the panel does not show %q: %s", want, panel)
		}
	}
	if got := eval[int](b, `document.querySelectorAll(".arrow.on").length`); got != 2 {
		t.Errorf("%d arrows are marked, want the two that lead here", got)
	}
	outline := eval[string](b, `getComputedStyle(document.activeElement).outlineStyle + " " + getComputedStyle(document.activeElement).outlineWidth`)
	if outline != "solid 2px" {
		t.Errorf("the focus is shown with outline %q", outline)
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	if got := eval[string](b, "document.activeElement.id"); got != "panel" {
		t.Errorf("Enter leads to %q, want the panel", got)
	}
	b.run(chromedp.KeyEvent(kb.Escape))
	if !eval[bool](b, `document.getElementById("panel").hidden && document.activeElement.textContent.includes("fulfill order")`) {
		t.Error("Escape does not lead back to the row")
	}
	// A click does the same.
	b.run(chromedp.ScrollIntoView(chromedp.CSS("[data-span]")), chromedp.Click(chromedp.CSS("[data-span]")))
	b.until("the panel shows what was clicked on", `document.getElementById("panel").innerText.includes("orders: ")`)
}

// The load button places orders, shows the progress, and can be stopped.
func TestLoad(t *testing.T) {
	full.Only(t)
	t.Parallel()
	b := open(t)
	b.visit("/")
	b.run(chromedp.SetValue(chromedp.CSS("#load-count"), "100"), chromedp.Click(chromedp.CSS("#load-start")))
	b.until("all orders are done", `document.getElementById("load-said").textContent.startsWith("100 of 100 done, 100 shipped")`)
	if !eval[bool](b, `document.getElementById("load-progress").value === 100 && document.getElementById("load-progress").max === 100`) {
		t.Error("the progress bar is not full")
	}
	b.until("the page has counted them", `document.querySelector("#counts dd").textContent === "100"`)
	if got := eval[int](b, `document.querySelectorAll("#orders-list article").length`); got != 20 {
		t.Errorf("%d orders are listed, want the 20 newest", got)
	}
	b.run(chromedp.SetValue(chromedp.CSS("#load-count"), "2000"), chromedp.Click(chromedp.CSS("#load-start")))
	b.until("some orders are done", `parseInt(document.getElementById("load-said").textContent) > 0`)
	b.run(chromedp.Click(chromedp.CSS("#load-stop")))
	b.until("the load is stopped", `document.getElementById("load-said").textContent.includes("then stopped")`)
	if eval[bool](b, `document.getElementById("load-start").disabled`) {
		t.Error("the load cannot be started again")
	}
}

// On a phone no page is wider than the screen, in light and dark colours.
func TestPhone(t *testing.T) {
	full.Only(t)
	t.Parallel()
	b := open(t)
	b.visit("/")
	b.follow("#scenario-undeliverable")
	order := b.path()
	b.until("the order is cancelled", `document.querySelector(".state-cancelled")`)
	b.visit(order + "/trail")
	b.until("the trail is there", `document.querySelectorAll("[data-span]").length > 30`)
	for _, scheme := range []string{"light", "dark"} {
		b.colours(scheme)
		b.run(chromedp.EmulateViewport(360, 740))
		for _, path := range []string{"/", order, order + "/trail", "/services", "/analytics"} {
			b.visit(path)
			if width := eval[int](b, "document.documentElement.scrollWidth"); width > 360 {
				t.Errorf("%s is %d pixels wide on a phone of 360, %s", path, width, scheme)
			}
			if small := eval[[]string](b, `[...document.querySelectorAll("main a, main button, main input, main select, main summary")]
				.filter(e => !e.closest("p, td, .ties, .skip") && e.checkVisibility() && e.getBoundingClientRect().height < 24).map(e => e.outerHTML)`); len(small) > 0 {
				t.Errorf("%s: too small for a thumb: %q", path, small)
			}
			if nameless := eval[[]string](b, `[...document.querySelectorAll("a, button, input:not([type=hidden]), select, summary")]
				.filter(e => !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length)).map(e => e.outerHTML)`); len(nameless) > 0 {
				t.Errorf("%s: no name for a screen reader: %q", path, nameless)
			}
			if got := eval[string](b, `["main", "header", "nav", "footer", "h1"].filter(e => document.querySelectorAll(e === "header" ? "body > header" : e === "nav" ? "body > header nav" : e).length !== 1).join()`); got != "" {
				t.Errorf("%s: not exactly one of %s", path, got)
			}
			dark := eval[string](b, `getComputedStyle(document.body).backgroundColor`) == "rgb(16, 21, 19)"
			if dark != (scheme == "dark") {
				t.Errorf("%s does not keep to the reader's colours: %s", path, scheme)
			}
		}
	}
}

// Without JavaScript a page shows everything, and its forms work.
func TestWithoutScript(t *testing.T) {
	full.Only(t)
	t.Parallel()
	b := open(t)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit("/")
	b.run(chromedp.SetValue(chromedp.CSS("#quantity-THERMOS"), "3"))
	b.follow(".order-form .primary")
	id := strings.TrimPrefix(b.path(), "/orders/")
	shop := demo.Shop{URL: b.shop, Client: http.DefaultClient}
	order, err := shop.Await(b, id, func(o orders.Order) bool { return o.State == orders.StateShipped })
	if err != nil || len(order.Items) != 3 || order.Items[2].Quantity != 3 {
		t.Fatalf("the order is %+v, %v: want a map, a compass and three flasks", order.Items, err)
	}
	b.visit("/orders/" + id)
	text := get(b, chromedp.Text(chromedp.CSS("main")))
	if !strings.Contains(text, "The parcel is on its way") || !strings.Contains(text, "THERMOS") {
		t.Errorf("the order's page shows %q", text)
	}
	b.follow("#head .primary")
	text = get(b, chromedp.Text(chromedp.CSS("main")))
	if !strings.Contains(text, "publish orders.created.{order_id}") || !strings.Contains(text, "triggered by") {
		t.Errorf("the trail's page shows %q", text)
	}
}
