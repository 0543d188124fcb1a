// Package backends answers as tracing backends do, for tests: with any spans.
package backends

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/encoding/protowire"

	"example.org/ordertrail/trail"
)

// OTLP returns spans as the exporters of their services send them.
func OTLP(spans []trail.Span) ptrace.Traces {
	all := ptrace.NewTraces()
	for _, s := range spans {
		resource := all.ResourceSpans().AppendEmpty()
		resource.Resource().Attributes().PutStr("service.name", s.Service)
		span := resource.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.SetTraceID(otlpTraceID(s.TraceID))
		span.SetSpanID(otlpSpanID(s.SpanID))
		span.SetParentSpanID(otlpSpanID(s.ParentID))
		span.SetName(s.Name)
		span.SetKind(ptrace.SpanKind(1 + slices.Index([]string{"internal", "server", "client", "producer", "consumer"}, s.Kind)))
		span.SetStartTimestamp(pcommon.NewTimestampFromTime(s.Start))
		span.SetEndTimestamp(pcommon.NewTimestampFromTime(s.End))
		span.Status().SetCode(map[string]ptrace.StatusCode{trail.StatusOK: ptrace.StatusCodeOk, trail.StatusError: ptrace.StatusCodeError}[s.Status])
		span.Status().SetMessage(s.StatusMessage)
		span.SetDroppedLinksCount(uint32(s.DroppedLinks))
		toMap(span.Attributes(), s.Attributes)
		for _, e := range s.Events {
			event := span.Events().AppendEmpty()
			event.SetName(e.Name)
			event.SetTimestamp(pcommon.NewTimestampFromTime(e.Time))
			toMap(event.Attributes(), e.Attributes)
		}
		for _, l := range s.Links {
			link := span.Links().AppendEmpty()
			link.SetTraceID(otlpTraceID(l.TraceID))
			link.SetSpanID(otlpSpanID(l.SpanID))
			toMap(link.Attributes(), l.Attributes)
		}
	}
	return all
}

func toMap(m pcommon.Map, as trail.Attributes) {
	for key, value := range as {
		if err := m.PutEmpty(key).FromRaw(value); err != nil {
			panic(err)
		}
	}
}

func otlpTraceID(text string) (id pcommon.TraceID) {
	_, _ = hex.Decode(id[:], []byte(text))
	return id
}

func otlpSpanID(text string) (id pcommon.SpanID) {
	_, _ = hex.Decode(id[:], []byte(text))
	return id
}

// File writes spans as the collector's file exporter does: a line of OTLP JSON for
// each batch, with lines of logs between them. It is gzipped.
func File(t testing.TB, spans []trail.Span) string {
	t.Helper()
	var text bytes.Buffer
	zip := gzip.NewWriter(&text)
	for batch := range slices.Chunk(spans, 7) {
		line, err := new(ptrace.JSONMarshaler).MarshalTraces(OTLP(batch))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = zip.Write(append(line, "\n"+`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"hello"}}]}]}]}`+"\n"...))
	}
	_ = zip.Close()
	path := filepath.Join(t.TempDir(), "traces.json.gz")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// traced are the spans of one trace.
type traced struct {
	id    string
	spans []trail.Span
}

// byTrace returns traces, the one with the latest span first.
func byTrace(spans []trail.Span) (all []traced) {
	at := map[string]int{}
	for _, s := range slices.Backward(spans) {
		i, ok := at[s.TraceID]
		if !ok {
			i = len(all)
			at[s.TraceID] = i
			all = append(all, traced{id: s.TraceID})
		}
		all[i].spans = append(all[i].spans, s)
	}
	return all
}

// has reports whether a span, a link or a resource of the trace has an attribute.
func (tr traced) has(scope, key, value string) bool {
	return slices.ContainsFunc(tr.spans, func(s trail.Span) bool {
		switch scope {
		case "span":
			return s.Attributes.Text(key) == value
		case "resource":
			return key == "service.name" && s.Service == value
		}
		return slices.ContainsFunc(s.Links, func(l trail.Link) bool { return l.Attributes.Text(key) == value })
	})
}

// Jaeger answers as Jaeger's query API does, version 3, of release 2.20.0 and of its
// main branch of 2026-08-20: the answers of both were recorded in testdata/jaeger. Its
// memory store matches attributes of spans and of links, returns the newest traces first,
// and answers 404 with a JSON error if it finds nothing.
func Jaeger(t testing.TB, spans []trail.Span) *url.URL {
	t.Helper()
	all := byTrace(spans)
	answer := func(w http.ResponseWriter, found []traced) {
		w.Header().Set("Content-Type", "application/json")
		if len(found) == 0 {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error":{"httpCode":404,"message":"No traces found"}}`))
			return
		}
		var spans []trail.Span
		for _, tr := range found {
			spans = append(spans, tr.spans...)
		}
		text, err := new(ptrace.JSONMarshaler).MarshalTraces(OTLP(spans))
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(append(append([]byte(`{"result":`), text...), '}'))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v3/traces/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, slices.DeleteFunc(slices.Clone(all), func(tr traced) bool { return tr.id != r.PathValue("id") }))
	})
	mux.HandleFunc("GET /api/v3/traces", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		depth, err := strconv.Atoi(query.Get("query.searchDepth"))
		from, errFrom := time.Parse(time.RFC3339Nano, query.Get("query.startTimeMin"))
		if err != nil || errFrom != nil || depth > 1500 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		attributes := map[string]string{}
		if text := query.Get("query.attributes"); text != "" {
			if err := json.Unmarshal([]byte(text), &attributes); err != nil {
				t.Error(err)
			}
		}
		found := slices.DeleteFunc(slices.Clone(all), func(tr traced) bool {
			for key, value := range attributes {
				if !tr.has("span", key, value) && !tr.has("link", key, value) {
					return true
				}
			}
			if service := query.Get("query.service_name"); service != "" && !tr.has("resource", "service.name", service) {
				return true
			}
			return tr.spans[0].Start.Before(from)
		})
		answer(w, found[:min(depth, len(found))])
	})
	return serve(t, mux)
}

