package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

const (
	// snapshotEvery is the number of messages after which a snapshot is stored. A writer
	// that dies leaves at most twice as many behind the last one.
	snapshotEvery = 250
	snapshotWait  = 2 * time.Second // after a snapshot, until the next message causes another one
	storeTimeout  = 2 * time.Second
	envelope      = 8 << 10 // bytes that a message needs beside its payload
)

// snapshot is the stock after all messages up to a position. It depends on these
// messages alone, and not on the writer: the fencing token does not protect the bucket,
// so a writer that was replaced may store one, too.
type snapshot struct {
	stream.Position
	Available map[string]int `json:"available"` // units per SKU; an SKU is here if its first stock is
	Open      []openOrder    `json:"open"`      // by ID
}

// openOrder is an order in a snapshot.
type openOrder struct {
	ID        string       `json:"id"`
	Items     []event.Item `json:"items"`
	Reserved  bool         `json:"reserved,omitempty"`
	Cancelled bool         `json:"cancelled,omitempty"`
	Asked     uint64       `json:"asked,omitempty"`
}

// snapshot returns the snapshot of a stock that was folded from the stream up to a
// position, without decisions that come later.
func (s *stock) snapshot(at stream.Position) snapshot {
	snap := snapshot{Position: at, Available: s.available, Open: []openOrder{}}
	for id, o := range s.orders {
		snap.Open = append(snap.Open, openOrder{id, o.items, o.reserved, o.cancelled, o.asked})
	}
	slices.SortFunc(snap.Open, func(a, b openOrder) int { return cmp.Compare(a.ID, b.ID) })
	return snap
}

// stock returns the stock of a snapshot.
func (snap snapshot) stock() *stock {
	s := newStock()
	for sku, n := range snap.Available {
		s.available[sku] = n
	}
	for _, o := range snap.Open {
		s.orders[o.ID] = &order{items: o.Items, reserved: o.Reserved, cancelled: o.Cancelled, asked: o.Asked}
	}
	return s
}

// maxUnits is more than a stream can add up to, and leaves room for what comes next.
const maxUnits = math.MaxInt / 2

// decodeSnapshot reads a stored snapshot. It refuses one that no log leads to: the writer
// would sell units that do not exist, or fail at each takeover.
func decodeSnapshot(value []byte) (snap snapshot, err error) {
	if err := json.Unmarshal(value, &snap); err != nil {
		return snap, err
	}
	for sku, n := range snap.Available {
		if n < 0 || n > maxUnits {
			return snap, fmt.Errorf("%d units of %.100q", n, sku)
		}
	}
	last := ""
	for _, o := range snap.Open {
		if err := event.ValidItems(o.Items); err != nil {
			return snap, fmt.Errorf("order %.100q: %w", o.ID, err)
		}
		decided := o.Reserved && !o.Cancelled
		if o.ID <= last || o.Asked > snap.Sequence || decided != (o.Asked == 0) {
			return snap, fmt.Errorf("order %.100q after %.100q: reserved %t, cancelled %t, asked by message %d of %d", o.ID, last, o.Reserved, o.Cancelled, o.Asked, snap.Sequence)
		}
		last = o.ID
	}
	return snap, nil
}

// snapshots stores snapshots beside the fold, one at a time.
type snapshots struct {
	// open opens the bucket: for each snapshot, because a writer that begins before
	// provision has made the bucket may work for weeks.
	open     func(context.Context) (jetstream.KeyValue, error)
	log      *slog.Logger
	every    int // messages
	largest  int // bytes of a value
	revision uint64

	unsaved int         // messages since the last snapshot, which may be on its way
	began   time.Time   // when that was
	storing chan result // nil: none is on its way
	failed  bool        // the last one
	now     func() time.Time
}

// result is the outcome of storing a snapshot.
type result struct {
	revision uint64 // of the stored value, which may be another writer's
	missed   int    // messages that it does not cover
	err      error
}

