package trail_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/trail"
)

// recorded serves what a real Jaeger has answered: about one order, its traces, and
// what does not exist. TestTrailFromJaeger, of package system, records it.
func recorded(t *testing.T, order string) *trail.Jaeger {
	t.Helper()
	return jaeger(t, func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		file := "notrace"
		switch attributes := query.Get("query.attributes"); {
		case r.URL.Path != "/api/v3/traces":
			if text := saved(t, "trace"); strings.Contains(text, strings.TrimPrefix(r.URL.Path, "/api/v3/traces/")) {
				file = "trace"
			}
		case query.Get("query.startTimeMin") == "" || query.Get("query.startTimeMax") == "":
			http.Error(w, "start and end are mandatory", http.StatusBadRequest)
			return
		case attributes == `{"order.id":"`+order+`"}`:
			file = "order"
		default:
			file = "nothing"
		}
		replay(t, w, file)
	})
}

func replay(t *testing.T, w http.ResponseWriter, file string) {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(saved(t, file))), nil)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}

func saved(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "jaeger", file+".http"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func jaeger(t *testing.T, h http.HandlerFunc) *trail.Jaeger {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return trail.NewJaeger(at)
}

// fromStore is the trail that the store gave of the recorded order.
func fromStore(t *testing.T) (want trail.Trail, order trail.Order) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "jaeger", "trail.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Lanes) < 10 {
		t.Fatalf("the recorded trail has %d traces", len(want.Lanes))
	}
	return want, trail.Order{ID: want.OrderID, State: want.State, Reason: want.Reason, Refunded: want.Refunded, Events: want.Events, Now: want.End.Add(time.Hour)}
}

// Jaeger gives the trail that the store in the process gave: the same spans, edges,
// times and attributes.
func TestJaegerGivesTheSameTrail(t *testing.T) {
	want, order := fromStore(t)
	found, err := recorded(t, order.ID).Order(t.Context(), order.ID)
	if err != nil {
		t.Fatal(err)
	}
	got := trail.Stitch(order, found)
	if len(got.Lanes) != len(want.Lanes) || len(got.Edges) != len(want.Edges) || !got.Complete {
		t.Errorf("%d traces, %d edges; the store gave %d and %d", len(got.Lanes), len(got.Edges), len(want.Lanes), len(want.Edges))
	}
	gotText, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	wantText, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(gotText) != string(wantText) {
		t.Errorf("from Jaeger:\n%s\nfrom the store:\n%s", gotText, wantText)
	}
}

func TestJaegerTrace(t *testing.T) {
	_, order := fromStore(t)
	source := recorded(t, order.ID)
	id := regexp.MustCompile(`"traceId":"([0-9a-f]{32})"`).FindStringSubmatch(saved(t, "trace"))[1]
	found, err := source.Trace(t.Context(), id)
	if err != nil || len(found.Spans) == 0 || !slices.Contains(found.Orders(), order.ID) {
		t.Errorf("trace %s: %d spans of %v: %v", id, len(found.Spans), found.Orders(), err)
	}
	for _, s := range found.Spans {
		if s.TraceID != id {
			t.Errorf("a span of trace %s", s.TraceID)
		}
	}
	if _, err := source.Trace(t.Context(), strings.Repeat("ab", 16)); !errors.Is(err, trail.ErrNotFound) {
		t.Errorf("a trace that is not there: %v", err)
	}
	if _, err := source.Order(t.Context(), newStory(1).id); !errors.Is(err, trail.ErrNotFound) {
		t.Errorf("an order that is not there: %v", err)
	}
	if _, err := source.TraceOf(t.Context(), strings.Repeat("ab", 8)); !errors.Is(err, trail.ErrUnsupported) {
		t.Errorf("a span alone: %v", err)
	}
	if found, err := source.Recent(t.Context(), 10); err != nil || len(found.Spans) != 0 {
		t.Errorf("nothing recent: %v, %v", found, err)
	}
}

