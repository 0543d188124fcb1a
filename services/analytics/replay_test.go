package analytics_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/histogram"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/test/systemtest"
)

// change returns a stored value with one field changed.
func change(tb testing.TB, value, field string, to any) string {
	tb.Helper()
	parts := map[string]any{}
	if err := json.Unmarshal([]byte(value), &parts); err != nil {
		tb.Fatal(err)
	}
	parts[field] = to
	b, err := json.Marshal(parts)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// A replay replaces any stored value by the right one and reports what was wrong. The
// service continues from it, and shows it even when it is idle.
func TestReplay(t *testing.T) {
	t.Parallel()
	sys := start(t)
	sys.MustPlay(t, 2, "happy", "declined")
	older, olderStored := sys.MustAwait(t), sys.MustStored(t)
	if err := inventory.Restock(context.Background(), sys.operator.Stream, "COMPASS", 1); err != nil { // not an event of an order
		t.Fatal(err)
	}
	sys.MustPlay(t, 2, "happy", "sold-out", "undeliverable", "cancelled")
	want, right := sys.MustAwait(t), sys.MustStored(t)

	result := sys.MustReplay(t)
	if result.AsOf != want.AsOf || result.Compared != want.AsOf || len(result.Differences) > 0 || !strings.Contains(result.String(), "were the same") {
		t.Errorf("replayed the right numbers: %+v, want the same at %d", result, want.AsOf)
	}
	checkLinks(t, sys, true)

	for _, c := range []struct {
		name, stored string
		differs      string // prefix of the one line of difference; empty if there is none
		compared     uint64
	}{
		{"Deleted", "", "", 0},
		{"Behind", olderStored, "", older.AsOf},
		{"BehindAtNoOrdersEvent", change(t, change(t, olderStored, "as_of_sequence", older.AsOf+1), "as_of_time", time.Time{}), "", older.AsOf + 1},
		{"MoreOrders", change(t, right, "orders", analytics.Orders{Created: 99, Shipped: 4, Cancelled: 8}), `orders: {"created":99,`, want.AsOf},
		{"LessMoney", change(t, right, "revenue", euro(1)), `revenue: {"amount":1,`, want.AsOf},
		{"NoUnits", change(t, right, "units", nil), "units: {} was stored", want.AsOf},
		{"OtherTimes", change(t, right, "to_parcel", histogram.Histogram{Counts: []int64{4}}), "to_parcel: ", want.AsOf},
		{"NoMinutes", change(t, right, "per_minute", nil), "per_minute: ", want.AsOf},
		{"BeyondTheStream", change(t, right, "as_of_sequence", want.AsOf+1000), "as_of_sequence: ", 0},
		{"NotJSON", `{"orders":`, "the stored value was not a checkpoint", 0},
		{"NotACheckpoint", `["orders"]`, "the stored value was not a checkpoint", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			sys.MustPut(t, c.stored)
			readable := c.stored != "" && !strings.Contains(c.differs, "not a checkpoint")
			if got := sys.MustShow(t).JSON != want.JSON; got != readable {
				t.Errorf("the idle service shows the stored numbers: %t, want %t", got, readable)
			}
			result := sys.MustReplay(t)
			if result.AsOf != want.AsOf || result.Compared != c.compared {
				t.Errorf("replayed up to %d, compared at %d, want %d and %d", result.AsOf, result.Compared, want.AsOf, c.compared)
			}
			lines := strings.Join(result.Differences, "\n")
			if (c.differs != "") != (len(result.Differences) == 1) || !strings.HasPrefix(lines, c.differs) || !strings.Contains(result.String(), lines) {
				t.Errorf("the operator reads %q, want %q", result, c.differs)
			}
			if got := sys.MustStored(t); got != right {
				t.Errorf("stored: %s, want %s", got, right)
			}
			if got := sys.MustShow(t); got.JSON != want.JSON {
				t.Errorf("the idle service shows %s, want %s", got.JSON, want.JSON)
			}
		})
	}

	sys.MustPlay(t, 1, "happy") // only now the service notices the changes
	if got := sys.MustAwait(t).Orders; got.Created != want.Orders.Created+1 || got.Shipped != want.Orders.Shipped+1 || got.Open != 0 {
		t.Errorf("orders after one more: %+v, before it: %+v", got, want.Orders)
	}
}

// A service whose stored numbers claim events that the stream does not have ignores
// them, and counts again.
func TestDamagedUnderTheService(t *testing.T) {
	t.Parallel()
	sys := start(t)
	sys.MustPlay(t, 1, "happy")
	sys.MustAwait(t)
	sys.MustPut(t, change(t, sys.MustStored(t), "as_of_sequence", 1_000_000))
	sys.MustPlay(t, 1, "happy", "declined")
	systemtest.Until(t, "the service has counted again", func() bool {
		return sys.MustShow(t).Orders == analytics.Orders{Created: 3, Shipped: 2, Cancelled: 1}
	})
	sys.MustAwait(t)
	if result := sys.MustReplay(t); len(result.Differences) > 0 {
		t.Errorf("replayed what the service has counted: %v", result)
	}
}

