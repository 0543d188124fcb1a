package inventory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// encode returns the snapshot of a stock that was folded up to a sequence.
func encode(tb testing.TB, s *stock, sequence int) []byte {
	tb.Helper()
	return encodeAt(tb, s, stream.Position{Sequence: uint64(sequence)})
}

func encodeAt(tb testing.TB, s *stock, at stream.Position) []byte {
	tb.Helper()
	value, err := json.Marshal(s.snapshot(at))
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

// followFrom folds the first n events, makes a snapshot, and has another writer read
// it and fold the rest.
func (l log) followFrom(tb testing.TB, n int) *stock {
	tb.Helper()
	snap, err := decodeSnapshot(encode(tb, l[:n].follow(tb), n))
	if err != nil {
		tb.Fatal(err)
	}
	s := snap.stock()
	for i := n + 1; i <= len(l); i++ {
		if err := s.apply(l.MustEvent(tb, i)); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// A snapshot depends on the events that it covers, and on nothing else: whichever
// writer makes it, and whatever snapshot that writer started from, it is the same to
// the byte.
func TestSnapshotOfAPrefix(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newShop(t, seed)
			for range 60 {
				s.step()
			}
			for to := range len(s.log) + 1 {
				prefix := s.log[:to]
				want := encode(t, prefix.follow(t), to)
				for _, from := range []int{to / 3, to / 2, to} {
					if got := encode(t, prefix.followFrom(t, from), to); !bytes.Equal(got, want) {
						t.Fatalf("from a snapshot at %d, that at %d is\n%s\nwant\n%s", from, to, got, want)
					}
				}
			}
		})
	}
}

// memory is a bucket with one key, which fails while err is set.
type memory struct {
	jetstream.KeyValue // the rest is not called
	value              []byte
	revision           uint64
	err                error
}

func (m *memory) put(value []byte, revision uint64) (uint64, error) {
	if m.err != nil {
		return 0, m.err
	}
	if revision != m.revision {
		return 0, jetstream.ErrKeyRevisionMismatch
	}
	m.value, m.revision = value, revision+1
	return m.revision, nil
}

func (m *memory) Create(_ context.Context, _ string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return m.put(value, 0)
}

func (m *memory) Update(_ context.Context, _ string, value []byte, revision uint64) (uint64, error) {
	return m.put(value, revision)
}

func (m *memory) Get(context.Context, string) (jetstream.KeyValueEntry, error) {
	if m.err == nil && m.revision == 0 {
		return nil, jetstream.ErrKeyNotFound
	}
	return m, m.err
}
func (m *memory) Revision() uint64 { return m.revision }
func (m *memory) Value() []byte    { return m.value }

// entry methods that are not called.
func (m *memory) Key() string                     { return Name }
func (m *memory) Created() time.Time              { return time.Time{} }
func (m *memory) Delta() uint64                   { return 0 }
func (m *memory) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }
func (m *memory) Bucket() string                  { return stream.StockBucket }

// A snapshot is stored after every so many messages, replaces that of another writer,
// and is left out while it is too large or the bucket fails. Nothing of that is an
// error of the term.
func TestSnapshotsAreStored(t *testing.T) {
	kv, now := new(memory), time.Time{}
	var logged bytes.Buffer
	open := func(context.Context) (jetstream.KeyValue, error) { return kv, nil }
	s := &snapshots{open: open, log: slog.New(slog.NewTextHandler(&logged, nil)), every: 10, largest: 1000, now: func() time.Time { return now }}
	sequence := 0
	fold := func(n int, open int) {
		for range n {
			sequence++
			s.folded(true, func() snapshot {
				snap := newStock().snapshot(stream.Position{Sequence: uint64(sequence)})
				snap.Open = make([]openOrder, open)
				return snap
			})
		}
		s.wait()
	}
	stored := func() uint64 {
		t.Helper()
		var snap snapshot
		if err := json.Unmarshal(kv.value, &snap); err != nil {
			t.Fatal(err)
		}
		return snap.Sequence
	}
	want := func(at uint64, when string) {
		t.Helper()
		if got := stored(); got != at {
			t.Fatalf("%s the stored snapshot is of %d, want %d", when, got, at)
		}
	}
	fold(10, 0)
	want(10, "after 10 messages")
	fold(9, 0)
	want(10, "after 19 messages")
	fold(1, 0)
	want(20, "after 20 messages")
	kv.revision += 5 // another writer
	fold(10, 0)
	want(20, "after a lost compare-and-set")
	fold(1, 0)
	want(31, "after the next one")
	fold(10, 100)
	want(31, "while it is too large")
	fold(10, 0)
	want(31, "before the wait after a failure is over")
	now = now.Add(snapshotWait)
	fold(1, 0)
	want(52, "after the wait")
	kv.err = errors.New("the bucket is away")
	fold(30, 0)
	kv.err = nil
	now = now.Add(snapshotWait)
	fold(1, 0)
	want(83, "when the bucket is back")
	*kv = memory{} // somebody has deleted it
	fold(10, 0)    // finds that there is none any more
	fold(1, 0)
	want(94, "after the bucket was made again")
	if n := bytes.Count(logged.Bytes(), []byte("cannot store a snapshot")); n != 2 {
		t.Errorf("%d failures were logged, want each of the two once:\n%s", n, logged.Bytes())
	}
}

// A term that fails before it has read its lease message does not store what an
// earlier one decided in vain: the snapshot contains what is in the log only.
func TestSnapshotLacksOwnDecisions(t *testing.T) {
	l := log{added("A", 1), created(1, units("A", 1))}
	elected := newTerm(l.follow(t))
	elected.active, elected.stock = true, elected.folded.clone()
	before := encode(t, elected.folded, 2)
	decision := append(l, moved(event.InventoryReserved, 1, units("A", 1)))
	if err := elected.stock.apply(decision.MustEvent(t, 3)); err != nil {
		t.Fatal(err)
	}
	if after := encode(t, elected.folded, 2); !bytes.Equal(before, after) {
		t.Errorf("the snapshot is\n%s\nwant\n%s", after, before)
	}
}

// A second orders.created of an open order, which no service publishes, does not change
// what is reserved. Otherwise the stored snapshots would be refused.
func TestCreatedTwice(t *testing.T) {
	l := log{added("A", 2), created(1, units("A", 1)), created(1, units("A", 1_000_000)), moved(event.InventoryReserved, 1, units("A", 1))}
	s := l.followFrom(t, 3)
	if _, err := decodeSnapshot(encode(t, s, len(l))); err != nil || s.available["A"] != 1 {
		t.Errorf("%d units are available, %v; want 1", s.available["A"], err)
	}
}
