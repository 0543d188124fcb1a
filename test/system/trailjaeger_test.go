package system_test

import (
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// A running Jaeger, for TestTrailFromJaeger. With -update it also records what
// TestTrailFromRecordedJaeger replays:
//
//	go test ./test/system -run FromJaeger -jaeger http://127.0.0.1:16686 -otlp http://127.0.0.1:4318 -update
var (
	jaegerURL = flag.String("jaeger", "", "Jaeger's query API")
	otlpURL   = flag.String("otlp", "", "where that Jaeger takes in spans")
	update    = flag.Bool("update", false, "record what that Jaeger answers")
)

const recordings = "../../trail/testdata/jaeger"

// everything is an order that has all that a trail can show: retries, a fan-in, a
// refusal, compensation, a batch and a deadline.
var everything = demo.Scenario{
	Scenario: scenario.Scenario{
		Name: "everything", Token: "tok_flaky", SKUs: []string{"TRAIL-MAP", "COMPASS"}, Addr: "undeliverable, 1 Trailhead Way, 12345 Sampleton",
	},
	Want: demo.Want{State: orders.StateCancelled, Reason: event.ReasonUndeliverable, Refunded: true, Events: []event.Type{
		event.OrderCreated, event.NotifyReceived, event.PaymentConfirmed, event.InventoryReserved, event.FulfillmentCancelled,
		event.PaymentRefunded, event.InventoryReleased, event.NotifyCancelled, event.NotifyRefunded,
	}},
}

// A running Jaeger gives the same trails as the store in the process.
func TestTrailFromJaeger(t *testing.T) {
	if *jaegerURL == "" {
		t.Skip("no -jaeger and -otlp are given: what a Jaeger has answered is replayed by another test")
	}
	at, err := url.Parse(*jaegerURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", *otlpURL)
	sys := systemtest.Start(t, systemtest.Deadline(soon))
	played := map[string]ordertrail.Order{}
	for _, sc := range append(demo.Scenarios(), everything) {
		order, err := demo.Play(t.Context(), sys.Shop, sc)
		if err != nil {
			t.Fatalf("%s: %v", sc.Name, err)
		}
		var got ordertrail.Trail
		systemtest.Until(t, "the trail of "+sc.Name+" is complete", func() bool {
			got = getTrail(t, sys.URL+"/orders/"+order.ID+"/trail")
			return got.Complete
		})
		played[sc.Name] = ordertrail.Order{ID: order.ID, State: got.State, Reason: got.Reason, Refunded: got.Refunded, Events: got.Events, Now: got.End.Add(time.Hour)}
	}
	ctx, cancel := app.StopTimeout(context.Background())
	defer cancel()
	if err := sys.Stop(ctx); err != nil { // exports the last spans
		t.Fatal(err)
	}
	for name, order := range played {
		want := stitch(t, sys.Trails, order)
		systemtest.Until(t, "Jaeger has the spans of "+name, func() bool { return stitch(t, trail.NewJaeger(at), order) == want })
	}
	if *update {
		record(t, at, sys.Trails, played[everything.Name])
	}
}

// stitch is an order's trail as JSON.
func stitch(t *testing.T, source trail.Source, order ordertrail.Order) string {
	t.Helper()
	found, err := source.Find(t.Context(), string(event.OrderIDKey), order.ID, 1000)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(ordertrail.Stitch(order, found))
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// record keeps Jaeger's answers about an order, and the trail that the store gives.
func record(t *testing.T, at *url.URL, store *trail.Store, order ordertrail.Order) {
	t.Helper()
	if err := os.MkdirAll(recordings, 0o755); err != nil {
		t.Fatal(err)
	}
	save := func(name string, text []byte) {
		if err := os.WriteFile(filepath.Join(recordings, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	save("trail.json", []byte(stitch(t, store, order)))
	asked := ""
	proxy := httputil.NewSingleHostReverseProxy(at)
	proxy.ModifyResponse = func(r *http.Response) error {
		text, err := httputil.DumpResponse(r, true)
		save(asked+".http", text)
		return err
	}
	server := httptest.NewServer(proxy)
	defer server.Close()
	through, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	jaeger := trail.NewJaeger(through)
	found, err := store.Find(t.Context(), string(event.OrderIDKey), order.ID, 1000)
	if err != nil {
		t.Fatal(err)
	}
	asked = "order"
	if _, err := jaeger.Find(t.Context(), string(event.OrderIDKey), order.ID, 1000); err != nil {
		t.Fatal(err)
	}
	asked = "trace"
	if _, err := jaeger.Traces(t.Context(), found.Spans[0].TraceID); err != nil {
		t.Fatal(err)
	}
	// This is the search of Jaeger's page by ui-config.json.
	asked = "backlinks"
	answer, err := http.Get(server.URL + "/api/v3/traces?" + url.Values{
		"query.startTimeMin": {"2026-01-01T00:00:00Z"}, "query.startTimeMax": {"2126-01-01T00:00:00Z"},
		"query.attributes": {`{"link.trace_id":"` + order.Events[0].TraceID + `"}`},
	}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	asked = "nothing"
	if _, err := jaeger.Find(t.Context(), string(event.OrderIDKey), event.NewOrderID(), 1000); err != nil {
		t.Fatal(err)
	}
	asked = "notrace"
	if _, err := jaeger.Traces(t.Context(), "0123456789abcdef0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
}
