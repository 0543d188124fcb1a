package orders_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// With an operator's limit on the stream, an order that does not fit is refused, and
// no accepted order is lost.
func TestLimitOfTheStream(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := shoptest.Open(t, systemtest.Server(t).Connect, orders.Wire(many, many, time.Now))
	of, err := s.JetStream.Stream(ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	limit := func(bytes int64) {
		t.Helper()
		cfg := of.CachedInfo().Config
		cfg.MaxBytes = bytes
		if _, err := s.JetStream.UpdateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	const order = 1000 // bytes, about
	limit(5 * order)
	var accepted []string
	refused := shoptest.Answer{}
	for refused.Response == nil {
		if a := s.MustPost(t, shoptest.Body(nil)); a.StatusCode == http.StatusAccepted {
			accepted = append(accepted, a.MustOrder(t).ID)
		} else {
			refused = a
		}
		if len(accepted) > 100 {
			t.Fatal("all orders were accepted")
		}
	}
	refused.WantProblem(t, http.StatusServiceUnavailable, "a stream of NATS is full (maximum bytes exceeded)", "try again")
	if len(accepted) == 0 {
		t.Error("no order was accepted")
	}
	for _, id := range accepted {
		s.MustDo(t, http.MethodGet, "/orders/"+id, "", nil).WantStatus(t, http.StatusOK)
	}
	if info, err := of.Info(ctx); err != nil || info.State.FirstSeq != 1 || info.Config.Discard != jetstream.DiscardNew {
		t.Errorf("the stream begins at %d (%v)", info.State.FirstSeq, err)
	}
	limit(-1)
	s.MustPost(t, shoptest.Body(nil)).WantStatus(t, http.StatusAccepted)
}
