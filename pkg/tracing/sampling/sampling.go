// Package sampling keeps traces together that are joined by links. With links in
// place of parents every trace is sampled by itself: at 10 %, nine of ten kept
// consumers would link a producer that was dropped.
//
//	sdktrace.WithSampler(sampling.LinkAware(sdktrace.TraceIDRatioBased(0.1)))
//
// [LinkAware] makes a consumer follow its producer's decision. [Consistent] lets a
// service have a rate of its own, such that the traces it keeps are among those
// that services with a higher rate keep.
//
// Both look only at links that package tracing made from trusted messages, and
// only at links that a span has at its start; no sampler sees later ones.
package sampling

import (
	"fmt"
	"math"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Option configures [LinkAware].
type Option interface{ apply(*linkAware) }

type optionFunc func(*linkAware)

func (f optionFunc) apply(s *linkAware) { f(s) }

// AnySampled keeps a root span if any of its links leads to a kept trace. The rate
// grows: of batches with n messages 1-(1-p)^n are kept, 65 % for n = 10 and p =
// 10 %. Default: the first link decides, which keeps the rate.
func AnySampled() Option {
	return optionFunc(func(s *linkAware) { s.any = true })
}

// LinkAware returns a sampler for which a span with a valid parent follows its
// parent, a root span that links messages follows the producer of the first one,
// and root decides on all other root spans. The result is a
// [sdktrace.ParentBased] sampler.
//
// A root span that follows its producer also takes over its randomness: rv and th
// of the ot member in the tracestate, so that other samplers and a collector
// decide alike.
func LinkAware(root sdktrace.Sampler, opts ...Option) sdktrace.Sampler {
	s := &linkAware{root: root}
	for _, opt := range opts {
		opt.apply(s)
	}
	return sdktrace.ParentBased(s)
}

type linkAware struct {
	root sdktrace.Sampler
	any  bool
}

func (s *linkAware) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	links := trustedLinks(p.Links)
	if len(links) == 0 {
		return s.root.ShouldSample(p)
	}
	follow := links[0]
	if s.any {
		for _, sc := range links {
			if sc.IsSampled() {
				follow = sc
				break
			}
		}
	}
	state := otelStateOf(follow)
	if s.any && len(links) > 1 {
		state.th = "" // it is the threshold of one link, and several had a chance
	}
	if !follow.IsSampled() {
		return state.result(sdktrace.Drop)
	}
	return state.result(sdktrace.RecordAndSample)
}

func (s *linkAware) Description() string {
	return fmt.Sprintf("LinkAware{%s,anySampled:%t}", s.root.Description(), s.any)
}

// randomBits is the size of the randomness of a trace.
const randomBits = 56

// Consistent returns a sampler for a service with its own rate. A span with a
// valid parent follows its parent. A root span is kept if its randomness, a number
// of 56 bits, is not below the threshold of probability. The randomness is that of
// the first linked message, or else that of the span's own trace id. So services
// that sample 5 % and 20 % keep the same orders, as far as the rates allow.
// Probabilities below 0 and NaN count as 0, above 1 as 1.
//
// The span's tracestate gets the threshold, and the randomness if it is not that of
// its trace id, as OpenTelemetry's consistent probability sampling defines it.
func Consistent(probability float64) sdktrace.Sampler {
	if !(probability > 0) {
		probability = 0
	}
	probability = min(probability, 1)
	// 1-probability would lose the last bits.
	threshold := 1<<randomBits - uint64(math.Round(probability*(1<<randomBits)))
	return sdktrace.ParentBased(&consistent{probability: probability, threshold: threshold})
}

type consistent struct {
	probability float64
	threshold   uint64
}

func (s *consistent) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	var state otelState
	random := traceRandomness(p.TraceID)
	if links := trustedLinks(p.Links); len(links) > 0 {
		state = otelStateOf(links[0])
		random = state.random()
	}
	if random < s.threshold {
		state.th = ""
		return state.result(sdktrace.Drop)
	}
	state.th = formatThreshold(s.threshold)
	return state.result(sdktrace.RecordAndSample)
}

func (s *consistent) Description() string { return fmt.Sprintf("Consistent{%g}", s.probability) }

// trustedLinks returns the targets of the links that package tracing made from
// trusted messages. It knows them by their attributes, which only code in this
// process can set: the link that otelhttp makes from the header of an outside
// caller has none.
func trustedLinks(links []trace.Link) []trace.SpanContext {
	var trusted []trace.SpanContext
	for _, l := range links {
		ours, untrusted := false, false
		for _, a := range l.Attributes {
			ours = ours || a.Key == "link.trace_id"
			untrusted = untrusted || a.Key == "link.untrusted"
		}
		if ours && !untrusted && l.SpanContext.IsValid() {
			trusted = append(trusted, l.SpanContext)
		}
	}
	return trusted
}
