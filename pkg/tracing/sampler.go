package tracing

import (
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// SamplerOption configures [LinkAware].
type SamplerOption func(*linkAware)

// AnySampled keeps a root span if any of its links leads to a kept trace, not
// only the first: no link to a kept trace then comes from a dropped one. The
// price is the rate: of batches of n messages 1-(1-p)^n are kept, 65 % for n = 10
// and p = 10 %. Default: the first link decides, which keeps the rate.
func AnySampled() SamplerOption {
	return func(s *linkAware) { s.any = true }
}

// LinkAware returns a sampler that keeps what is linked together. With links in
// place of parents each trace is sampled on its own, so at 10 % nine of ten kept
// consumers would link a producer that was dropped.
//
// A span with a valid parent does as its parent does. A root span that links
// messages does as the producer of the first one did. Other root spans are left
// to root.
//
// Only links that this package made are listened to: a link that somebody else
// put on a span, such as the one otelhttp makes of a stranger's header, would
// let the stranger decide what is kept, and so would those of [Untrusted]
// messages. Links added after the start of a span come too late for any sampler.
//
// The result is [sdktrace.ParentBased] already; wrapping it again changes
// nothing but lets parents be treated differently.
func LinkAware(root sdktrace.Sampler, opts ...SamplerOption) sdktrace.Sampler {
	s := &linkAware{root: root}
	for _, opt := range opts {
		opt(s)
	}
	return sdktrace.ParentBased(s)
}

type linkAware struct {
	root sdktrace.Sampler
	any  bool
}

func (s *linkAware) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	found := false
	for _, l := range p.Links {
		if !trusted(l) {
			continue
		}
		if l.SpanContext.IsSampled() {
			return decide(p, sdktrace.RecordAndSample)
		}
		if !s.any {
			return decide(p, sdktrace.Drop)
		}
		found = true
	}
	if found {
		return decide(p, sdktrace.Drop)
	}
	return s.root.ShouldSample(p)
}

func decide(p sdktrace.SamplingParameters, d sdktrace.SamplingDecision) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{
		Decision:   d,
		Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
	}
}

// trusted recognises links of this package by their attributes, which nobody
// outside the process can set.
func trusted(l trace.Link) bool {
	if !l.SpanContext.IsValid() {
		return false
	}
	ours := false
	for _, a := range l.Attributes {
		switch a.Key {
		case linkTraceIDKey:
			ours = true
		case linkUntrustedKey:
			return false
		}
	}
	return ours
}

func (s *linkAware) Description() string {
	return fmt.Sprintf("LinkAware{%s,anySampled:%t}", s.root.Description(), s.any)
}
