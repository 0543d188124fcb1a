// Package telemetry makes the OpenTelemetry providers of one service from the OTEL_*
// variables:
//
//	OTEL_SDK_DISABLED              true or false. true: no spans and no metrics; context is still passed on
//	OTEL_SERVICE_NAME              replaces the name of a service that has its process for itself
//	OTEL_RESOURCE_ATTRIBUTES       further attributes of the service
//	OTEL_PROPAGATORS               Default: tracecontext,baggage
//	OTEL_TRACES_EXPORTER           otlp, console, both, or none. Default: otlp if an endpoint is set, else none
//	OTEL_METRICS_EXPORTER          the same. Default: otlp if OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set, else none,
//	                               because many backends of traces refuse metrics
//	OTEL_EXPORTER_OTLP_ENDPOINT    a URL; also _TRACES_ENDPOINT and _METRICS_ENDPOINT
//	OTEL_EXPORTER_OTLP_PROTOCOL    http/protobuf (default) or grpc; also _TRACES_PROTOCOL and _METRICS_PROTOCOL
//	OTEL_TRACES_SAMPLER            Default: parentbased_always_on. The parentbased samplers also follow the
//	                               decision of the message that a root span links: [sampling.LinkAware]
//	OTEL_TRACES_SAMPLER_ARG        Default: 1
//	OTEL_SPAN_LINK_COUNT_LIMIT     Default: unlimited
//	OTEL_SPAN_EVENT_COUNT_LIMIT    Default: unlimited
//
// and those that the SDK and its exporters read: OTEL_EXPORTER_OTLP_*, OTEL_BSP_*,
// OTEL_METRIC_EXPORT_*, the other span limits. They mean what OpenTelemetry's
// specification says, but nothing is exported by default. An empty variable counts as
// unset, values may be in any case, and Start refuses a value that it does not know. (The
// specification wants a warning instead, and that a boolean other than true is false.)
//
// Package autoexport of opentelemetry-go-contrib is not used: it knows no lists of
// exporters, writes the console's spans only to standard output, exports to localhost
// by default, and links Prometheus and logs into each binary.
package telemetry
