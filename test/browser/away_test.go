package browser

import (
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"

	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

// While NATS is away, every open page says so, and a page that is opened then is the same
// error. When NATS is back, all of them go on by themselves.
func TestNATSAway(t *testing.T) {
	full.Only(t)
	t.Parallel()
	store := systemtest.NewStore(t)
	b := open(t, func(cfg *systemtest.Config) { cfg.Connect = store.Connect })
	b.expect("status of 503", "ERR_INCOMPLETE_CHUNKED_ENCODING")
	b.visit("/")
	b.follow("#scenario-happy")
	order := b.path()
	b.until("the order is shipped", `document.querySelector(".state-shipped")`)
	paths := []string{"/", order, order + "/trail", "/services", "/analytics"}
	tabs := map[string]*tab{}
	for _, path := range paths {
		tabs[path] = b.another(path)
		tabs[path].until(path+" is live", `document.getElementById("live").textContent === "live"`)
		eval[bool](tabs[path], "window.stayed = true")
	}
	fresh := b.another("/")
	store.Change(t, func(string) { // while the server is stopped
		for _, path := range paths {
			tabs[path].until(path+" says that it is not live", `document.getElementById("live").textContent === "not live" &&
				document.getElementById("notice").checkVisibility() && document.getElementById("notice").textContent.startsWith("not ready: ")`)
		}
		for _, path := range paths {
			fresh.visit(path)
			fresh.until(path+" is the same error", `document.getElementById("live").textContent === "not live" &&
				document.getElementById("detail").textContent.startsWith("not ready: ")`)
		}
	})
	fresh.until("the page is loaded again", `document.querySelector("#tiles dd")?.textContent === "1"`)
	for _, path := range paths {
		tabs[path].until(path+" is live again", `document.getElementById("live").textContent === "live" && !document.getElementById("notice").checkVisibility()`)
		if !eval[bool](tabs[path], "window.stayed === true") {
			t.Errorf("%s was loaded again", path)
		}
	}
}

// A page that shows the error of a form follows the shop, and keeps what was typed.
func TestFollowsAfterFormError(t *testing.T) {
	full.Only(t)
	t.Parallel()
	b := open(t)
	b.expect("status of 422")
	b.visit("/")
	b.run(chromedp.SetValue(chromedp.CSS("#name"), " "))
	b.follow(".order-form .primary")
	if got := b.path(); got != "/place" || !eval[bool](b, `Boolean(document.getElementById("fault-name"))`) {
		t.Fatalf("the page is %s, without a fault", got)
	}
	b.run(chromedp.SetValue(chromedp.CSS("#address"), "2 Elsewhere Road"))
	b.until("the page is live", `document.getElementById("live").textContent === "live"`)
	answer, err := http.Post(b.shop+"/scenarios/happy", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	b.until("the order is listed and counted", `document.querySelector("#orders-list .state-shipped") && document.querySelector("#counts dd").textContent === "1"`)
	if got := eval[string](b, `document.getElementById("address").value`); got != "2 Elsewhere Road" || !eval[bool](b, `Boolean(document.getElementById("fault-name"))`) {
		t.Errorf("the form has lost what it showed: address %q", got)
	}
	b.visit("/place")
	if got := b.path(); got != "/" {
		t.Errorf("GET /place leads to %s", got)
	}
}
