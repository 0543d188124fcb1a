package trail

import (
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
)

// FromOTLP returns the spans of traces.
func FromOTLP(traces ptrace.Traces) iter.Seq[Span] {
	return func(yield func(Span) bool) {
		for _, resource := range traces.ResourceSpans().All() {
			service := ""
			if v, ok := resource.Resource().Attributes().Get(serviceNameKey); ok {
				service = v.AsString()
			}
			for _, scope := range resource.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					span := readSpan(s)
					span.Service = service
					if !yield(span) {
						return
					}
				}
			}
		}
	}
}

func readSpan(s ptrace.Span) Span {
	span := Span{
		Ref: Ref{s.TraceID().String(), s.SpanID().String()}, ParentID: s.ParentSpanID().String(),
		Name: s.Name(), Kind: "internal", Start: moment(s.StartTimestamp()), End: moment(s.EndTimestamp()),
		Status: StatusUnset, StatusMessage: s.Status().Message(),
		Attributes: readAttributes(s.Attributes()), DroppedLinks: int(s.DroppedLinksCount()),
	}
	if span.End.Before(span.Start) { // a clock was set back, or the end is missing
		span.End = span.Start
	}
	if k := s.Kind(); k >= ptrace.SpanKindServer && k <= ptrace.SpanKindConsumer {
		span.Kind = strings.ToLower(k.String())
	}
	if c := s.Status().Code(); c == ptrace.StatusCodeOk || c == ptrace.StatusCodeError {
		span.Status = strings.ToLower(c.String())
	}
	for _, e := range s.Events().All() {
		span.Events = append(span.Events, Moment{e.Name(), moment(e.Timestamp()), readAttributes(e.Attributes())})
	}
	for _, l := range s.Links().All() {
		span.Links = append(span.Links, Link{Ref{l.TraceID().String(), l.SpanID().String()}, readAttributes(l.Attributes())})
	}
	return span
}

// moment returns a time, at most the year 2262: later ones would become early ones.
func moment(t pcommon.Timestamp) time.Time { return min(t, math.MaxInt64).AsTime() }

func readAttributes(m pcommon.Map) Attributes {
	if m.Len() == 0 {
		return nil
	}
	read := make(Attributes, m.Len())
	for key, v := range m.All() {
		switch v.Type() {
		case pcommon.ValueTypeBool, pcommon.ValueTypeInt, pcommon.ValueTypeDouble:
			read[key] = finite(v.AsRaw())
		default:
			read[key] = v.AsString() // a list becomes JSON
		}
	}
	return read
}

// finite returns a value that JSON can have: NaN and the infinities become text.
func finite(v any) any {
	if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return fmt.Sprint(f)
	}
	return v
}

// fromSDK returns a span that has ended in this process.
func fromSDK(s trace.ReadOnlySpan) Span {
	service, _ := s.Resource().Set().Value(serviceNameKey)
	span := Span{
		Ref:     Ref{s.SpanContext().TraceID().String(), s.SpanContext().SpanID().String()},
		Service: service.AsString(), Name: s.Name(), Kind: s.SpanKind().String(), Start: s.StartTime(), End: s.EndTime(),
		Status: statuses[s.Status().Code], StatusMessage: s.Status().Description,
		Attributes: attributesOf(s.Attributes()), DroppedLinks: s.DroppedLinks(),
	}
	if s.Parent().HasSpanID() {
		span.ParentID = s.Parent().SpanID().String()
	}
	for _, e := range s.Events() {
		span.Events = append(span.Events, Moment{e.Name, e.Time, attributesOf(e.Attributes)})
	}
	for _, l := range s.Links() {
		span.Links = append(span.Links, Link{Ref{l.SpanContext.TraceID().String(), l.SpanContext.SpanID().String()}, attributesOf(l.Attributes)})
	}
	return span
}

func attributesOf(as []attribute.KeyValue) Attributes {
	if len(as) == 0 {
		return nil
	}
	read := make(Attributes, len(as))
	for _, a := range as {
		switch v := a.Value; v.Type() {
		case attribute.BOOL, attribute.INT64, attribute.FLOAT64, attribute.STRING:
			read[string(a.Key)] = finite(v.AsInterface())
		default:
			read[string(a.Key)] = v.String() // a list becomes JSON
		}
	}
	return read
}