// Jaeger's page leads from a trace to all that link it: what ui-config.json has it
// search for, a Jaeger has answered with the traces that the trail has links from,
// batches among them.
func TestJaegerBacklinks(t *testing.T) {
	want, order := fromStore(t)
	text, err := os.ReadFile("../jaeger/ui-config.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		LinkPatterns []struct{ Type, Key, URL, Text string } `json:"linkPatterns"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	created := order.Events[0].TraceID
	searched := map[string]string{} // by the pattern's text
	for _, p := range config.LinkPatterns {
		at, err := url.Parse(strings.NewReplacer("#{traceID}", created, "#{order.id}", order.ID).Replace(p.URL))
		if err != nil {
			t.Fatalf("%s: %v", p.Text, err)
		}
		if at.Path == "/search" {
			if at.Query().Get("start") == "" || at.Query().Get("end") == "" {
				t.Errorf("%s: without start and end the page wants a service", p.Text)
			}
			searched[p.Text] = at.Query().Get("tags")
		}
	}
	if got, want := searched["Traces that link here"], `{"link.trace_id":"`+created+`"}`; got != want {
		t.Errorf("the page searches for %s, not %s, which was recorded", got, want)
	}
	if got, want := searched["All traces of this order"], `{"order.id":"`+order.ID+`"}`; got != want {
		t.Errorf("the page searches for %s, not %s, which was recorded", got, want)
	}

	source := jaeger(t, func(w http.ResponseWriter, _ *http.Request) { replay(t, w, "backlinks") })
	found, err := source.Order(t.Context(), order.ID)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, s := range found.Spans {
		got[s.TraceID] = true
	}
	batches := 0
	for _, l := range want.Lanes {
		links := slices.ContainsFunc(want.Edges, func(e trail.Edge) bool {
			return e.Kind == trail.EdgeLink && e.To.TraceID == l.TraceID && e.From.TraceID == created
		})
		if links != got[l.TraceID] {
			t.Errorf("%s %s links the order's first trace: %t; Jaeger has found it: %t", l.Service, l.Name, links, got[l.TraceID])
		}
		if links && l.Spans[0].Batch != nil {
			batches++
		}
	}
	if batches == 0 {
		t.Error("no batch links the order's first trace")
	}
}

// What a Jaeger may answer beside what was recorded.
func TestJaegerAnswers(t *testing.T) {
	const span = `{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","parentSpanId":"%s","name":"x","kind":%s,` +
		`"startTimeUnixNano":%s,"endTimeUnixNano":"1700000000000000002","status":{"code":%s},"droppedLinksCount":7,` +
		`"attributes":[{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":"2"}]}}},{"key":"n","value":{"intValue":3}},{"key":"none","value":{}}]}`
	wrap := func(spans ...string) string {
		return `{"result":{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeSpans":[{"spans":[` + strings.Join(spans, ",") + `]}]}]}}`
	}
	one := fmt.Sprintf(span, "0000000000000000", "5", `"1700000000000000001"`, "2")
	found, err := jaeger(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, wrap(one, one)) }).Trace(t.Context(), "x")
	if err != nil || len(found.Spans) != 1 {
		t.Fatalf("%d spans: %v", len(found.Spans), err)
	}
	s := found.Spans[0]
	if s.Kind != "consumer" || s.Status != trail.StatusError || s.ParentID != "" || s.DroppedLinks != 7 || s.Service != "s" || s.End.Sub(s.Start) != 1 ||
		s.Attributes["list"] != `["a",2]` || s.Attributes["n"] != int64(3) || s.Attributes["none"] != "" {
		t.Errorf("the span is %+v", s)
	}
	// By their names, as other encoders write them; and what is not known.
	for i, tt := range []struct{ kind, status, wantKind, wantStatus string }{
		{`"SPAN_KIND_PRODUCER"`, `"STATUS_CODE_OK"`, "producer", trail.StatusOK},
		{"0", "0", "internal", trail.StatusUnset},
		{"99", "99", "internal", trail.StatusUnset},
	} {
		text := wrap(fmt.Sprintf(span, "", tt.kind, "1700000000000000001", tt.status))
		found, err := jaeger(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }).Trace(t.Context(), "x")
		if err != nil || len(found.Spans) != 1 || found.Spans[0].Kind != tt.wantKind || found.Spans[0].Status != tt.wantStatus {
			t.Errorf("%d: %+v: %v", i, found, err)
		}
	}
	for name, text := range map[string]string{"nothing": "", "cut short": wrap(one)[:100], "a number": "7", "wrong types": `{"result":{"resourceSpans":7}}`, "a time": wrap(fmt.Sprintf(span, "", "1", `"x"`, "0"))} {
		if _, err := jaeger(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }).Trace(t.Context(), "x"); !errors.Is(err, trail.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// As many traces as were asked for may be fewer than there are.
func TestJaegerTruncated(t *testing.T) {
	source := jaeger(t, func(w http.ResponseWriter, r *http.Request) {
		var spans []string
		for i := range 300 {
			if fmt.Sprint(i) == r.URL.Query().Get("query.searchDepth") {
				break
			}
			spans = append(spans, fmt.Sprintf(`{"traceId":"%032x","spanId":"0102030405060708"}`, i+1))
		}
		fmt.Fprint(w, `{"result":{"resourceSpans":[{"scopeSpans":[{"spans":[`+strings.Join(spans, ",")+`]}]}]}}`)
	})
	found, err := source.Order(t.Context(), newStory(1).id)
	if err != nil || !found.Truncated || len(found.Spans) < 100 {
		t.Errorf("truncated: %t, %d spans: %v", found.Truncated, len(found.Spans), err)
	}
}

// However many ask, a slow Jaeger has few requests, and nobody waits beyond their
// time.
func TestJaegerAtOnce(t *testing.T) {
	under, most := make(chan int, 1), 0
	under <- 0
	source := jaeger(t, func(_ http.ResponseWriter, r *http.Request) {
		n := <-under + 1
		most = max(most, n)
		under <- n
		<-r.Context().Done()
		under <- <-under - 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	errs := make(chan error)
	for range 100 {
		go func() {
			_, err := source.Trace(ctx, "x")
			errs <- err
		}()
	}
	for range 100 {
		if err := <-errs; !errors.Is(err, trail.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	under <- <-under // most is read alone
	if most == 0 || most > 16 {
		t.Errorf("%d requests at once", most)
	}
}
