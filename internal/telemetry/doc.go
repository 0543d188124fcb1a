// Package telemetry makes the OpenTelemetry providers of one service from the
// standard OTEL_* variables, with the defaults that a log of messages needs:
// links without a limit, and sampling that keeps linked traces together.
//
// It is apart from package tracing so that only those who want its exporters
// import them. It sets up traces and metrics, no logs, and nothing global unless
// asked to: several services may share a process.
//
// # Environment
//
//	OTEL_SDK_DISABLED              true: no spans and no metrics at all
//	OTEL_TRACES_EXPORTER           otlp, console, none, or several of them with commas between.
//	                               Default: otlp if an OTLP endpoint is set, else none
//	OTEL_METRICS_EXPORTER          the same. Default: otlp if OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set, else none:
//	                               an endpoint for everything is often one for traces alone
//	OTEL_EXPORTER_OTLP_PROTOCOL    http/protobuf (default) or grpc; OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
//	                               and OTEL_EXPORTER_OTLP_METRICS_PROTOCOL go before
//	OTEL_TRACES_SAMPLER, _ARG      see below. Default: always_on
//	OTEL_SPAN_LINK_COUNT_LIMIT     Default: unlimited
//	OTEL_SPAN_EVENT_COUNT_LIMIT    Default: unlimited
//	OTEL_RESOURCE_ATTRIBUTES       all but service.name
//
// and what the SDK and the OTLP exporters read themselves: OTEL_EXPORTER_OTLP_*,
// OTEL_BSP_*, OTEL_METRIC_EXPORT_*, the other span limits. A variable that is empty counts as unset. A
// value that is not understood is an error of [Start], which names the variable
// and what it may be.
//
// All six values of OTEL_TRACES_SAMPLER are understood: always_on, always_off,
// traceidratio and the same with parentbased_ before them. X and parentbased_X
// mean the same here, [sampling.LinkAware] of X: a sampler that does not follow
// parents tears traces apart.
//
// Package autoexport of opentelemetry-go-contrib reads the same variables. It
// exports to localhost where nothing is set, brings Prometheus and logs into
// every importer's binary, and knows no sampler, so it is not used here.
package telemetry
