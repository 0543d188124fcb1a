package telemetry

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The SDK and its exporters read these variables. They ignore an invalid value, or use
// another one, so check looks at each, whether or not something is exported.

// least holds the variables whose value is a whole number, and the least one that is
// valid.
var least = map[string]int{
	"OTEL_BSP_SCHEDULE_DELAY":        1,
	"OTEL_BSP_EXPORT_TIMEOUT":        0,
	"OTEL_BSP_MAX_QUEUE_SIZE":        1,
	"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 1,
	"OTEL_METRIC_EXPORT_INTERVAL":    1,
	"OTEL_METRIC_EXPORT_TIMEOUT":     1,

	"OTEL_ATTRIBUTE_COUNT_LIMIT":             anyNumber,
	"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT":      anyNumber,
	"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT":        anyNumber,
	"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": anyNumber,
	"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT":       anyNumber,
	"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT":        anyNumber,
	"OTEL_SPAN_LINK_COUNT_LIMIT":             anyNumber,
	"OTEL_SPAN_EVENT_COUNT_LIMIT":            anyNumber,
}

// anyNumber marks a limit; a negative one is none.
const anyNumber = -1 << 31

// oneOf holds the variables with a few valid values, in any case.
var oneOf = map[string][]string{
	"OTEL_SDK_DISABLED":                                        {"true", "false"},
	"OTEL_METRICS_EXEMPLAR_FILTER":                             {"always_on", "always_off", "trace_based"},
	"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE":        {"cumulative", "delta", "lowmemory"},
	"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": {"explicit_bucket_histogram", "base2_exponential_bucket_histogram"},
}

// ofOTLP checks the variables OTEL_EXPORTER_OTLP_<suffix>. Each exists for traces and for
// metrics, too.
var ofOTLP = map[string]func(name string) error{
	"ENDPOINT":    checkEndpoint,
	"PROTOCOL":    func(name string) error { return checkOneOf(name, "http/protobuf", "grpc") },
	"COMPRESSION": func(name string) error { return checkOneOf(name, "gzip", "none") },
	"INSECURE":    func(name string) error { return checkOneOf(name, "true", "false") },
	"TIMEOUT":     func(name string) error { return checkNumber(name, 0) },
	"HEADERS":     checkHeaders,

	"CERTIFICATE":        checkFile,
	"CLIENT_CERTIFICATE": checkFile,
	"CLIENT_KEY":         checkFile,
}

// check returns an error for each variable with an invalid value, in the order of their
// names.
func check() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(least)) {
		errs = append(errs, checkNumber(name, least[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(oneOf)) {
		errs = append(errs, checkOneOf(name, oneOf[name]...))
	}
	for _, suffix := range slices.Sorted(maps.Keys(ofOTLP)) {
		for _, signal := range []string{"", "TRACES_", "METRICS_"} {
			errs = append(errs, ofOTLP[suffix]("OTEL_EXPORTER_OTLP_"+signal+suffix))
		}
	}
	return errors.Join(errs...)
}

func checkNumber(name string, least int) error {
	value := os.Getenv(name) // with spaces around it, the SDK ignores a number
	if value == "" {
		return nil
	}
	n, err := strconv.Atoi(value)
	switch {
	case err == nil && n >= least:
		return nil
	case least == anyNumber:
		return wrong(name, "a whole number, negative for no limit", nil)
	}
	return wrong(name, fmt.Sprintf("a whole number, %d or more", least), nil)
}

func checkOneOf(name string, valid ...string) error {
	_, value := getenv(name)
	if value == "" || slices.Contains(valid, strings.ToLower(value)) {
		return nil
	}
	want := strings.Join(valid[:len(valid)-1], ", ") + " or " + valid[len(valid)-1]
	return wrong(name, want, nil)
}

// checkEndpoint refuses an OTLP endpoint that is no URL. The exporters would silently
// use localhost instead.
func checkEndpoint(name string) error {
	_, value := getenv(name)
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return wrong(name, "a URL such as http://localhost:4318, or http://localhost:4317 for gRPC", nil)
	}
	return nil
}

func checkHeaders(name string) error {
	_, value := getenv(name)
	if value == "" {
		return nil
	}
	for header := range strings.SplitSeq(value, ",") {
		key, v, found := strings.Cut(header, "=")
		if _, err := url.PathUnescape(v); !found || strings.TrimSpace(key) == "" || err != nil {
			return wrong(name, "key=value, several separated by commas, values percent-encoded", nil)
		}
	}
	return nil
}

func checkFile(name string) error {
	_, path := getenv(name)
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return wrong(name, "a file that can be read", err)
	}
	return f.Close()
}