func serve(t testing.TB, h http.Handler) *url.URL {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

var (
	tempoLinks = regexp.MustCompile(`link:traceID = "([0-9a-f]{32})"`)
	tempoSpan  = regexp.MustCompile(`^{ span:id = "([0-9a-f]{16})" }$`)
	tempoValue = regexp.MustCompile(`(span|link|resource)\."([^"]+)" = ("[^"]*"|\S+)`)
)

// Tempo answers as Grafana Tempo's API does, to the queries that [trail.Tempo] sends:
// GET /api/search with the ids of the traces, without the zeros at their start, and
// GET /api/v2/traces/{id} with a TraceByIDResponse of protobuf. The forms are those of
// pkg/tempopb/tempo.proto and docs/sources/tempo/api_docs of Tempo's main branch of
// 2026-08-21.
func Tempo(t testing.TB, spans []trail.Span) *url.URL {
	t.Helper()
	all := byTrace(spans)
	matches := func(tr traced, q string) bool {
		if m := tempoSpan.FindStringSubmatch(q); m != nil {
			return slices.ContainsFunc(tr.spans, func(s trail.Span) bool { return s.SpanID == m[1] })
		}
		for _, m := range tempoLinks.FindAllStringSubmatch(q, -1) {
			if slices.ContainsFunc(tr.spans, func(s trail.Span) bool {
				return slices.ContainsFunc(s.Links, func(l trail.Link) bool { return l.TraceID == m[1] })
			}) {
				return true
			}
		}
		for _, m := range tempoValue.FindAllStringSubmatch(q, -1) {
			if tr.has(m[1], m[2], strings.Trim(m[3], `"`)) {
				return true
			}
		}
		return q == "{ }"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/search", func(w http.ResponseWriter, r *http.Request) {
		type found struct {
			TraceID string `json:"traceID"`
		}
		answer := struct {
			Traces []found `json:"traces"`
		}{}
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		for _, tr := range all {
			if len(answer.Traces) < limit && matches(tr, r.FormValue("q")) {
				answer.Traces = append(answer.Traces, found{strings.TrimLeft(tr.id, "0")})
			}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	mux.HandleFunc("GET /api/v2/traces/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "application/protobuf" {
			t.Errorf("Accept: %s", r.Header.Get("Accept"))
		}
		for _, tr := range all {
			if tr.id == r.PathValue("id") {
				body, err := new(ptrace.ProtoMarshaler).MarshalTraces(OTLP(tr.spans))
				if err != nil {
					t.Error(err)
				}
				answer := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), body)
				_, _ = w.Write(protowire.AppendBytes(protowire.AppendTag(answer, 2, protowire.BytesType), []byte{8, 1})) // metrics
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	})
	return serve(t, mux)
}
