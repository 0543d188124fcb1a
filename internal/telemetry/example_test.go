package telemetry_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
)

// mustExample starts providers in an empty environment, and prints spans.
func mustExample(opts ...telemetry.Option) *telemetry.Providers {
	for _, v := range variables {
		_ = os.Unsetenv(v)
	}
	p, err := telemetry.Start(context.Background(), "payments", opts...)
	if err != nil {
		panic(err)
	}
	return p
}

// printer prints each span that ends, with its attributes.
type printer struct{}

func (printer) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (printer) Shutdown(context.Context) error                  { return nil }
func (printer) ForceFlush(context.Context) error                { return nil }
func (printer) OnEnd(s sdktrace.ReadOnlySpan) {
	fmt.Print(s.Name())
	for _, a := range s.Attributes() {
		fmt.Printf(" %s=%s", a.Key, a.Value.String())
	}
	fmt.Println()
}

func ExampleStart() {
	ctx := context.Background()
	p, err := telemetry.Start(ctx, "payments", telemetry.WithSpanProcessor(printer{}))
	if err != nil {
		fmt.Println(err) // one that says which variable is wrong
		return
	}
	tracer := tracing.New(
		tracing.WithTracerProvider(p.TracerProvider),
		tracing.WithMeterProvider(p.MeterProvider),
		tracing.WithPropagators(p.Propagator),
	)
	_, send := tracer.StartSend(ctx, nats.NewMsg("payments.confirmed.1"))
	fmt.Println("traced:", send.Msg.Header.Get("traceparent") != "")
	send.End(nil, nil)

	// At the end: first the work, then what it left.
	if err := tracer.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	if err := p.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// traced: true
	// publish messaging.system=nats messaging.operation.name=publish messaging.operation.type=send messaging.destination.name=payments.confirmed.1
}

func ExampleProviders_Shutdown() {
	p := mustExample()
	fmt.Println(p.Shutdown(context.Background()))
	// Output:
	// <nil>
}

func ExampleWithSpanProcessor() {
	p := mustExample(telemetry.WithSpanProcessor(printer{}))
	_, span := p.TracerProvider.Tracer("example").Start(context.Background(), "charge")
	span.End()
	// Output:
	// charge
}

func ExampleWithMetricReader() {
	reader := sdkmetric.NewManualReader()
	p := mustExample(telemetry.WithMetricReader(reader))
	_, send := tracing.New(tracing.WithMeterProvider(p.MeterProvider)).StartSend(context.Background(), nats.NewMsg("payments.confirmed.1"))
	send.End(nil, nil)

	var measured metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &measured); err != nil {
		fmt.Println(err)
	}
	for _, m := range measured.ScopeMetrics[0].Metrics {
		fmt.Println(m.Name)
	}
	// Unordered output:
	// messaging.client.operation.duration
	// messaging.client.sent.messages
}

func ExampleWithGlobal() {
	provider, meters, propagator := otel.GetTracerProvider(), otel.GetMeterProvider(), otel.GetTextMapPropagator()
	defer func() {
		otel.SetTracerProvider(provider)
		otel.SetMeterProvider(meters)
		otel.SetTextMapPropagator(propagator)
	}()

	mustExample(telemetry.WithGlobal(), telemetry.WithSpanProcessor(printer{}))
	_, span := otel.Tracer("example").Start(context.Background(), "charge")
	span.End()
	// Output:
	// charge
}

func ExampleWithBaggageKeys() {
	p := mustExample(telemetry.WithBaggageKeys("order.id"), telemetry.WithSpanProcessor(printer{}))
	b, err := baggage.Parse("order.id=1,customer=private")
	if err != nil {
		fmt.Println(err)
	}
	_, span := p.TracerProvider.Tracer("example").Start(baggage.ContextWithBaggage(context.Background(), b), "charge")
	span.End()
	// Output:
	// charge order.id=1
}

func ExampleWithConsoleWriter() {
	_ = os.Setenv("OTEL_TRACES_EXPORTER", "console")
	defer func() { _ = os.Unsetenv("OTEL_TRACES_EXPORTER") }()
	p, err := telemetry.Start(context.Background(), "payments", telemetry.WithConsoleWriter(lengthy{}))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, span := p.TracerProvider.Tracer("example").Start(context.Background(), "charge")
	span.End()
	if err := p.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// a span in JSON
}

// lengthy stands for a file.
type lengthy struct{}

func (lengthy) Write(b []byte) (int, error) {
	if len(b) > 2 && b[0] == '{' {
		fmt.Println("a span in JSON")
	}
	return len(b), nil
}

// resources prints what a span's service is.
type resources struct{ printer }

func (resources) OnEnd(s sdktrace.ReadOnlySpan) {
	for _, key := range []attribute.Key{"service.name", "shard"} {
		v, _ := s.Resource().Set().Value(key)
		fmt.Println(key, v.String())
	}
}

func ExampleWithResourceAttributes() {
	p := mustExample(telemetry.WithResourceAttributes(attribute.Int("shard", 7)), telemetry.WithSpanProcessor(resources{}))
	_, span := p.TracerProvider.Tracer("example").Start(context.Background(), "charge")
	span.End()
	// Output:
	// service.name payments
	// shard 7
}

func ExampleLogHandler() {
	text := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey, slog.LevelKey:
			return slog.Attr{}
		case "trace_id", "span_id":
			return slog.Int(a.Key, len(a.Value.String())) // they differ each time
		}
		return a
	}})
	log := slog.New(telemetry.LogHandler(text))
	ctx, span := mustExample().TracerProvider.Tracer("example").Start(context.Background(), "charge")
	defer span.End()

	log.InfoContext(ctx, "charged")
	log.Info("without a span")
	// Output:
	// msg=charged trace_id=32 span_id=16
	// msg="without a span"
}
