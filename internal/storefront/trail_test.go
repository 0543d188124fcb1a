package storefront_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// The trail of an order that no service processes has its request, and what is missing.
func TestTrail(t *testing.T) {
	t.Parallel()
	s := open(t)
	order := s.MustPost(t, shoptest.Body(nil)).MustOrder(t)
	path := "/orders/" + order.ID + "/trail"
	var got ordertrail.Trail
	systemtest.Until(t, "the request's span is there", func() bool {
		a := s.MustGet(t, path)
		a.WantStatus(t, http.StatusOK)
		if err := json.Unmarshal(a.Content, &got); err != nil {
			t.Fatal(err)
		}
		return len(got.Lanes) == 1 && len(got.Lanes[0].Spans) == 3
	})
	if got.OrderID != order.ID || got.State != orders.StateCreated || got.Complete || !got.Pending || len(got.Events) != 1 {
		t.Errorf("the trail is %+v", got)
	}
	kinds := map[string]bool{}
	for _, g := range got.Gaps {
		kinds[g.Kind] = g.Pending
	}
	for _, kind := range []string{ordertrail.GapOpen, ordertrail.GapConsumer, ordertrail.GapDeadline} {
		if !kinds[kind] {
			t.Errorf("nothing says that %s is pending: %+v", kind, got.Gaps)
		}
	}
	if len(kinds) != 3 {
		t.Errorf("the gaps are %+v", got.Gaps)
	}
	n := got.Find(trail.Ref{TraceID: order.Events[0].TraceID, SpanID: order.Events[0].SpanID})
	if n == nil || n.Name != "publish orders.created.{order_id}" || n.Kind != "producer" || n.Service != orders.Name || n.Depth != 1 {
		t.Errorf("the span that published the order is %+v", n)
	}

	for _, query := range []string{"?trace=" + n.TraceID, "?span=" + n.SpanID, "?trace=" + n.TraceID + "&span=" + n.SpanID} {
		a := s.MustGet(t, "/trail"+query)
		a.WantStatus(t, http.StatusOK)
		if want := `"orders":[{"id":"` + order.ID + `","trail":"` + path + `"}]`; !strings.Contains(string(a.Content), want) || !strings.Contains(string(a.Content), n.TraceID) {
			t.Errorf("GET /trail%s: %s, want %s", query, a.Content, want)
		}
		s.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		page := MustVisit(t, s, "/trail"+query)
		page.WantStatus(t, http.StatusSeeOther)
		want := path
		if strings.Contains(query, "span=") {
			want += "#span-" + n.SpanID
		}
		if got := page.Header.Get("Location"); got != want {
			t.Errorf("GET /trail%s leads a browser to %q, want %q", query, got, want)
		}
	}

	a := s.MustGet(t, "/services")
	a.WantStatus(t, http.StatusOK)
	var m trail.ServiceMap
	if err := json.Unmarshal(a.Content, &m); err != nil || len(m.Services) != 1 || m.Services[0].Name != orders.Name {
		t.Errorf("the service map is %s: %v", a.Content, err)
	}
}

// The form of the answer is chosen by Accept.
func TestTrailForms(t *testing.T) {
	t.Parallel()
	s := open(t)
	path := "/orders/" + s.MustPost(t, shoptest.Body(nil)).MustOrder(t).ID + "/trail"
	for _, tt := range []struct{ accept, want string }{
		{"", "application/json"},
		{"*/*", "application/json"},
		{"application/*", "application/json"},
		{"application/json", "application/json"},
		{"text/plain", "text/plain; charset=utf-8"},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"}, // a browser's
		{"text/html;q=0.5, application/json;q=0.6", "application/json"},
		{"text/html;q=0.7, application/json;q=0.6", "text/html; charset=utf-8"},
		{"*/*, application/json;q=0", "text/html; charset=utf-8"},
		{"text/*, text/html;q=0", "text/plain; charset=utf-8"},
		{"image/png", "application/problem+json"},
		{"application/json;q=0", "application/problem+json"},
		{"application/json;q=2, ;;;, text/plain", "text/plain; charset=utf-8"},
	} {
		a := s.MustDo(t, http.MethodGet, path, "", http.Header{"Accept": {tt.accept}})
		want := http.StatusOK
		if tt.want == "application/problem+json" {
			want = http.StatusNotAcceptable
		}
		a.WantStatus(t, want)
		if got := a.Header.Get("Content-Type"); got != tt.want {
			t.Errorf("Accept %q: %s, want %s", tt.accept, got, tt.want)
		}
		if got := a.Header.Get("Vary"); got != "Accept" {
			t.Errorf("Accept %q: Vary is %q", tt.accept, got)
		}
	}
}

