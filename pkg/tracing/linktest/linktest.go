// Package linktest checks the spans of linked traces in tests: which span links
// which, which span is a root, and the topology of a whole program.
//
//	spans := linktest.Spans(exporter.GetSpans())
//	publish := spans.One(t, "publish orders.created.{order_id}")
//	spans.One(t, "process orders.created.{order_id}").IsRoot(t).LinksExactly(t, linktest.To(publish, "triggered_by"))
package linktest

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

var update = flag.Bool("linktest.update", false, "write the golden topology files instead of comparing them")

// Set is a set of exported spans.
type Set []Span

// Span is an exported span.
type Span struct{ tracetest.SpanStub }

// Spans returns the set of stubs, for instance from
// [tracetest.InMemoryExporter.GetSpans].
func Spans(stubs tracetest.SpanStubs) Set {
	set := make(Set, len(stubs))
	for i, stub := range stubs {
		set[i] = Span{stub}
	}
	return set
}

// With returns the spans that have all the attributes.
func (s Set) With(attrs ...attribute.KeyValue) Set {
	return slices.DeleteFunc(slices.Clone(s), func(span Span) bool {
		return slices.ContainsFunc(attrs, func(a attribute.KeyValue) bool { return !slices.Contains(span.Attributes, a) })
	})
}

// One returns the only span with this name. It ends the test if there is not
// exactly one.
func (s Set) One(tb testing.TB, name string) Span {
	tb.Helper()
	found := slices.DeleteFunc(slices.Clone(s), func(span Span) bool { return span.Name != name })
	if len(found) != 1 {
		var names []string
		for _, span := range s {
			names = append(names, span.Name)
		}
		tb.Fatalf("%d spans are named %q, want 1; the names are %q", len(found), name, names)
	}
	return found[0]
}

// NoOrphans reports an error for each span whose parent is not in the set, unless
// the parent is remote.
func (s Set) NoOrphans(tb testing.TB) {
	tb.Helper()
	for _, span := range s {
		if p := span.Parent; p.IsValid() && !p.IsRemote() && s.find(p) == nil {
			tb.Errorf("the parent %s of %q was not exported", p.SpanID(), span.Name)
		}
	}
}

func (s Set) find(sc trace.SpanContext) *Span {
	for i := range s {
		if sameSpan(s[i].SpanContext, sc) {
			return &s[i]
		}
	}
	return nil
}

// sameSpan reports whether two contexts, of which one may be remote, are of one span.
func sameSpan(a, b trace.SpanContext) bool {
	return a.IsValid() && a.SpanID() == b.SpanID() && a.TraceID() == b.TraceID()
}

// Link is an expected link.
type Link struct {
	to           trace.SpanContext
	name         string
	relationship string
}

// To returns the expected link to span. An empty relationship matches any.
func To(span Span, relationship string) Link {
	return Link{to: span.SpanContext, name: span.Name, relationship: relationship}
}

