package setup

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	exporterVariable       = "OTEL_TRACES_EXPORTER"
	endpointVariable       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesEndpointVariable = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	protocolVariable       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	tracesProtocolVariable = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
)

// newExporters makes the exporters that the environment names.
func newExporters(ctx context.Context, o options) ([]sdktrace.SpanExporter, error) {
	names, err := exporterNames()
	if err != nil {
		return nil, err
	}
	var exporters []sdktrace.SpanExporter
	for _, name := range names {
		e, err := newExporter(ctx, name, o)
		if err != nil {
			return nil, errors.Join(err, closeAll(ctx, exporters))
		}
		exporters = append(exporters, e)
	}
	return exporters, nil
}

// exporterNames reads OTEL_TRACES_EXPORTER. It differs from the specification in
// the default: that is otlp even if nobody listens, and a program that a
// newcomer runs should not report failed exports.
func exporterNames() ([]string, error) {
	_, value := getenv(exporterVariable)
	if value == "" {
		if _, endpoint := getenv(tracesEndpointVariable, endpointVariable); endpoint == "" {
			return nil, nil
		}
		return []string{"otlp"}, nil
	}
	var names []string
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains([]string{"otlp", "console", "none"}, name) {
			return nil, fmt.Errorf("%s is %q; allowed are otlp, console, none, or several with commas between", exporterVariable, value)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if !slices.Contains(names, "none") {
		return names, nil
	}
	if len(names) > 1 {
		return nil, fmt.Errorf("%s is %q; none goes with no other exporter", exporterVariable, value)
	}
	return nil, nil
}

func newExporter(ctx context.Context, name string, o options) (sdktrace.SpanExporter, error) {
	if name == "console" {
		e, err := stdouttrace.New(stdouttrace.WithWriter(o.console))
		if err != nil {
			return nil, fmt.Errorf("console exporter: %w", err)
		}
		return e, nil
	}
	return newOTLP(ctx)
}

// newOTLP makes an OTLP exporter for the protocol of the environment. All its
// other settings the exporter reads itself.
func newOTLP(ctx context.Context) (sdktrace.SpanExporter, error) {
	variable, protocol := getenv(tracesProtocolVariable, protocolVariable)
	switch protocol {
	case "", "http/protobuf":
		if err := checkEndpoint(); err != nil {
			return nil, err
		}
		e, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTLP exporter over HTTP: %w", err)
		}
		return e, nil
	case "grpc":
		e, err := otlptracegrpc.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTLP exporter over gRPC: %w", err)
		}
		return e, nil
	default:
		return nil, fmt.Errorf("%s is %q; allowed are http/protobuf and grpc", variable, protocol)
	}
}

// checkEndpoint refuses what the HTTP exporter would take without a word and
// never reach, above all a host and port without a scheme. The value is not
// quoted: it may hold credentials.
func checkEndpoint() error {
	variable, value := getenv(tracesEndpointVariable, endpointVariable)
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s is no URL such as http://localhost:4318", variable)
	}
	return nil
}