// A replay without events succeeds. One that cannot work fails and changes nothing.
func TestReplayOfNothing(t *testing.T) {
	t.Parallel()
	operator := MustOperate(t, systemtest.Server(t).Connect)
	if result, err := analytics.Replay(context.Background(), operator); err == nil || !strings.Contains(err.Error(), "ordertrail provision") {
		t.Errorf("without a stream: %v, %v, want an error with the command to run", result, err)
	}
	sys := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if result, err := analytics.Replay(ctx, sys.operator); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v, %v, want %v", result, err, context.Canceled)
	}
	if result := sys.MustReplay(t); result.Events != 0 || result.AsOf != 0 || len(result.Differences) > 0 {
		t.Errorf("without events: %+v", result)
	}
	sys.MustPlay(t, 1, "happy")
	if got, want := sys.MustAwait(t).Orders, (analytics.Orders{Created: 1, Shipped: 1}); got != want {
		t.Errorf("orders = %+v, want %+v", got, want)
	}
}

// interrupted is a bucket that calls a function once, after the first read or before
// the first write.
type interrupted struct {
	jetstream.KeyValue
	afterRead bool
	do        func()
	once      sync.Once
}

func (i *interrupted) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	entry, err := i.KeyValue.Get(ctx, key)
	if i.afterRead {
		i.once.Do(i.do)
	}
	return entry, err
}

func (i *interrupted) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if !i.afterRead {
		i.once.Do(i.do)
	}
	return i.KeyValue.Update(ctx, key, value, revision)
}

// faster is a bucket in which another instance always stores first.
type faster struct{ jetstream.KeyValue }

func (faster) Update(context.Context, string, []byte, uint64) (uint64, error) {
	return 0, jetstream.ErrKeyRevisionMismatch
}

// A value that is stored between the read and the write of a replay is not lost.
func TestReplayOvertaken(t *testing.T) {
	t.Parallel()
	sys := start(t)
	sys.MustPlay(t, 2, "happy", "declined")
	sys.MustAwait(t)
	damage := func() { sys.MustPut(t, change(t, sys.MustStored(t), "mails", 1)) }
	for _, c := range []struct {
		name    string
		do      func()
		differs bool
	}{
		{"ByTheService", func() { sys.MustPlay(t, 1, "happy", "sold-out"); sys.MustAwait(t) }, false},
		{"ByDamage", damage, true},
		{"ByDeletion", func() { sys.MustPut(t, "") }, false},
		{"ByAnotherReplay", func() { sys.MustReplay(t) }, false},
		{"ByTheServiceAfterDamage", func() { damage(); sys.MustPlay(t, 1, "happy"); sys.MustAwait(t) }, true},
	} {
		for at, afterRead := range map[string]bool{"AfterRead": true, "BeforeWrite": false} {
			t.Run(c.name+at, func(t *testing.T) {
				result, err := analytics.ReplayOn(context.Background(), sys.operator, &interrupted{KeyValue: sys.kv, afterRead: afterRead, do: c.do})
				if err != nil {
					t.Fatal(err)
				}
				if got := len(result.Differences) > 0; got != c.differs {
					t.Errorf("differs: %t, want %t: %v", got, c.differs, result)
				}
				if got, want := result.AsOf, systemtest.Read(t, sys.JetStream()).LastOfOrder(); got != want {
					t.Errorf("replayed up to %d, want %d", got, want)
				}
				if again := sys.MustReplay(t); len(again.Differences) > 0 || again.Compared != result.AsOf {
					t.Errorf("replayed again: %v", again)
				}
			})
		}
	}
	before := sys.MustStored(t)
	if _, err := analytics.ReplayOn(context.Background(), sys.operator, faster{sys.kv}); err == nil || !strings.Contains(err.Error(), "stop the service") {
		t.Errorf("always overtaken: %v, want an error that says what to do", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := analytics.ReplayOn(ctx, sys.operator, &interrupted{KeyValue: sys.kv, do: cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped before the write: %v, want %v", err, context.Canceled)
	}
	if got := sys.MustStored(t); got != before {
		t.Errorf("replays that failed changed %s to %s", before, got)
	}
}

// A replay does not wait for ever for events that do not come.
func TestReplayStalls(t *testing.T) {
	t.Parallel()
	sys := start(t)
	sys.MustPlay(t, 1, "happy")
	ctx := systemtest.Context(t)
	err := analytics.RefoldTo(ctx, sys.operator, 1_000_000, time.Second)
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "no event came for 1s") || !strings.Contains(err.Error(), "run it again") {
		t.Errorf("the replay ended with %v", err)
	}
}
