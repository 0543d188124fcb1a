package trail

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// readOTLP returns the spans of traces, each once: Jaeger may store a span twice.
func readOTLP(traces ptrace.Traces) (spans []Span) {
	seen := map[Ref]bool{}
	for _, resource := range traces.ResourceSpans().All() {
		service := readAttributes(resource.Resource().Attributes()).Text("service.name")
		for _, scope := range resource.ScopeSpans().All() {
			for _, s := range scope.Spans().All() {
				span := readSpan(s)
				span.Service = service
				if !seen[span.Ref] {
					seen[span.Ref] = true
					spans = append(spans, span)
				}
			}
		}
	}
	return spans
}

func readSpan(s ptrace.Span) Span {
	span := Span{
		Ref: Ref{s.TraceID().String(), s.SpanID().String()}, ParentID: s.ParentSpanID().String(),
		Name: s.Name(), Kind: "internal", Start: s.StartTimestamp().AsTime(), End: s.EndTimestamp().AsTime(),
		Status: StatusUnset, StatusMessage: s.Status().Message(),
		Attributes: readAttributes(s.Attributes()), DroppedLinks: int(s.DroppedLinksCount()),
	}
	if k := s.Kind(); k >= ptrace.SpanKindServer && k <= ptrace.SpanKindConsumer {
		span.Kind = strings.ToLower(k.String())
	}
	if c := s.Status().Code(); c == ptrace.StatusCodeOk || c == ptrace.StatusCodeError {
		span.Status = strings.ToLower(c.String())
	}
	for _, e := range s.Events().All() {
		span.Events = append(span.Events, Moment{e.Name(), e.Timestamp().AsTime(), readAttributes(e.Attributes())})
	}
	for _, l := range s.Links().All() {
		span.Links = append(span.Links, Link{Ref{l.TraceID().String(), l.SpanID().String()}, readAttributes(l.Attributes())})
	}
	return span
}

func readAttributes(m pcommon.Map) Attributes {
	if m.Len() == 0 {
		return nil
	}
	read := make(Attributes, m.Len())
	for key, v := range m.All() {
		switch v.Type() {
		case pcommon.ValueTypeBool, pcommon.ValueTypeInt, pcommon.ValueTypeDouble:
			read[key] = v.AsRaw()
		default:
			read[key] = v.AsString() // a list becomes JSON
		}
	}
	return read
}
