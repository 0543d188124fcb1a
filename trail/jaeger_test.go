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

	"github.com/google/uuid"

	"example.org/ordertrail/trail"
)

// recorded serves the answers of a real Jaeger: about one order, about its traces, and
// about unknown ids. TestTrailFromJaeger, of package system, records them.
func recorded(t *testing.T, order string) *trail.Jaeger {
	t.Helper()
	return jaeger(t, func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		file := "notrace"
		switch attributes := query.Get("query.attributes"); {
		case r.URL.Path != "/api/v3/traces":
			if strings.Contains(saved(t, "trace.http"), strings.TrimPrefix(r.URL.Path, "/api/v3/traces/")) {
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
	answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(saved(t, file+".http"))), nil)
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
	text, err := os.ReadFile(filepath.Join("testdata", "jaeger", file))
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

// fromStore returns the story of the recorded order that the store in the process gave,
// the order's id, and its first trace.
func fromStore(t *testing.T) (story trail.Story, order, first string) {
	t.Helper()
	var want struct {
		OrderID string `json:"order_id"`
		trail.Story
	}
	if err := json.Unmarshal([]byte(saved(t, "trail.json")), &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Lanes) < 10 {
		t.Fatalf("the recorded story has %d traces", len(want.Lanes))
	}
	return want.Story, want.OrderID, want.Lanes[0].TraceID
}

// Package ordertrail compares all of the story that Jaeger gives with the store's.
func TestJaeger(t *testing.T) {
	want, order, _ := fromStore(t)
	source := recorded(t, order)
	found, err := source.Find(t.Context(), key, order, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if got := trail.Stitch(found, trail.Options{Key: key, Value: order}); len(got.Lanes) != len(want.Lanes) || len(got.Edges) != len(want.Edges) {
		t.Errorf("%d traces, %d edges; the store gave %d and %d", len(got.Lanes), len(got.Edges), len(want.Lanes), len(want.Edges))
	}
	id := regexp.MustCompile(`"traceId":"([0-9a-f]{32})"`).FindStringSubmatch(saved(t, "trace.http"))[1]
	found, err = source.Traces(t.Context(), id)
	if err != nil || len(found.Spans) == 0 || !slices.Contains(found.Values(key), order) {
		t.Errorf("trace %s: %d spans of %v: %v", id, len(found.Spans), found.Values(key), err)
	}
	if traces := tracesOf(found); len(traces) != 1 || !traces[id] {
		t.Errorf("the spans belong to traces %v, want %s", traces, id)
	}
	if found, err := source.Traces(t.Context(), strings.Repeat("ab", 16)); err != nil || len(found.Spans) != 0 {
		t.Errorf("an unknown trace: %v, %v", found, err)
	}
	if found, err := source.Find(t.Context(), key, newStory(1).id, 10); err != nil || len(found.Spans) != 0 {
		t.Errorf("an unknown order: %v, %v", found, err)
	}
	if _, err := source.TraceOf(t.Context(), strings.Repeat("ab", 8)); !errors.Is(err, trail.ErrUnsupported) {
		t.Errorf("a span id alone: %v", err)
	}
	if found, err := source.Recent(t.Context(), 10); err != nil || len(found.Spans) != 0 {
		t.Errorf("recent traces: %v, %v", found, err)
	}
}

// The searches that ui-config.json offers on Jaeger's pages find the traces that their texts name: a
// real Jaeger answered the search for links to a trace with exactly the traces that
// have such links, batches among them.
func TestJaegerBacklinks(t *testing.T) {
	want, order, first := fromStore(t)
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
	tags := map[string]string{} // by the pattern's text
	for _, p := range config.LinkPatterns {
		at, err := url.Parse(strings.NewReplacer("#{traceID}", first, "#{order.id}", order).Replace(p.URL))
		if err != nil {
			t.Fatalf("%s: %v", p.Text, err)
		}
		if at.Path == "/search" {
			if at.Query().Get("start") == "" || at.Query().Get("end") == "" {
				t.Errorf("%s: without start and end, Jaeger requires a service", p.Text)
			}
			tags[p.Text] = at.Query().Get("tags")
		}
	}
	if got, want := tags["Traces that link here"], `{"link.trace_id":"`+first+`"}`; got != want {
		t.Errorf("the page searches for %s, but %s was recorded", got, want)
	}
	if got, want := tags["All traces of this order"], `{"order.id":"`+order+`"}`; got != want {
		t.Errorf("the page searches for %s, but %s was recorded", got, want)
	}

	source := jaeger(t, func(w http.ResponseWriter, _ *http.Request) { replay(t, w, "backlinks") })
	found, err := source.Find(t.Context(), key, order, 1000)
	if err != nil {
		t.Fatal(err)
	}
	got := tracesOf(found)
	batches := 0
	for _, l := range want.Lanes {
		links := slices.ContainsFunc(want.Edges, func(e trail.Edge) bool {
			return e.Kind == trail.EdgeLink && e.To.TraceID == l.TraceID && e.From.TraceID == first
		})
		if links != got[l.TraceID] {
			t.Errorf("%s %s links the order's first trace: %t; Jaeger found it: %t", l.Service, l.Name, links, got[l.TraceID])
		}
		if links && l.Spans[0].Batch != nil {
			batches++
		}
	}
	if batches == 0 {
		t.Error("no batch links the order's first trace")
	}
}

// Jaeger's answers may contain more than the recorded ones: names of enumerated values,
// spans twice, unknown values, other types.
func TestJaegerAnswers(t *testing.T) {
	const span = `{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","parentSpanId":"%s","name":"x","kind":%s,` +
		`"startTimeUnixNano":%s,"endTimeUnixNano":"1700000000000000002","status":{"code":%s},"droppedLinksCount":7,` +
		`"attributes":[{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":"2"}]}}},{"key":"n","value":{"intValue":3}},{"key":"none","value":{}}]}`
	wrap := func(spans ...string) string {
		return `{"result":{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeSpans":[{"spans":[` + strings.Join(spans, ",") + `]}]}]}}`
	}
	ask := func(answer string) (trail.Spans, error) {
		return jaeger(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }).Traces(t.Context(), "x")
	}
	one := fmt.Sprintf(span, "0000000000000000", "5", `"1700000000000000001"`, "2")
	found, err := ask(wrap(one, one))
	if err != nil || len(found.Spans) != 1 {
		t.Fatalf("%d spans: %v", len(found.Spans), err)
	}
	s := found.Spans[0]
	if s.Kind != "consumer" || s.Status != trail.StatusError || s.ParentID != "" || s.DroppedLinks != 7 || s.Service != "s" || s.End.Sub(s.Start) != 1 ||
		s.Attributes["list"] != `["a",2]` || s.Attributes["n"] != int64(3) || s.Attributes["none"] != "" {
		t.Errorf("the span is %+v", s)
	}
	for i, tt := range []struct{ kind, status, wantKind, wantStatus string }{
		{`"SPAN_KIND_PRODUCER"`, `"STATUS_CODE_OK"`, "producer", trail.StatusOK},
		{"0", "0", "internal", trail.StatusUnset},
		{"99", "99", "internal", trail.StatusUnset},
	} {
		found, err := ask(wrap(fmt.Sprintf(span, "", tt.kind, "1700000000000000001", tt.status)))
		if err != nil || len(found.Spans) != 1 || found.Spans[0].Kind != tt.wantKind || found.Spans[0].Status != tt.wantStatus {
			t.Errorf("%d: %+v: %v", i, found, err)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "cut short": wrap(one)[:100], "a number": "7", "wrong types": `{"result":{"resourceSpans":7}}`,
		"a time": wrap(fmt.Sprintf(span, "", "1", `"x"`, "0")), "an id": wrap(`{"traceId":"x"}`),
	} {
		if _, err := ask(text); !errors.Is(err, trail.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"{}", `{"result":{}}`, `{"result":null}`, wrap(`{"name":"without ids"}`)} {
		if found, err := ask(text); err != nil || len(found.Spans) != 0 {
			t.Errorf("%s: %v, %v", text, found, err)
		}
	}
}

// A search that returns as many traces as it asked for may have left some out.
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
	found, err := source.Find(t.Context(), key, newStory(1).id, 1000)
	if err != nil || !found.Truncated || len(found.Spans) < 100 {
		t.Errorf("truncated: %t, %d spans: %v", found.Truncated, len(found.Spans), err)
	}
}

// A slow Jaeger gets few requests at once, and no caller waits longer than its context.
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
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	errs := make(chan error)
	for range 100 {
		go func() {
			_, err := source.Traces(ctx, "x")
			errs <- err
		}()
	}
	for range 100 {
		if err := <-errs; !errors.Is(err, trail.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	under <- <-under // no handler holds it: most is final
	if most == 0 || most > 16 {
		t.Errorf("%d requests at once", most)
	}
}

// A trace id is no time, whatever its digits: the search for its links covers all of Since.
func TestJaegerTraceIDsAreNoTimes(t *testing.T) {
	var froms []time.Time
	source := jaeger(t, func(w http.ResponseWriter, r *http.Request) {
		from, err := time.Parse(time.RFC3339Nano, r.FormValue("query.startTimeMin"))
		if err != nil {
			t.Error(err)
		}
		froms = append(froms, from)
		fmt.Fprint(w, "{}")
	})
	source.Since = 24 * time.Hour
	for _, id := range []string{"0af7651916cd43dd8448eb211c80319c", "0af7651916cd73dd8448eb211c80319c", "ffffffffffff7fffbfffffffffffffff"} {
		if _, err := source.Linking(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if age := time.Since(froms[len(froms)-1]); age < 24*time.Hour || age > 25*time.Hour {
			t.Errorf("the search for links to %s covers %v", id, age)
		}
	}
	order := uuid.Must(uuid.NewV7()).String() // the id of an order has one
	if _, err := source.Find(t.Context(), key, order, 10); err != nil || time.Since(froms[len(froms)-1]) > time.Hour {
		t.Errorf("the search for an order of now covers %v: %v", time.Since(froms[len(froms)-1]), err)
	}
}