// LinksExactly reports an error unless the span has exactly these links, in any
// order, and none was dropped. It returns the span.
func (s Span) LinksExactly(tb testing.TB, want ...Link) Span {
	tb.Helper()
	left := slices.Clone(s.Links)
	for _, w := range want {
		i := slices.IndexFunc(left, func(l sdktrace.Link) bool {
			return sameSpan(l.SpanContext, w.to) && (w.relationship == "" || relationship(l) == w.relationship)
		})
		if i < 0 {
			tb.Errorf("%q does not link %q (%s) as %q", s.Name, w.name, w.to.SpanID(), w.relationship)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, l := range left {
		tb.Errorf("%q links %s as %q, which is not expected", s.Name, l.SpanContext.SpanID(), relationship(l))
	}
	if s.DroppedLinks > 0 {
		tb.Errorf("%q dropped %d links", s.Name, s.DroppedLinks)
	}
	return s
}

func relationship(l sdktrace.Link) string {
	for _, a := range l.Attributes {
		if a.Key == "link.relationship" {
			return a.Value.AsString()
		}
	}
	return ""
}

// IsRoot reports an error if the span has a parent. It returns the span.
func (s Span) IsRoot(tb testing.TB) Span {
	tb.Helper()
	if s.Parent.IsValid() {
		tb.Errorf("%q has the parent %s, want a root", s.Name, s.Parent.SpanID())
	}
	return s
}

// IsChildOf reports an error unless parent is the span's parent. It returns the
// span.
func (s Span) IsChildOf(tb testing.TB, parent Span) Span {
	tb.Helper()
	if !sameSpan(s.Parent, parent.SpanContext) {
		tb.Errorf("%q has the parent %s, want %q (%s)", s.Name, s.Parent.SpanID(), parent.Name, parent.SpanContext.SpanID())
	}
	return s
}

// Has reports an error for each attribute that the span lacks. It returns the span.
func (s Span) Has(tb testing.TB, attrs ...attribute.KeyValue) Span {
	tb.Helper()
	for _, a := range attrs {
		if !slices.Contains(s.Attributes, a) {
			tb.Errorf("%q lacks %s=%s; it has %v", s.Name, a.Key, a.Value, s.Attributes)
		}
	}
	return s
}

// Topology describes the set: each trace as an indented tree, with the links of
// each span below it. The text has no ids and no times and is sorted, so that the
// same program gives the same text. A line ends in ×2 if two spans, with all that is
// below them, are equal. The service of a span is shown if its resource names one.
func (s Set) Topology() string {
	var traces []string
	for _, span := range s {
		if s.find(span.Parent) == nil {
			traces = append(traces, s.tree(span, ""))
		}
	}
	return strings.Join(counted(traces), "\n")
}

func (s Set) tree(span Span, indent string) string {
	line := fmt.Sprintf("%s%s (%s)", indent, title(span), span.SpanKind)
	if span.Status.Code == codes.Error {
		line += ", failed"
	}
	if span.Parent.IsValid() && s.find(span.Parent) == nil {
		line += ", its parent was not exported"
	}
	var links, children []string
	for _, l := range span.Links {
		target := "a span that was not exported"
		if found := s.find(l.SpanContext); found != nil {
			target = title(*found)
		}
		links = append(links, fmt.Sprintf("%s  links %s as %s\n", indent, target, cmp.Or(relationship(l), "?")))
	}
	for _, child := range s {
		if sameSpan(child.Parent, span.SpanContext) {
			children = append(children, s.tree(child, indent+"  "))
		}
	}
	return line + "\n" + strings.Join(counted(links), "") + strings.Join(counted(children), "")
}

func title(span Span) string {
	service, ok := span.Resource.Set().Value("service.name")
	if !ok || strings.HasPrefix(service.AsString(), "unknown_service") { // the default of the SDK
		return span.Name
	}
	return service.AsString() + ": " + span.Name
}

// counted sorts texts and joins equal ones. The first line then has their number.
func counted(texts []string) (all []string) {
	slices.Sort(texts)
	for n := 1; len(texts) > 0; n = 1 {
		for n < len(texts) && texts[n] == texts[0] {
			n++
		}
		first, rest, _ := strings.Cut(texts[0], "\n")
		if n > 1 {
			first += fmt.Sprintf(" ×%d", n)
		}
		all = append(all, first+"\n"+rest)
		texts = texts[n:]
	}
	return all
}

// Golden reports an error unless topology, the result of [Set.Topology], is the
// content of the file. With the flag -linktest.update it writes the file.
func Golden(tb testing.TB, file, topology string) {
	tb.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(topology), 0o600); err != nil {
			tb.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file) // #nosec G304 -- the test names the file
	if err != nil {
		tb.Fatalf("%v; write the file with -linktest.update", err)
	}
	if topology != string(want) {
		tb.Errorf("the topology differs from %s; write the file with -linktest.update if this is right:\n%s", file, topology)
	}
}
