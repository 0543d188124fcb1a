package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/web"
)

func TestMoney(t *testing.T) {
	t.Parallel()
	for amount, want := range map[int64]string{0: "0.00 EUR", 5: "0.05 EUR", 1900: "19.00 EUR", 123456789: "1,234,567.89 EUR", -250: "−2.50 EUR"} {
		if got := web.Money(event.Money{Amount: amount, Currency: "EUR"}); got != want {
			t.Errorf("Money(%d) = %q, want %q", amount, got, want)
		}
	}
}

// Every reason is in words.
func TestReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		event.ReasonCustomer: "customer asked", event.ReasonDeadline: "deadline passed", event.ReasonOutOfStock: "out of stock", "": "",
	} {
		if got := web.Reason(reason); got != want {
			t.Errorf("%s is %q, want %q", reason, got, want)
		}
	}
}

// All that a page loads is small. The pages themselves are weighed where they are
// served.
func TestWeight(t *testing.T) {
	t.Parallel()
	total := 0
	for _, name := range []string{"app.css", "app.js", "favicon.svg"} {
		url, err := web.AssetURL(name)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		web.Assets(w, httptest.NewRequest(http.MethodGet, url, nil))
		total += w.Body.Len()
	}
	if total == 0 || total > 60_000 {
		t.Errorf("the assets have %d bytes, want 1 to 60000", total)
	}
}

// Assets are found by the address that names their content, for ever, and by no
// other.
func TestAssets(t *testing.T) {
	t.Parallel()
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		web.Assets(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	for name, kind := range map[string]string{"app.css": "text/css", "app.js": "text/javascript", "favicon.svg": "image/svg+xml"} {
		url, err := web.AssetURL(name)
		if err != nil {
			t.Fatal(err)
		}
		w := get(url)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || w.Body.Len() == 0 {
			t.Errorf("GET %s: %d %s, %d bytes", url, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		if got := w.Header().Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("GET %s: Cache-Control %q", url, got)
		}
	}
	if _, err := web.AssetURL("nothing.css"); err == nil {
		t.Error("AssetURL of nothing: no error")
	}
	for _, path := range []string{"/assets/", "/assets/app.css", "/assets/000000000000/app.css", "/assets//app.css", "/assets//", "/assets/x/../web.go", "/assets//../../web.go"} {
		if w := get(path); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, w.Code)
		}
	}
}

// Style and script are compressed for clients that accept it.
func TestAssetsAreCompressed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"app.css", "app.js"} {
		url, err := web.AssetURL(name)
		if err != nil {
			t.Fatal(err)
		}
		size := map[string]int{}
		for _, coding := range []string{"", "gzip"} {
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, url, nil)
			r.Header.Set("Accept-Encoding", coding)
			web.Assets(w, r)
			if got := w.Header().Get("Content-Encoding"); got != coding {
				t.Errorf("%s: Content-Encoding %q, want %q", name, got, coding)
			}
			size[coding] = w.Body.Len()
		}
		if size["gzip"] > size[""]/2 {
			t.Errorf("%s has %d bytes, compressed %d, want half at most", name, size[""], size["gzip"])
		}
	}
}

// The text of a request is escaped on a page, and a javascript: URL is no link.
func TestEscapes(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	site := web.Site{Shop: "javascript:alert(1)"}
	if err := site.Problem(w, httptest.NewRequest(http.MethodGet, "/", nil), http.StatusBadRequest, `<script>alert("x")</script>`); err != nil {
		t.Fatal(err)
	}
	body := w.Body.String()
	if strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;") {
		t.Error("the detail is not escaped")
	}
	if strings.Contains(body, `href="javascript:`) {
		t.Error("a link runs a script")
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("Content-Security-Policy = %q", policy)
	}
	if err := site.Write(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil), 200, web.Page{Template: "nothing"}); err == nil {
		t.Error("a page without a template: no error")
	}
}
