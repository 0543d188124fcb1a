package analytics_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/histogram"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// replaying is a system with what an operator replays it from.
type replaying struct {
	*counting
	operator *service.Runtime // its spans are recorded with the system's
	kv       jetstream.KeyValue
}

func startReplaying(tb testing.TB, change ...func(*systemtest.Config)) *replaying {
	tb.Helper()
	var connect func(...nats.Option) (*nats.Conn, error)
	r := &replaying{counting: start(tb, append(change, func(cfg *systemtest.Config) { connect = cfg.Connect })...)}
	r.operator = MustOperate(tb, connect, telemetry.WithSpanProcessor(r.Spans))
	var err error
	if r.kv, err = r.JetStream().KeyValue(context.Background(), stream.AnalyticsBucket); err != nil {
		tb.Fatal(err)
	}
	return r
}

// MustOperate connects as an operator's command does.
func MustOperate(tb testing.TB, connect func(...nats.Option) (*nats.Conn, error), opts ...telemetry.Option) *service.Runtime {
	tb.Helper()
	rt, err := service.NewRuntime(context.Background(), service.Config{
		Name: "replay", Connect: connect, Log: slog.DiscardHandler, Tracing: opts,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := app.StopTimeout(context.Background())
		defer cancel()
		if err := rt.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return rt
}

func (r *replaying) MustReplay(tb testing.TB) analytics.ReplayResult {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	result, err := analytics.Replay(ctx, r.operator)
	if err != nil {
		tb.Fatalf("replay: %v", err)
	}
	return result
}

// MustShow is what the newest replica answers, in full.
func (c *counting) MustShow(tb testing.TB) string {
	tb.Helper()
	w := httptest.NewRecorder()
	c.mu.Lock()
	api := c.apis[len(c.apis)-1]
	c.mu.Unlock()
	api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/analytics", nil))
	return w.Body.String()
}

func (r *replaying) MustStored(tb testing.TB) string {
	tb.Helper()
	entry, err := r.kv.Get(context.Background(), analytics.Name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(entry.Value())
}

func (r *replaying) MustPut(tb testing.TB, value string) {
	tb.Helper()
	if _, err := r.kv.PutString(context.Background(), analytics.Name, value); err != nil {
		tb.Fatal(err)
	}
}

// change returns the stored value with one figure changed.
func change(tb testing.TB, value, figure string, to any) string {
	tb.Helper()
	parts := map[string]any{}
	if err := json.Unmarshal([]byte(value), &parts); err != nil {
		tb.Fatal(err)
	}
	parts[figure] = to
	b, err := json.Marshal(parts)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// Whatever is stored, a replay makes the right numbers of it and tells what was
// wrong; the service, idle or not, goes on from them.
func TestReplay(t *testing.T) {
	t.Parallel()
	sys := startReplaying(t)
	MustPlay(t, sys.counting, 2, "happy", "declined")
	older, olderStored := sys.MustAwait(t), sys.MustStored(t)
	if err := sys.operator.Stream.Restock(context.Background(), "COMPASS", 1); err != nil { // no event of an order's
		t.Fatal(err)
	}
	MustPlay(t, sys.counting, 2, "happy", "sold-out", "undeliverable", "cancelled")
	want := sys.MustAwait(t)
	right, shown := sys.MustStored(t), sys.MustShow(t)

	result := sys.MustReplay(t)
	if result.AsOf != want.AsOf || result.Compared != want.AsOf || len(result.Differences) > 0 {
		t.Errorf("replayed what was right: %+v, want all the same at %d", result, want.AsOf)
	}
	checkReplaySpans(t, sys)
	if got := result.String(); !strings.Contains(got, "were the same") {
		t.Errorf("the operator reads %q", got)
	}

	for _, c := range []struct {
		name, stored string
		differs      string // the one line about it begins so; "": nothing differs
		compared     uint64
	}{
		{"Deleted", "", "", 0},
		{"Behind", olderStored, "", older.AsOf},
		{"BehindAtNoOrdersEvent", change(t, olderStored, "as_of_sequence", older.AsOf+1), "", older.AsOf + 1},
		{"MoreOrders", change(t, right, "orders", analytics.Orders{Created: 99, Shipped: 4, Cancelled: 8}), `orders: {"created":99,`, want.AsOf},
		{"LessMoney", change(t, right, "revenue", event.Money{Amount: 1, Currency: "EUR"}), `revenue: {"amount":1,`, want.AsOf},
		{"NoUnits", change(t, right, "units", nil), "units: {} was stored", want.AsOf},
		{"OtherTimes", change(t, right, "to_parcel", histogram.Histogram{Counts: []int64{4}}), "to_parcel: ", want.AsOf},
		{"NoMinutes", change(t, right, "per_minute", nil), "per_minute: ", want.AsOf},
		{"BeyondTheStream", change(t, right, "as_of_sequence", want.AsOf+1000), "as_of_sequence: ", 0},
		{"NotJSON", `{"orders":`, "the stored value was not a checkpoint", 0},
		{"NotAnAggregate", `["orders"]`, "the stored value was not a checkpoint", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.stored == "" {
				sys.MustDelete(t)
			} else {
				sys.MustPut(t, c.stored)
			}
			// An idle service shows what is stored, if it is an aggregate at all.
			readable := c.stored != "" && !strings.Contains(c.differs, "not a checkpoint")
			if got := sys.MustShow(t) != shown; got != readable {
				t.Errorf("the idle service shows what is stored: %t, want %t", got, readable)
			}
			result := sys.MustReplay(t)
			if result.AsOf != want.AsOf || result.Compared != c.compared {
				t.Errorf("replayed up to %d, compared at %d, want %d and %d", result.AsOf, result.Compared, want.AsOf, c.compared)
			}
			said := strings.Join(result.Differences, "\n")
			if (c.differs != "") != (len(result.Differences) == 1) || !strings.HasPrefix(said, c.differs) || !strings.Contains(result.String(), said) {
				t.Errorf("the operator reads %q, want %q", result, c.differs)
			}
			if got := sys.MustStored(t); got != right {
				t.Errorf("stored: %s, want %s", got, right)
			}
			if got := sys.MustShow(t); got != shown {
				t.Errorf("the idle service shows %s, want %s", got, shown)
			}
		})
	}

	// The service has not noticed any of it up to here.
	MustPlay(t, sys.counting, 1, "happy")
	if got := sys.MustAwait(t).Orders; got.Created != want.Orders.Created+1 || got.Shipped != want.Orders.Shipped+1 || got.Open != 0 {
		t.Errorf("orders after one more: %+v, before it: %+v", got, want.Orders)
	}
	if result := sys.MustReplay(t); len(result.Differences) > 0 {
		t.Errorf("replayed what the service made of it: %v", result)
	}
}

// A service that has taken over damaged numbers takes over the repaired ones too,
// even if they are said to be good for less than the damaged ones were.
func TestReplayUnderTheService(t *testing.T) {
	t.Parallel()
	sys := startReplaying(t)
	MustPlay(t, sys.counting, 1, "happy")
	sys.MustAwait(t)
	sys.MustPut(t, change(t, sys.MustStored(t), "as_of_sequence", 1_000_000))
	MustPlay(t, sys.counting, 1, "happy")
	systemtest.Until(t, "the service takes its events for recorded", func() bool {
		for _, s := range sys.Spans.GetSpans() {
			recorded, _ := attributesOf(s).Value("analytics.recorded")
			if s.Name == "process ORDERS" && recorded.AsInt64() == 0 {
				return true
			}
		}
		return false
	})
	if result := sys.MustReplay(t); len(result.Differences) != 1 {
		t.Errorf("replayed damaged numbers: %v", result)
	}
	MustPlay(t, sys.counting, 1, "happy", "declined")
	if got, want := sys.MustAwait(t).Orders, (analytics.Orders{Created: 4, Shipped: 3, Cancelled: 1}); got != want {
		t.Errorf("orders = %+v, want %+v", got, want)
	}
	if result := sys.MustReplay(t); len(result.Differences) > 0 {
		t.Errorf("replayed what the service made of it: %v", result)
	}
}

// Replays one after the other, while orders are placed, change no number.
func TestReplayWhileRunning(t *testing.T) {
	t.Parallel()
	sys := startReplaying(t, func(cfg *systemtest.Config) { cfg.Replicas = map[string]int{analytics.Name: 2} })
	placed := make(chan struct{})
	go func() {
		defer close(placed)
		for range 5 {
			MustPlay(t, sys.counting, 5, "happy", "declined")
		}
	}()
	for running := true; running; {
		select {
		case <-placed:
			running = false
		default:
		}
		if result := sys.MustReplay(t); len(result.Differences) > 0 {
			t.Errorf("while orders are placed: %v", result)
		}
	}
	got := sys.MustAwait(t)
	if want := (analytics.Orders{Created: 50, Shipped: 25, Cancelled: 25}); got.Orders != want {
		t.Errorf("orders = %+v, want %+v", got.Orders, want)
	}
	if result := sys.MustReplay(t); len(result.Differences) > 0 || result.AsOf != got.AsOf {
		t.Errorf("at the end: %v, want the same up to %d", result, got.AsOf)
	}
}

// Nothing to count is no error; a replay that cannot work says why and changes
// nothing.
func TestReplayOfNothing(t *testing.T) {
	t.Parallel()
	t.Run("NoEvents", func(t *testing.T) {
		sys := startReplaying(t)
		if result := sys.MustReplay(t); result.Events != 0 || result.AsOf != 0 || len(result.Differences) > 0 {
			t.Errorf("replayed nothing: %+v", result)
		}
		MustPlay(t, sys.counting, 1, "happy")
		if got, want := sys.MustAwait(t).Orders, (analytics.Orders{Created: 1, Shipped: 1}); got != want {
			t.Errorf("orders = %+v, want %+v", got, want)
		}
	})
	t.Run("NoStream", func(t *testing.T) {
		operator := MustOperate(t, systemtest.Server(t).Connect)
		if result, err := analytics.Replay(context.Background(), operator); err == nil || !strings.Contains(err.Error(), "ordertrail provision") {
			t.Errorf("replay = %v, %v, want an error that says what to do", result, err)
		}
	})
	t.Run("NoTime", func(t *testing.T) {
		sys := startReplaying(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if result, err := analytics.Replay(ctx, sys.operator); !errors.Is(err, context.Canceled) {
			t.Errorf("replay = %v, %v, want %v", result, err, context.Canceled)
		}
	})
}

// A service that NATS has left shows what it knows.
func TestShownFromMemory(t *testing.T) {
	t.Parallel()
	sys := startReplaying(t)
	MustPlay(t, sys.counting, 1, "happy")
	sys.MustAwait(t)
	shown := sys.MustShow(t)
	systemtest.Until(t, "the service knows that it is stored", func() bool {
		linked := 0
		for _, s := range sys.Spans.GetSpans() {
			if s.Name == "process ORDERS" {
				linked += len(s.Links)
			}
		}
		return linked == 6
	})
	sys.running.Kill()
	if got := sys.MustShow(t); got != shown {
		t.Errorf("without NATS: %s, want %s", got, shown)
	}
}