// newSnapshots stores a snapshot after every that many messages.
func newSnapshots(c *stream.Client, log *slog.Logger, every int) *snapshots {
	open := func(ctx context.Context) (jetstream.KeyValue, error) { return c.Bucket(ctx, stream.StockBucket) }
	return &snapshots{open: open, log: log, every: every, largest: int(c.JetStream().Conn().MaxPayload()) - envelope, now: time.Now}
}

// load returns the stored snapshot; ok is false if there is none that can be
// used. Only an error of NATS is an error.
func (s *snapshots) load(ctx context.Context) (snap snapshot, ok bool, err error) {
	var entry jetstream.KeyValueEntry
	kv, err := s.open(ctx)
	if err == nil {
		entry, err = kv.Get(ctx, Name)
	}
	if errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, jetstream.ErrKeyNotFound) {
		return snapshot{}, false, nil
	}
	if err != nil {
		return snapshot{}, false, fmt.Errorf("load the snapshot: %w", err)
	}
	s.revision = entry.Revision()
	if snap, err = decodeSnapshot(entry.Value()); err != nil {
		s.log.WarnContext(ctx, "ignored the stored snapshot, which cannot be used", "error", err)
		return snapshot{}, false, nil
	}
	return snap, true, nil
}

// folded is called after each message. It stores a snapshot when one is due: after every
// messages if the writer is active, and after snapshotWait. If the store is slow, folded
// waits for it, so that no more than twice as many messages follow the stored one.
func (s *snapshots) folded(active bool, take func() snapshot) {
	s.unsaved++
	if s.storing != nil {
		select {
		case done := <-s.storing:
			s.stored(done)
		default:
			if s.unsaved < s.every || s.failed {
				return
			}
			s.wait()
		}
	}
	if active && s.unsaved >= s.every && !s.failed || s.now().Sub(s.began) >= snapshotWait {
		s.store(take())
	}
}

// store stores a snapshot in another goroutine. One that is too large is left out: the
// next takeover starts from an older one.
func (s *snapshots) store(snap snapshot) {
	s.wait()
	covered := s.unsaved
	s.unsaved, s.began = 0, s.now()
	value, err := json.Marshal(snap)
	if err == nil && len(value) > s.largest {
		err = fmt.Errorf("%d open orders take %d bytes, %d are allowed", len(snap.Open), len(value), s.largest)
	}
	storing := make(chan result, 1)
	s.storing = storing
	if err != nil {
		storing <- result{s.revision, covered, err}
		return
	}
	revision := s.revision
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		defer cancel()
		kv, err := s.open(ctx)
		if err != nil {
			storing <- result{revision, covered, err}
			return
		}
		storing <- replaceValue(ctx, kv, value, revision, covered)
	}()
}

// replaceValue replaces the stored snapshot that has this revision, 0 for none.
func replaceValue(ctx context.Context, kv jetstream.KeyValue, value []byte, revision uint64, covered int) result {
	var err error
	now := revision
	if revision == 0 {
		now, err = kv.Create(ctx, Name, value)
	} else {
		now, err = kv.Update(ctx, Name, value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		// Another writer, or an earlier attempt whose answer was lost, has stored one.
		// The next snapshot replaces it.
		var entry jetstream.KeyValueEntry
		if entry, err = kv.Get(ctx, Name); err == nil {
			return result{entry.Revision(), covered, nil}
		}
		if errors.Is(err, jetstream.ErrKeyNotFound) { // it was deleted: the next one is the first
			return result{0, covered, nil}
		}
	}
	if err != nil {
		return result{revision, covered, stream.Plain(err)}
	}
	return result{revision: now}
}

// wait waits until no snapshot is on its way, for storeTimeout at most.
func (s *snapshots) wait() {
	if s.storing != nil {
		s.stored(<-s.storing)
	}
}

func (s *snapshots) stored(done result) {
	s.storing, s.revision = nil, done.revision
	s.unsaved += done.missed
	if done.err != nil && !s.failed {
		s.log.Warn("cannot store a snapshot of the stock; the next takeover takes longer", "error", done.err)
	}
	s.failed = done.err != nil
}
