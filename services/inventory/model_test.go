package inventory

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"example.org/ordertrail/internal/event"
)

// shop makes a random log the way the services write it: orders come, one writer
// answers them some time later and is replaced now and then, fulfillment cancels
// some before or after that, and ships some of what is reserved.
type shop struct {
	log
	tb      testing.TB
	random  *rand.Rand
	writer  *stock         // the one writer's, folded as far as it has got
	read    int            // how far that is
	seeded  map[string]int // all units that ever came in
	shipped map[string]int // all units that left
	state   map[int]string // of each order: "", reserved, rejected, cancelled, shipped
	items   map[int][]event.Item
	placed  int
}

var skus = []string{"A", "B", "C"}

func newShop(tb testing.TB, seed uint64) *shop {
	s := &shop{
		tb: tb, random: rand.New(rand.NewPCG(seed, seed)), writer: newStock(),
		seeded: map[string]int{}, shipped: map[string]int{}, state: map[int]string{}, items: map[int][]event.Item{},
	}
	for _, sku := range skus {
		s.add(sku, s.random.IntN(6))
	}
	return s
}

func (s *shop) add(sku string, n int) {
	s.seeded[sku] += n
	s.publish(added(sku, n))
}

func (s *shop) step() {
	switch n := s.random.IntN(40); {
	case n == 39:
		s.takeOver()
	case n < 12: // a customer
		s.placed++
		var items []event.Item
		for range 1 + s.random.IntN(3) {
			items = append(items, units(skus[s.random.IntN(len(skus))], 1+s.random.IntN(3)))
		}
		s.items[s.placed] = items
		s.publish(created(s.placed, items...))
	case n < 20 && s.placed > 0: // fulfillment
		order := 1 + s.random.IntN(s.placed)
		switch s.state[order] {
		case "reserved":
			if s.random.IntN(2) == 0 {
				s.state[order] = "shipped"
				for _, i := range s.items[order] {
					s.shipped[i.SKU] += i.Quantity
				}
				s.publish(concluded(event.FulfillmentShipped, order, s.items[order]...))
				return
			}
			fallthrough
		case "", "rejected":
			s.state[order] = "cancelled"
			s.publish(concluded(event.FulfillmentCancelled, order, s.items[order]...))
		}
	case n < 24:
		s.add(skus[s.random.IntN(len(skus))], s.random.IntN(3))
	default:
		s.write()
	}
}

// write has the writer take one message, and answer it.
func (s *shop) write() {
	if s.read == len(s.log) {
		return
	}
	s.read++
	e := s.MustEvent(s.tb, s.read)
	if err := s.writer.apply(e); err != nil {
		s.tb.Fatal(err)
	}
	if s.writer.orders[e.Key] != nil && (e.Type == event.OrderCreated || e.Type == event.FulfillmentCancelled) {
		s.decide(e.Key)
	}
}

// takeOver replaces the writer, wherever it is, by one that folds the log from an
// earlier snapshot on.
func (s *shop) takeOver() {
	s.writer, s.read = s.followFrom(s.tb, s.random.IntN(len(s.log)+1)), len(s.log)
	for _, key := range s.writer.undecided() {
		s.decide(key)
	}
}

// decide answers as term.decide does.
func (s *shop) decide(key string) {
	var order int
	if _, err := fmt.Sscanf(key[24:], "%d", &order); err != nil {
		s.tb.Fatal(err)
	}
	o, answer := s.writer.orders[key], rejected(order)
	switch {
	case o.cancelled && o.reserved:
		answer = moved(event.InventoryReleased, order, o.items...)
	case !o.cancelled && s.writer.suffices(o.items):
		answer = moved(event.InventoryReserved, order, o.items...)
	}
	if s.state[order] == "" && answer.Type == event.InventoryReserved {
		s.state[order] = "reserved"
	} else if s.state[order] == "" {
		s.state[order] = "rejected"
	}
	s.publish(answer)
	if err := s.writer.apply(s.MustEvent(s.tb, len(s.log))); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *shop) check() {
	s.tb.Helper()
	for sku, n := range s.writer.available {
		if n < 0 {
			s.tb.Fatalf("%d units of %s are available", n, sku)
		}
	}
}

// However orders, cancellations and decisions interleave: stock never goes below
// zero; in the end what is missing has been shipped or is reserved, no unit more
// or less; and who folds the same log again knows the same.
func TestStockProperties(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newShop(t, seed)
			for range 150 {
				s.step()
				s.check()
			}
			for s.read < len(s.log) {
				s.write()
				s.check()
			}
			held := map[string]int{}
			for order, state := range s.state {
				if state == "reserved" {
					for _, i := range s.items[order] {
						held[i.SKU] += i.Quantity
					}
				}
			}
			for _, sku := range skus {
				if got, want := s.writer.available[sku], s.seeded[sku]-s.shipped[sku]-held[sku]; got != want {
					t.Errorf("%d of %s are available, want %d: %d came, %d left, %d are reserved", got, sku, want, s.seeded[sku], s.shipped[sku], held[sku])
				}
			}
			successor := s.follow(t)
			if !maps.Equal(successor.available, s.writer.available) {
				t.Errorf("a successor knows of %v, want %v", successor.available, s.writer.available)
			}
			if got, want := slices.Sorted(maps.Keys(successor.orders)), slices.Sorted(maps.Keys(s.writer.orders)); !slices.Equal(got, want) {
				t.Errorf("a successor knows of the orders %v, want %v", got, want)
			}
			if open := successor.undecided(); len(open) > 0 {
				t.Errorf("a successor finds %v undecided, want nothing", open)
			}
		})
	}
}

// A writer may die between any two of its publishes. Its successor, who folds what
// it left and decides what is open, gives the units of a cancelled order back.
func TestTakeOverAnywhere(t *testing.T) {
	item := units("A", 1)
	stocked, placed := added("A", 2), created(1, item)
	cancelled := concluded(event.FulfillmentCancelled, 1, item)
	reserved, released := moved(event.InventoryReserved, 1, item), moved(event.InventoryReleased, 1, item)
	for name, left := range map[string]log{
		"Nothing":           {stocked, placed, cancelled},
		"Reserved":          {stocked, placed, reserved, cancelled},
		"ReservedTooLate":   {stocked, placed, cancelled, reserved},
		"Rejected":          {stocked, placed, rejected(1), cancelled},
		"RejectedTooLate":   {stocked, placed, cancelled, rejected(1)},
		"Released":          {stocked, placed, reserved, cancelled, released},
		"ReleasedAfterLate": {stocked, placed, cancelled, reserved, released},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shop{log: left, tb: t, writer: left.follow(t)}
			for _, open := range s.writer.undecided() {
				answer := rejected(1)
				if s.writer.orders[open].reserved {
					answer = released
				}
				s.publish(answer)
				if err := s.writer.apply(s.MustEvent(t, len(s.log))); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := s.writer.available["A"], 2; got != want {
				t.Errorf("%d of A are available, want %d", got, want)
			}
			if got := len(s.writer.orders); got != 0 {
				t.Errorf("%d orders are under way, want none", got)
			}
		})
	}
}
