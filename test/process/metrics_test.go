package process

import (
	"syscall"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
)

// Every service exports the metrics of what it does with messages, the last of
// them when it ends, if it is asked to.
func TestMetrics(t *testing.T) {
	t.Parallel()
	collected := startCollector(t)
	server := startNATS(t)
	server.provision(t)
	running := map[string]*process{}
	for _, name := range services {
		running[name] = server.service(t, name, soon, "OTEL_METRICS_EXPORTER=otlp", "OTEL_TRACES_EXPORTER=none",
			"OTEL_EXPORTER_OTLP_ENDPOINT="+collected.URL)
	}
	for _, p := range running {
		p.ready(t)
	}
	play(t, demo.Scenarios(), running[orders.Name].url(t))
	for _, p := range running {
		p.signal(t, syscall.SIGTERM)
	}
	for _, p := range running {
		if code := p.wait(t, 10*time.Second); code != 0 {
			t.Errorf("%s: exit code %d on SIGTERM", p.name, code)
		}
	}

	const (
		operation = "messaging.client.operation.duration"
		process   = "messaging.process.duration"
		sent      = "messaging.client.sent.messages"
		consumed  = "messaging.client.consumed.messages"
	)
	all := []string{operation, process, sent, consumed}
	collected.mu.Lock()
	defer collected.mu.Unlock()
	for name, want := range map[string][]string{
		orders.Name: all, payments.Name: all, inventory.Name: all, fulfillment.Name: all, notify.Name: all,
		analytics.Name: {process, consumed}, // it publishes nothing
	} {
		for _, metric := range want {
			if !collected.metrics[name][metric] {
				t.Errorf("%s exported %v, want %s too", name, collected.metrics[name], metric)
			}
		}
	}
	if len(collected.spans) != 0 {
		t.Errorf("%d spans were exported, which nobody has asked for", len(collected.spans))
	}
}
