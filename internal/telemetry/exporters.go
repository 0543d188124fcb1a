package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// signal is what the environment calls one kind of telemetry.
type signal struct {
	exporter string
	endpoint string
	protocol string
	// implied are the variables that ask for export where exporter is not set.
	implied []string
}

const (
	anyEndpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	anyProtocol = "OTEL_EXPORTER_OTLP_PROTOCOL"
)

var (
	traces = signal{
		exporter: "OTEL_TRACES_EXPORTER",
		endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
		implied:  []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", anyEndpoint},
	}
	// An endpoint for everything is no wish for metrics: Jaeger, say, refuses them.
	metrics = signal{
		exporter: "OTEL_METRICS_EXPORTER",
		endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
		protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
		implied:  []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"},
	}
)

// exporters reads the signal's exporter variable. It differs from the
// specification in the default: that is otlp even if nobody listens, and a
// program that a newcomer runs should not report failed exports.
func (s signal) exporters() ([]string, error) {
	_, value := getenv(s.exporter)
	if value == "" {
		if _, endpoint := getenv(s.implied...); endpoint == "" {
			return nil, nil
		}
		return []string{"otlp"}, nil
	}
	var names []string
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains([]string{"otlp", "console", "none"}, name) {
			return nil, fmt.Errorf("%s is %q; allowed are otlp, console, none, or several with commas between", s.exporter, value)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if !slices.Contains(names, "none") {
		return names, nil
	}
	if len(names) > 1 {
		return nil, fmt.Errorf("%s is %q; none goes with no other exporter", s.exporter, value)
	}
	return nil, nil
}

// newEach makes what the environment names, with a function for each of otlp over
// HTTP, otlp over gRPC, and console. The exporters read all their other settings
// themselves.
func newEach[E interface{ Shutdown(context.Context) error }](ctx context.Context, s signal, http, grpc, console func() (E, error)) ([]E, error) {
	names, err := s.exporters()
	if err != nil {
		return nil, err
	}
	var all []E
	for _, name := range names {
		var e E
		var err error
		if name == "console" {
			e, err = console()
		} else {
			e, err = overOTLP(s, http, grpc)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s exporter %s: %w", s.exporter, name, err), closeAll(ctx, all))
		}
		all = append(all, e)
	}
	return all, nil
}

func newSpanExporters(ctx context.Context, o options) ([]sdktrace.SpanExporter, error) {
	return newEach(ctx, traces,
		func() (sdktrace.SpanExporter, error) { e, err := otlptracehttp.New(ctx); return splitting{e}, err },
		func() (sdktrace.SpanExporter, error) { e, err := otlptracegrpc.New(ctx); return splitting{e}, err },
		func() (sdktrace.SpanExporter, error) { return stdouttrace.New(stdouttrace.WithWriter(o.console)) })
}

func newMetricExporters(ctx context.Context, o options) ([]sdkmetric.Exporter, error) {
	return newEach(ctx, metrics,
		func() (sdkmetric.Exporter, error) { return otlpmetrichttp.New(ctx) },
		func() (sdkmetric.Exporter, error) { return otlpmetricgrpc.New(ctx) },
		func() (sdkmetric.Exporter, error) { return stdoutmetric.New(stdoutmetric.WithWriter(o.console)) })
}

// closeAll shuts exporters down that will not be used.
func closeAll[E interface{ Shutdown(context.Context) error }](ctx context.Context, exporters []E) error {
	var err error
	for _, e := range exporters {
		err = errors.Join(err, e.Shutdown(ctx))
	}
	return err
}

// overOTLP calls the function for the protocol that the environment names.
func overOTLP[E any](s signal, http, grpc func() (E, error)) (none E, _ error) {
	variable, protocol := getenv(s.protocol, anyProtocol)
	switch protocol {
	case "", "http/protobuf":
		if err := s.checkEndpoint(); err != nil {
			return none, err
		}
		return http()
	case "grpc":
		return grpc()
	default:
		return none, fmt.Errorf("%s is %q; allowed are http/protobuf and grpc", variable, protocol)
	}
}

// checkEndpoint refuses what the HTTP exporter would take without a word and
// never reach, above all a host and port without a scheme. The value is not
// quoted: it may hold credentials.
func (s signal) checkEndpoint() error {
	variable, value := getenv(s.endpoint, anyEndpoint)
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s is no URL such as http://localhost:4318", variable)
	}
	return nil
}
