package telemetry

import (
	"context"
	"io"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exporters returns a function for each exporter that the environment names. It adds
// the exporter to the processors or readers. The exporters read their other settings
// themselves.
func (o *options) exporters(ctx context.Context) ([]func() error, error) {
	spans := func(e sdktrace.SpanExporter, err error) error {
		if err == nil {
			o.processors = append(o.processors, sdktrace.NewBatchSpanProcessor(e))
		}
		return err
	}
	metrics := func(e sdkmetric.Exporter, err error) error {
		if err == nil {
			o.readers = append(o.readers, sdkmetric.NewPeriodicReader(e))
		}
		return err
	}
	console := &lockedWriter{Writer: o.console}
	split := func(e *otlptrace.Exporter, err error) (sdktrace.SpanExporter, error) { return splitting{e}, err }
	traces, err := chosen("TRACES", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}, map[string]func() error{
		"http/protobuf": func() error { return spans(split(otlptracehttp.New(ctx))) },
		"grpc":          func() error { return spans(split(otlptracegrpc.New(ctx))) },
		"console":       func() error { return spans(stdouttrace.New(stdouttrace.WithWriter(console))) },
	})
	if err != nil {
		return nil, err
	}
	numbers, err := chosen("METRICS", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"}, map[string]func() error{
		"http/protobuf": func() error { return metrics(otlpmetrichttp.New(ctx)) },
		"grpc":          func() error { return metrics(otlpmetricgrpc.New(ctx)) },
		"console":       func() error { return metrics(stdoutmetric.New(stdoutmetric.WithWriter(console))) },
	})
	return append(traces, numbers...), err
}

// lockedWriter is a writer that the exporters of spans and of metrics share. Shutdown
// runs both at the same time.
type lockedWriter struct {
	sync.Mutex
	io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.Lock()
	defer w.Unlock()
	return w.Writer.Write(b)
}

// chosen returns the functions of add for the exporters of a signal: one for the
// console, and one for each protocol of OTLP. The default is OTLP if one of the implying
// variables is set, else none.
func chosen(signal string, implying []string, add map[string]func() error) (makers []func() error, err error) {
	exporters := "OTEL_" + signal + "_EXPORTER"
	names := list(exporters)
	if _, endpoint := getenv(implying...); len(names) == 0 && endpoint != "" {
		names = []string{"otlp"}
	}
	for _, name := range names {
		kind := name
		switch {
		case name == "none" && len(names) == 1:
			return nil, nil
		case name == "otlp":
			_, protocol := getenv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
			if kind = strings.ToLower(protocol); kind == "" {
				kind = "http/protobuf"
			}
		case name != "console":
			return nil, wrong(exporters, "otlp, console or both, separated by a comma, or none", nil)
		}
		if add[kind] != nil { // else check refuses the protocol
			makers = append(makers, add[kind])
		}
	}
	return makers, nil
}
