package storefront_test

import (
	"strconv"
	"testing"

	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
)

// The shop's feed sends the orders that have changed. A reader whose last event belongs to
// another stream gets all orders.
func TestShopFeed(t *testing.T) {
	t.Parallel()
	s := open(t)
	type change struct {
		Shop struct {
			Placed int64
			Open   int
		}
		Orders []orders.Order
	}
	placed := s.MustPlace(t)
	feed := shoptest.Follow(t, s.URL+"/events", "")
	until := func(feed *shoptest.Feed, what string, ok func(change) bool) (id uint64, last change) {
		t.Helper()
		for {
			var c change
			id, there := feed.Next(t, &c)
			if !there {
				t.Fatalf("the feed ended before %s", what)
			}
			if ok(c) {
				return id, c
			}
		}
	}
	id, _ := until(feed, "the first order", func(c change) bool {
		return len(c.Orders) == 1 && c.Orders[0].ID == placed.ID && c.Shop.Placed == 1 && c.Shop.Open == 1
	})
	second := s.MustPlace(t)
	_, c := until(feed, "the second order", func(c change) bool { return c.Shop.Placed == 2 })
	if len(c.Orders) != 1 || c.Orders[0].ID != second.ID {
		t.Errorf("%d orders have changed, want the second alone", len(c.Orders))
	}
	until(shoptest.Follow(t, s.URL+"/events", strconv.FormatUint(id, 10)), "what came after the first", func(c change) bool {
		return len(c.Orders) == 1 && c.Orders[0].ID == second.ID
	})
	until(shoptest.Follow(t, s.URL+"/events", "999999"), "everything", func(c change) bool { return len(c.Orders) == 2 })
}
