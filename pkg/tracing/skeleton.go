// Package tracing is OpenTelemetry instrumentation for NATS JetStream with span links.
package tracing

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const RelationshipKey = attribute.Key("link.relationship")

type Tracer struct{}

type Option func(*Tracer)

func New(opts ...Option) *Tracer { return &Tracer{} }

func WithTracerProvider(p trace.TracerProvider) Option             { return func(*Tracer) {} }
func WithPropagator(p propagation.TextMapPropagator) Option        { return func(*Tracer) {} }
func WithServerAddress(host string, port int) Option               { return func(*Tracer) {} }
func WithDestinationTemplate(f func(subject string) string) Option { return func(*Tracer) {} }
func TopologyParent() Option                                       { return func(*Tracer) {} }

type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

func (t *Tracer) Publish(ctx context.Context, js Publisher, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return js.PublishMsg(ctx, msg, opts...)
}

type Send struct{ Msg *nats.Msg }

func (t *Tracer) StartSend(ctx context.Context, msg *nats.Msg) (context.Context, *Send) {
	return ctx, &Send{Msg: msg}
}

func (s *Send) End(ack *jetstream.PubAck, err error) {}

type ProcessOption func(*int)

func Relationship(name string) ProcessOption                                  { return nil }
func Ephemeral() ProcessOption                                                { return nil }
func Untrusted() ProcessOption                                                { return nil }
func Destination(name string) ProcessOption                                   { return nil }
func LinkAttributes(f func(jetstream.Msg) []attribute.KeyValue) ProcessOption { return nil }
func Attributes(attrs ...attribute.KeyValue) ProcessOption                    { return nil }

func (t *Tracer) Process(ctx context.Context, msg jetstream.Msg, handler func(context.Context, jetstream.Msg) error, opts ...ProcessOption) error {
	return handler(ctx, msg)
}

func (t *Tracer) ProcessBatch(ctx context.Context, msgs []jetstream.Msg, handler func(context.Context, []jetstream.Msg) error, opts ...ProcessOption) error {
	return handler(ctx, msgs)
}

func (t *Tracer) Link(header nats.Header, attrs ...attribute.KeyValue) trace.Link {
	return trace.Link{}
}

type HeaderCarrier nats.Header

func (c HeaderCarrier) Get(key string) string      { return "" }
func (c HeaderCarrier) Set(key, value string)      { c[key] = []string{value} }
func (c HeaderCarrier) Keys() []string             { return nil }
func (c HeaderCarrier) Values(key string) []string { return nil }

type SamplerOption func(*int)

func AnySampled() SamplerOption { return nil }

func LinkAware(root sdktrace.Sampler, opts ...SamplerOption) sdktrace.Sampler { return root }

var _ time.Duration
