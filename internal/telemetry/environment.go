package telemetry

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/pkg/tracing/sampling"
)

// getenv returns the value of the first of names that is set. An empty variable
// is an unset one, says OpenTelemetry's environment variable specification.
func getenv(names ...string) (name, value string) {
	for _, name := range names {
		if value := strings.TrimSpace(os.Getenv(name)); value != "" {
			return name, value
		}
	}
	return "", ""
}

// disabled reports whether the SDK is switched off: by true in any case, and by
// nothing else, says the specification of booleans.
func disabled() bool {
	_, value := getenv("OTEL_SDK_DISABLED")
	return strings.EqualFold(value, "true")
}

// newSampler reads OTEL_TRACES_SAMPLER. The SDK's own reader is not exported,
// and a sampler given in code overrides what it read.
func newSampler() (sdktrace.Sampler, error) {
	_, value := getenv("OTEL_TRACES_SAMPLER")
	switch strings.ToLower(value) {
	case "", "always_on", "parentbased_always_on":
		return sampling.LinkAware(sdktrace.AlwaysSample()), nil
	case "always_off", "parentbased_always_off":
		return sampling.LinkAware(sdktrace.NeverSample()), nil
	case "traceidratio", "parentbased_traceidratio":
		ratio, err := samplerRatio()
		if err != nil {
			return nil, err
		}
		return sampling.LinkAware(sdktrace.TraceIDRatioBased(ratio)), nil
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER is %q; allowed are always_on, always_off, traceidratio, "+
			"parentbased_always_on, parentbased_always_off, parentbased_traceidratio", value)
	}
}

// samplerRatio reads OTEL_TRACES_SAMPLER_ARG. Default: 1.
func samplerRatio() (float64, error) {
	_, value := getenv("OTEL_TRACES_SAMPLER_ARG")
	if value == "" {
		return 1, nil
	}
	ratio, err := strconv.ParseFloat(value, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) { // the negation also refuses NaN
		return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is %q; allowed is a number from 0 to 1", value)
	}
	return ratio, nil
}

// newSpanLimits returns the SDK's limits, with links and events unlimited
// unless the environment says otherwise: the SDK keeps 128 links and drops the
// oldest, so a larger batch would lose messages.
func newSpanLimits() (sdktrace.SpanLimits, error) {
	limits := sdktrace.NewSpanLimits()
	for _, l := range []struct {
		name  string
		limit *int
	}{
		{"OTEL_SPAN_LINK_COUNT_LIMIT", &limits.LinkCountLimit},
		{"OTEL_SPAN_EVENT_COUNT_LIMIT", &limits.EventCountLimit},
	} {
		_, value := getenv(l.name)
		if value == "" {
			*l.limit = -1
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return limits, fmt.Errorf("%s is %q; allowed is a whole number, negative for no limit", l.name, value)
		}
		*l.limit = n
	}
	return limits, nil
}
