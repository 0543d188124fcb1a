package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing/linktest"
)

// A module outside the repository can use the package: it builds, runs on a server of
// its own, and each of its consumers' spans is a root that links its producer.
func TestOutsideModule(t *testing.T) {
	dir := t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	write := func(from string, change func(text string) string) {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(from)), []byte(change(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unchanged := func(text string) string { return text }
	// Its dependencies have the versions that this module has.
	write("go.mod", func(text string) string {
		text = regexp.MustCompile(`(?m)^module .*`).ReplaceAllLiteralString(text, "module example.com/outside")
		return regexp.MustCompile(`=> \.\.`).ReplaceAllLiteralString(text, "=> "+root)
	})
	write("go.sum", unchanged)
	write("testdata/outside/main.go", unchanged)
	run := func(name string, args ...string) []byte {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
		}
		return stdout.Bytes()
	}
	source, err := os.ReadFile("testdata/outside/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`tracing\.|tracer\.|/pkg/tracing"`).FindAllIndex(source, -1)); n < 5 || n > 10 {
		t.Errorf("the service is instrumented in %d places, want at most ten lines", n)
	}
	run("go", "build", "-o", "outside", ".")
	spans := decodeSpans(t, run(filepath.Join(dir, "outside"), t.TempDir()))

	if len(spans) != 10 {
		t.Errorf("%d spans, want 2 that publish, 4 that process and 4 that settle", len(spans))
	}
	for _, order := range []string{"orders.1", "orders.2"} {
		of := spans.With(attribute.String("messaging.destination.name", order))
		publish := of.One(t, "publish orders.{id}").IsRoot(t).LinksExactly(t)
		for _, group := range []string{"payments", "mail"} {
			by := of.With(attribute.String("messaging.consumer.group.name", group))
			process := by.One(t, "process orders.{id}").IsRoot(t).LinksExactly(t, linktest.To(publish, "triggered_by"))
			by.One(t, "ack orders.{id}").IsChildOf(t, process).LinksExactly(t)
		}
	}
}

// decodeSpans reads what the JSON of spans has of names, attributes, parents and links.
func decodeSpans(t *testing.T, text []byte) linktest.Set {
	t.Helper()
	type spanContext struct{ TraceID, SpanID string }
	type attributes []struct {
		Key   attribute.Key
		Value struct{ Value any }
	}
	var decoded []struct {
		Name                string
		SpanContext, Parent spanContext
		Attributes          attributes
		Links               []struct {
			SpanContext spanContext
			Attributes  attributes
		}
	}
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	contextOf := func(from spanContext) trace.SpanContext {
		traceID, _ := trace.TraceIDFromHex(from.TraceID) // zeros are an error, and no parent
		spanID, _ := trace.SpanIDFromHex(from.SpanID)
		return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID})
	}
	texts := func(from attributes) (attrs []attribute.KeyValue) {
		for _, a := range from {
			if value, ok := a.Value.Value.(string); ok {
				attrs = append(attrs, a.Key.String(value))
			}
		}
		return attrs
	}
	stubs := make(tracetest.SpanStubs, len(decoded))
	for i, d := range decoded {
		stubs[i] = tracetest.SpanStub{Name: d.Name, SpanContext: contextOf(d.SpanContext), Parent: contextOf(d.Parent), Attributes: texts(d.Attributes)}
		for _, l := range d.Links {
			stubs[i].Links = append(stubs[i].Links, sdktrace.Link{SpanContext: contextOf(l.SpanContext), Attributes: texts(l.Attributes)})
		}
	}
	return linktest.Spans(stubs)
}
