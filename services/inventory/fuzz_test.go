package inventory

import (
	"bytes"
	"strings"
	"testing"

	"example.org/ordertrail/internal/event"
)

// An accepted snapshot is a stock that a writer can continue from: whatever it decides,
// and whatever comes in, no number of units is below zero. Encoded again it is the same
// snapshot.
func FuzzSnapshot(f *testing.F) {
	for seed := range uint64(3) {
		s := newShop(f, seed)
		for range 20 {
			s.step()
		}
		value := encode(f, s.follow(f), len(s.log))
		f.Add(value)
		for _, change := range [][2]string{
			{`"A":`, `"A":-`}, {`"A":`, `"A":922337203685477580`}, {`"quantity":`, `"quantity":-`}, {`"quantity":`, `"quantity":1000000000`},
			{`"asked":`, `"asked":9`}, {`"asked":`, `"reserved":true,"asked":`}, {`"id":"`, `"id":"x`}, {`"time":"0`, `"time":"9`}, {`"A"`, "\"\xff\""},
			{`"open":[`, `"open":[{},`}, {`"items":[`, `"items":[],"Items":[`}, {`"open":[`, `"open":[],"other":[`}, {`{"stream_created"`, `{"available":null,"stream_created"`},
		} {
			f.Add([]byte(strings.Replace(string(value), change[0], change[1], 1)))
		}
	}
	for _, b := range []string{"", "null", "{}", "[]", `{"available":null,"open":null}`} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		snap, err := decodeSnapshot(value)
		if err != nil {
			return
		}
		encoded := encodeAt(t, snap.stock(), snap.Position)
		again, err := decodeSnapshot(encoded)
		if err != nil {
			t.Fatalf("decodeSnapshot refuses what it has accepted, written anew as %s: %v", encoded, err)
		}
		if got := encodeAt(t, again.stock(), again.Position); !bytes.Equal(got, encoded) {
			t.Errorf("written anew twice: %s, want %s", got, encoded)
		}

		s := snap.stock()
		check := func(when string) {
			t.Helper()
			for sku, n := range s.available {
				if n < 0 {
					t.Fatalf("%s, %d units of %.100q are available", when, n, sku)
				}
			}
		}
		check("before the first decision")
		for _, id := range s.undecided() {
			o := s.orders[id]
			if o.asked > snap.Sequence {
				t.Errorf("order %.100q waits for message %d, which is behind the snapshot's %d", id, o.asked, snap.Sequence)
			}
			typ := event.InventoryRejected
			switch {
			case o.cancelled && o.reserved:
				typ = event.InventoryReleased
			case !o.cancelled && s.suffices(o.items):
				typ = event.InventoryReserved
			}
			s.advance(event.Event{Type: typ, Key: id}, o)
			check("after " + string(typ))
		}
		if open := s.undecided(); len(open) > 0 {
			t.Errorf("%q are decided, and wait for a decision", open)
		}
		for id, o := range s.orders {
			s.advance(event.Event{Type: event.InventoryReleased, Key: id}, o)
		}
		for sku := range s.available {
			s.available[sku] += event.MaxQuantity
		}
		check("after deliveries")
	})
}
