// Command foreign is an application that knows nothing of this repository: three services
// that hand work on through queues, and link the span that they got it from.
package main

import (
	"context"
	"fmt"
	"log"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	ctx := context.Background()
	var providers []*sdktrace.TracerProvider
	service := func(name string) trace.Tracer {
		exporter, err := otlptracehttp.New(ctx) // to OTEL_EXPORTER_OTLP_ENDPOINT
		if err != nil {
			log.Fatal(err)
		}
		p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", name))))
		providers = append(providers, p)
		return p.Tracer("foreign")
	}
	web, resizer, mailer := service("web"), service("resizer"), service("mailer")

	uploading, upload := web.Start(ctx, "upload", trace.WithSpanKind(trace.SpanKindServer))
	_, queued := web.Start(uploading, "enqueue", trace.WithSpanKind(trace.SpanKindProducer))
	queued.End()
	upload.End()

	var done []trace.Link
	for _, size := range []string{"small", "large"} { // a fan-out
		resizing, resize := resizer.Start(ctx, "resize", trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: queued.SpanContext()}))
		resize.SetAttributes(attribute.String("size", size))
		_, sent := resizer.Start(resizing, "report", trace.WithSpanKind(trace.SpanKindProducer))
		sent.End()
		resize.End()
		done = append(done, trace.Link{SpanContext: sent.SpanContext()})
	}
	_, mail := mailer.Start(ctx, "mail", trace.WithNewRoot(), trace.WithLinks(done...)) // a fan-in
	mail.SetStatus(codes.Error, "no such address")
	mail.End()
	_, other := web.Start(ctx, "unrelated", trace.WithNewRoot())
	other.End()

	for _, p := range providers {
		if err := p.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(upload.SpanContext().TraceID(), mail.SpanContext().SpanID())
}
