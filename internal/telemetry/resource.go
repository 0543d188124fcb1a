package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// newResource describes the service. Later sources go before earlier ones: the
// SDK and a random service.instance.id, the options, OTEL_RESOURCE_ATTRIBUTES,
// and last the service's own name. OTEL_SERVICE_NAME names a process; this
// package names services, of which a process may hold several, so the variable
// is left out of account: it would make them all the same.
func newResource(ctx context.Context, service string, o options) (*resource.Resource, error) {
	if service == "" {
		return nil, errors.New("setup: the service has no name")
	}
	r, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithService(), // the random id; its name is replaced below
		resource.WithAttributes(o.attributes...),
		resource.WithFromEnv(),
		resource.WithAttributes(semconv.ServiceName(service)),
	)
	if err != nil {
		return nil, fmt.Errorf("resource from OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return r, nil
}
