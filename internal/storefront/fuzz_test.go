package storefront_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/test/shoptest"
)

// FuzzPages sends requests to the pages and forms. Each has an answer, which is no fault of
// the shop's.
func FuzzPages(f *testing.F) {
	const html, form = "text/html", "application/x-www-form-urlencoded"
	for _, target := range []string{
		"/ page=2", "/ page=-1", "/ page=99999999999999999999", "/events ", "/services ", "/search id=%20X%00", "/search id=" + shoptest.Unknown,
		"/trail trace=4bf92f3577b34da6a3ce929d0e0e4736", "/trail span=00f067aa0ba902b7", "/trail span=x&trace=y", "/orders/" + shoptest.Unknown + "/trail view=parents",
		"/orders/" + event.NewOrderID() + "/events ", "/orders/%2f ", "/catalog ", "/place ", "/assets/app.css ", "/healthz ",
	} {
		path, query, _ := strings.Cut(target, " ")
		f.Add(http.MethodGet, path, query, html, "7", "127.0.0.1", "", "")
		f.Add(http.MethodGet, path, query, "text/*;q=0.5, application/json;q=x, */*;q=1e9", "-1", "[::1%25lo]:80:80", "", "")
	}
	f.Add(http.MethodPost, "/place", "", html, "", "localhost", form, "name=Robin&email=r%40example.com&address=1+Way&token=tok_ok&quantity.TRAIL-MAP=1")
	f.Add(http.MethodPost, "/place", "", html, "", "localhost", form, "quantity.TRAIL-MAP=99999999999999999999&%zz")
	f.Add(http.MethodPost, "/scenarios/nothing", "", "", "", "localhost", form, "")
	f.Add(http.MethodPost, "/orders/"+shoptest.Unknown+"/cancel", "", html, "", "evil.example", "multipart/form-data; boundary=x", "--x\r\n")
	s := open(f)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

	f.Fuzz(func(t *testing.T, method, path, query, accept, last, host, contentType, body string) {
		if !strings.HasPrefix(path, "/") {
			t.Skip("not a path")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, s.URL, strings.NewReader(body))
		if err != nil {
			t.Skip(err)
		}
		r.URL.Path, r.URL.RawQuery, r.Host = path, query, host
		for name, value := range map[string]string{"Accept": accept, "Last-Event-ID": last, "Content-Type": contentType} {
			r.Header.Set(name, value)
		}
		a, err := client.Do(r)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, context.DeadlineExceeded):
			t.Fatalf("%s %q?%q has no answer: %v", method, path, query, err)
		case err != nil:
			t.Skip(err) // the client refuses to send this
		}
		defer func() { _ = a.Body.Close() }()
		if a.StatusCode >= http.StatusInternalServerError && a.StatusCode != http.StatusServiceUnavailable && a.StatusCode != http.StatusNotImplemented {
			text, _ := io.ReadAll(io.LimitReader(a.Body, 1000))
			t.Errorf("%s %q?%q: %s: %s", method, path, query, a.Status, text)
		}
	})
}