// A trail drawn by parents alone is one trace, and counts the causes that it loses.
func TestTrailOfParents(t *testing.T) {
	t.Parallel()
	s := everything(t)
	path := "/orders/" + s.MustPost(t, shoptest.Body(nil)).MustOrder(t).ID + "/trail"
	var alone ordertrail.Trail
	systemtest.Until(t, "the trail drawn by parents alone is one trace", func() bool {
		if err := json.Unmarshal(s.MustGet(t, path+"?view=parents").Content, &alone); err != nil {
			t.Fatal(err)
		}
		return len(alone.Lanes) == 1 && alone.Lost > 0
	})
	if text := s.MustDo(t, http.MethodGet, path+"?view=parents", "", http.Header{"Accept": {"text/plain"}}).Content; !bytes.Contains(text, []byte("lost: ⇠ ")) {
		t.Errorf("%s", text)
	}
}

// Wrong requests get the status that fits, and the fault.
func TestTrailProblems(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, tt := range []struct {
		path   string
		status int
		detail string
	}{
		{"/orders/" + shoptest.Unknown + "/trail", http.StatusNotFound, "there is no such order"},
		{"/orders/x/trail", http.StatusBadRequest, `"x" is not an order id`},
		{"/orders/" + strings.ToUpper(event.NewOrderID()) + "/trail", http.StatusBadRequest, "in lower case"},
		{"/orders/" + strings.Repeat("a", 5000) + "/trail", http.StatusBadRequest, "is not an order id"},
		{"/orders/" + shoptest.Unknown + "/trail?view=nonsense", http.StatusBadRequest, "views: links, parents"},
		{"/trail", http.StatusBadRequest, "?trace="},
		{"/trail?trace=", http.StatusBadRequest, "?trace="},
		{"/trail?trace=abc", http.StatusBadRequest, "32 hex digits"},
		{"/trail?trace=" + strings.Repeat("A", 32), http.StatusBadRequest, "lower case"},
		{"/trail?span=" + strings.Repeat("a", 32), http.StatusBadRequest, "16 hex digits"},
		{"/trail?trace=" + strings.Repeat("a", 32), http.StatusNotFound, "no span of it is known"},
		{"/trail?span=" + strings.Repeat("a", 16), http.StatusNotFound, "no span of it is known"},
	} {
		s.MustGet(t, tt.path).WantProblem(t, tt.status, tt.detail)
	}
}

// A known span of no order is not the same as an unknown span.
func TestTrailOfNoOrder(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, span := s.Runtime.Tracer.Start(context.Background(), "something")
	span.End()
	path := "/trail?trace=" + span.SpanContext().TraceID().String()
	s.MustGet(t, path).WantProblem(t, http.StatusNotFound, "belongs to no order")
}

// A span without an order's id that links a span of the order belongs to its trail.
func TestTrailOfLinkedSpan(t *testing.T) {
	t.Parallel()
	s := open(t)
	order := s.MustPost(t, shoptest.Body(nil)).MustOrder(t)
	traceID, err := oteltrace.TraceIDFromHex(order.Events[0].TraceID)
	if err != nil {
		t.Fatal(err)
	}
	spanID, err := oteltrace.SpanIDFromHex(order.Events[0].SpanID)
	if err != nil {
		t.Fatal(err)
	}
	_, span := s.Runtime.Tracer.Start(context.Background(), "audit", oteltrace.WithNewRoot(), oteltrace.WithLinks(oteltrace.Link{
		SpanContext: oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: traceID, SpanID: spanID})}))
	span.End()
	for _, query := range []string{"?trace=" + span.SpanContext().TraceID().String(), "?span=" + span.SpanContext().SpanID().String()} {
		a := s.MustGet(t, "/trail"+query)
		a.WantStatus(t, http.StatusOK)
		if !strings.Contains(string(a.Content), order.ID) {
			t.Errorf("GET /trail%s: %s", query, a.Content)
		}
	}
	a := s.MustGet(t, "/orders/"+order.ID+"/trail")
	if a.WantStatus(t, http.StatusOK); !strings.Contains(string(a.Content), span.SpanContext().SpanID().String()) {
		t.Error("the order's trail does not have the linked span")
	}
}

