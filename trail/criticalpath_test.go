package trail_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/trail"
)

// wantPath checks that the segments follow each other from one time to another.
func wantPath(t *testing.T, p trail.CriticalPath, from, to time.Duration) {
	t.Helper()
	at, sum := from, time.Duration(0)
	for _, s := range p.Segments {
		if s.Offset != at || s.Duration <= 0 {
			t.Errorf("%s %s starts at %v and takes %v, want a start at %v", s.Service, s.Name, s.Offset, s.Duration, at)
		}
		at, sum = s.Offset+s.Duration, sum+s.Duration
	}
	if at != to || sum != p.Duration || p.Duration != to-from {
		t.Errorf("the path ends at %v, want %v; its segments take %v, the path takes %v", at, to, sum, p.Duration)
	}
}

func path(p trail.CriticalPath) string {
	var lines []string
	for _, s := range p.Segments {
		wait := ""
		if s.Wait {
			wait = "wait for "
		}
		lines = append(lines, fmt.Sprintf("%s%s: %s %v", wait, s.Service, s.Name, s.Duration))
	}
	return strings.Join(lines, "\n")
}

// The path goes from the parcel through the later outcome, the payment, to the order. It
// leaves out acknowledgements: they follow the publishing.
func TestCriticalPath(t *testing.T) {
	s, by := happy(1)
	got := stitched(t, s)
	wantPath(t, got.CriticalPath, 0, 30*time.Millisecond)
	want := `orders: POST /orders 1ms
orders: publish deadlines.at 500µs
orders: POST /orders 500µs
orders: publish orders.created 2ms
wait for payments: process orders.created 1ms
payments: process orders.created 1ms
payments: charge card 10ms
payments: process orders.created 1ms
payments: publish payments.confirmed 3ms
wait for fulfillment: process payments.confirmed 2ms
fulfillment: process payments.confirmed 1ms
fulfillment: fulfill order 1ms
fulfillment: book parcel 2ms
fulfillment: fulfill order 1ms
fulfillment: publish fulfillment.shipped 3ms`
	if path(got.CriticalPath) != want || got.CriticalPath.To != "publish fulfillment.shipped" {
		t.Errorf("the path to %q is\n%s\nwant\n%s", got.CriticalPath.To, path(got.CriticalPath), want)
	}
	for name, critical := range map[string]bool{"post": true, "charge": true, "book": true, "shipped": true, "reserve": false, "mail0": false, "batch": false, "due": false} {
		if got.Find(refOf(by[name])).Critical != critical {
			t.Errorf("%s: critical %t", name, !critical)
		}
	}
}

// A consumer may start before its producer's span ends, and clocks may disagree: the
// path has neither gaps nor overlaps.
func TestCriticalPathOverlaps(t *testing.T) {
	for name, skew := range map[string]float64{"early consumer": -1.5, "clock far behind": -500, "clock ahead": 500} {
		t.Run(name, func(t *testing.T) {
			s, _ := happy(1)
			d := time.Duration(skew * float64(time.Millisecond))
			for _, stub := range s.spans {
				if serviceOf(stub) == "payments" {
					stub.StartTime, stub.EndTime = stub.StartTime.Add(d), stub.EndTime.Add(d)
				}
			}
			got := stitched(t, s)
			if n := len(got.CriticalPath.Segments); n == 0 {
				t.Fatal("no path")
			}
			first := got.CriticalPath.Segments[0]
			last := got.CriticalPath.Segments[len(got.CriticalPath.Segments)-1]
			wantPath(t, got.CriticalPath, first.Offset, last.Offset+last.Duration)
			if last.Name != "publish fulfillment.shipped" {
				t.Errorf("the path ends with %s", last.Name)
			}
		})
	}
}

// The path of a cancelled order waits for the deadline, or goes back to the order that
// its customer cancels. Both spans link the order's creation with the relationship
// cancels; the deadline's span links its own message too.
func TestCriticalPathOfCancellation(t *testing.T) {
	for name, tt := range map[string]struct {
		from float64 // when the order is cancelled, in milliseconds
		want string
	}{
		"deadline": {3000, "publish deadlines.at 500µs\nwait for orders: process deadlines.due 2.9985s"},
		"customer": {10, "publish orders.created 2ms\nwait for orders: DELETE /orders/{id} 6ms"},
	} {
		s, by := happy(1)
		cancel := by["due"]
		if name == "customer" {
			cancel = s.span("orders", "DELETE /orders/{id}", oteltrace.SpanKindServer, tt.from, tt.from+4)
		}
		s.link(cancel, by["created"], "cancels")
		s.remove(by["shipped"])
		cancelled := s.publish(cancel, "orders.cancelled", tt.from+0.2, tt.from+0.6)
		decide := s.process("fulfillment", cancelled, 1, tt.from+1, tt.from+5)
		s.publish(decide, "fulfillment.cancelled", tt.from+2, tt.from+3)
		got := stitched(t, s)
		wantPath(t, got.CriticalPath, 0, s.at(tt.from+3).Sub(s.start))
		if !strings.Contains(path(got.CriticalPath), tt.want) || got.CriticalPath.To != "publish fulfillment.cancelled" {
			t.Errorf("%s: the path to %q is\n%s", name, got.CriticalPath.To, path(got.CriticalPath))
		}
	}
}

// A re-driven message links its producer and the failed delivery: the path goes back to
// the failed delivery, which is later.
func TestCriticalPathOfRedrive(t *testing.T) {
	s, by := happy(1)
	s.spans = s.spans[:3]
	failed := fail(s.process("payments", by["created"], 1, 5, 9), "timeout")
	again := s.process("payments", by["created"], 1, 60_000, 60_009)
	again.Attributes[4] = attribute.String("messaging.destination.name", "redrive.payments.orders.created."+s.id)
	s.link(again, failed, "redrive_of")
	s.publish(again, "payments.confirmed", 60_002, 60_008)
	got := stitched(t, s)
	wantPath(t, got.CriticalPath, 0, 60_009*time.Millisecond)
	if !got.Find(refOf(failed)).Critical || !strings.Contains(path(got.CriticalPath), "wait for payments: process orders.created 59.991s") {
		t.Errorf("the path is\n%s", path(got.CriticalPath))
	}
}
