package telemetry

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/pkg/tracing/sampling"
)

// getenv returns the value of the first variable of names that is not empty, and its
// name.
func getenv(names ...string) (name, value string) {
	for _, name = range names {
		if value = strings.TrimSpace(os.Getenv(name)); value != "" {
			break
		}
	}
	return name, value
}

// list returns the elements of a comma-separated variable, in lower case and without
// repetitions.
func list(name string) (all []string) {
	_, value := getenv(name)
	for element := range strings.SplitSeq(strings.ToLower(value), ",") {
		if element = strings.TrimSpace(element); element != "" && !slices.Contains(all, element) {
			all = append(all, element)
		}
	}
	return all
}

// wrong is the error for a variable. It does not repeat the value, which may hold
// credentials.
func wrong(name, want string, err error) error {
	if err == nil {
		return fmt.Errorf("setting %s: want %s", name, want)
	}
	return fmt.Errorf("setting %s: want %s: %w", name, want, err)
}

func newPropagator() (propagation.TextMapPropagator, error) {
	const name = "OTEL_PROPAGATORS"
	names := list(name)
	if len(names) == 0 {
		names = []string{"tracecontext", "baggage"}
	}
	p, err := autoprop.TextMapPropagator(names...)
	if err != nil {
		return nil, wrong(name, "tracecontext, baggage, b3, b3multi, jaeger, xray or ottrace, several separated by commas, or none", err)
	}
	return p, nil
}

// newSampler reads OTEL_TRACES_SAMPLER. The SDK's own parentbased samplers know no
// links.
func newSampler() (sdktrace.Sampler, error) {
	const name = "OTEL_TRACES_SAMPLER"
	_, value := getenv(name)
	if value == "" {
		value = "parentbased_always_on"
	}
	root, parentBased := strings.CutPrefix(strings.ToLower(value), "parentbased_")
	var sampler sdktrace.Sampler
	switch root {
	case "always_on":
		sampler = sdktrace.AlwaysSample()
	case "always_off":
		sampler = sdktrace.NeverSample()
	case "traceidratio":
		arg, value := getenv(name + "_ARG")
		ratio, err := strconv.ParseFloat(value, 64)
		if value == "" {
			ratio, err = 1, nil
		}
		if err != nil || !(ratio >= 0 && ratio <= 1) { // the negation also refuses NaN
			return nil, wrong(arg, "a number from 0 to 1", nil)
		}
		sampler = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, wrong(name, "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio", nil)
	}
	if parentBased {
		sampler = sampling.LinkAware(sampler)
	}
	return sampler, nil
}

// newSpanLimits returns the SDK's limits, but as many links and events as a span
// needs: the SDK drops the oldest of more than 128, and with each link the message of
// a batch.
func newSpanLimits() sdktrace.SpanLimits {
	limits := sdktrace.NewSpanLimits()
	for name, limit := range map[string]*int{
		"OTEL_SPAN_LINK_COUNT_LIMIT":  &limits.LinkCountLimit,
		"OTEL_SPAN_EVENT_COUNT_LIMIT": &limits.EventCountLimit,
	} {
		if os.Getenv(name) == "" {
			*limit = -1
		}
	}
	return limits
}