// A shop without a source of traces answers how to set one; the rest of it works.
func TestTrailWithoutTraces(t *testing.T) {
	t.Parallel()
	s := openTraced(t, nil)
	order := s.MustPost(t, shoptest.Body(nil)).MustOrder(t)
	for _, path := range []string{"/orders/" + order.ID + "/trail", "/trail?trace=" + strings.Repeat("a", 32), "/services"} {
		s.MustGet(t, path).WantProblem(t, http.StatusNotImplemented, "JAEGER_URL")
	}
}

// While Jaeger is away, broken, slow or hostile, requests for trails fail in time, and
// the shop takes orders.
func TestTrailWithoutJaeger(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for name, tt := range map[string]struct {
		jaeger http.HandlerFunc // nil: its address refuses connections
		status int
		detail string
	}{
		"away":         {nil, http.StatusBadGateway, "JAEGER_URL"},
		"slow":         {func(_ http.ResponseWriter, r *http.Request) { wait(r.Context(), hang) }, http.StatusGatewayTimeout, "within 300ms"},
		"broken":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, http.StatusBadGateway, "JAEGER_URL"},
		"no API there": {http.NotFound, http.StatusBadGateway, "JAEGER_URL"},
		"not JSON":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, http.StatusBadGateway, "JAEGER_URL"},
		"a login": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/login", http.StatusFound)
		}, http.StatusBadGateway, "JAEGER_URL"},
		"slow to say all": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"result":{"resourceSpans":[`)
			w.(http.Flusher).Flush()
			wait(r.Context(), hang)
		}, http.StatusGatewayTimeout, "within 300ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := &url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("user", "secret")}
			if tt.jaeger != nil {
				server := httptest.NewServer(tt.jaeger)
				t.Cleanup(server.Close)
				at.Host = server.Listener.Addr().String()
			}
			s := shoptest.Open(t, systemtest.Server(t).Connect, storefront.Wire(trail.NewJaeger(at), 300*time.Millisecond, time.Now))
			order := s.MustPost(t, shoptest.Body(nil)).MustOrder(t)
			path := "/orders/" + order.ID + "/trail"
			asked := make(chan shoptest.Answer, 1)
			go func() {
				a, _ := s.Do(http.MethodGet, path, "", nil)
				asked <- a
			}()
			s.MustPost(t, shoptest.Body(nil)).WantStatus(t, http.StatusAccepted)
			a := <-asked
			if a.Response == nil {
				t.Fatal("no answer")
			}
			a.WantProblem(t, tt.status, tt.detail)
			if strings.Contains(string(a.Content), "secret") {
				t.Errorf("the answer has a secret: %s", a.Content)
			}
			if a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}

// wait is until ctx or the test ends.
func wait(ctx context.Context, done <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-done:
	}
}

// Jaeger finds no span by its id alone, and the answer explains this. A Jaeger that has no trace
// of an order is no error.
func TestTrailOfEmptyJaeger(t *testing.T) {
	t.Parallel()
	asked := make(chan url.Values, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Query()
		http.Error(w, `{"error":{"httpCode":404,"message":"No traces found"}}`, http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := openTraced(t, trail.NewJaeger(at))
	order := s.MustPost(t, shoptest.Body(nil)).MustOrder(t)
	a := s.MustGet(t, "/orders/"+order.ID+"/trail")
	a.WantStatus(t, http.StatusOK)
	var got ordertrail.Trail
	if err := json.Unmarshal(a.Content, &got); err != nil {
		t.Fatal(err)
	}
	if got.State != orders.StateCreated || got.Complete || len(got.Lanes) != 0 {
		t.Errorf("the trail is %s", a.Content)
	}
	query := <-asked
	from, err := time.Parse(time.RFC3339Nano, query.Get("query.startTimeMin"))
	if err != nil || time.Since(from) > time.Hour || query.Get("query.attributes") != `{"order.id":"`+order.ID+`"}` || query.Get("query.searchDepth") == "" {
		t.Errorf("Jaeger was asked for %v", query)
	}
	s.MustGet(t, "/trail?span="+strings.Repeat("a", 16)).WantProblem(t, http.StatusNotImplemented, "32 digits (?trace=", "trace_id")
	s.MustGet(t, "/trail?trace="+strings.Repeat("a", 32)).WantProblem(t, http.StatusNotFound, "no span of it is known")
	s.MustGet(t, "/orders/"+shoptest.Unknown+"/trail").WantProblem(t, http.StatusNotFound, "no such order")
}
