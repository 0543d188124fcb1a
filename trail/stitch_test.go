package trail_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/trail"
)

func events(by map[string]*tracetest.SpanStub) (published []*tracetest.SpanStub) {
	for _, name := range []string{"created", "reserved", "mail0", "confirmed", "shipped", "mail1"} {
		published = append(published, by[name])
	}
	return published
}

// All that was recorded is in the trail, each lane is a tree, and nothing is missing.
func TestStitch(t *testing.T) {
	s, by := happy(1)
	got := stitched(t, s, s.order(events(by)...))
	if !got.Complete || got.Pending || len(got.Gaps) > 0 {
		t.Errorf("the trail is not complete: %v", got.Gaps)
	}
	if got.Start != s.start || got.Duration != 3001*time.Millisecond {
		t.Errorf("from %v, for %v", got.Start, got.Duration)
	}
	spans := 0
	for _, l := range got.Lanes {
		spans += len(l.Spans)
		for i, n := range l.Spans {
			if n.TraceID != l.TraceID {
				t.Errorf("%s is in the lane of another trace", n.Name)
			}
			if n.Depth > 0 && !slices.ContainsFunc(l.Spans[:i], func(p trail.Node) bool { return p.SpanID == n.ParentID && p.Depth == n.Depth-1 }) {
				t.Errorf("%s is not below its parent", n.Name)
			}
		}
	}
	if spans != len(s.spans) {
		t.Errorf("%d spans, want %d", spans, len(s.spans))
	}
	links := 0
	for _, stub := range s.spans {
		links += len(stub.Links)
		for _, l := range stub.Links {
			if !slices.ContainsFunc(got.Edges, func(e trail.Edge) bool {
				return e.Kind == trail.EdgeLink && e.To == refOf(stub) && e.From.SpanID == l.SpanContext.SpanID().String() && !e.Missing && !e.External &&
					e.Relationship != "" && e.EventType != ""
			}) {
				t.Errorf("%s has lost a link", stub.Name)
			}
		}
	}
	if got := count(got.Edges, trail.EdgeLink); got != links {
		t.Errorf("%d links, want %d", got, links)
	}
	if n := got.Find(refOf(by["fulfillment"])); n == nil || n.Offset != 22*time.Millisecond || n.Duration != 10*time.Millisecond || n.Delivery != 1 {
		t.Errorf("fulfillment's span is %+v", n)
	}
	if e := got.Links(refOf(by["pay"])); len(e) != 1 || e[0].Wait != time.Millisecond {
		t.Errorf("payments has the links %+v", e)
	}
}

func count(edges []trail.Edge, kind string) (n int) {
	for _, e := range edges {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// The order of the spans does not matter.
func TestStitchIsDeterministic(t *testing.T) {
	s, by := happy(1)
	store := stored(s)
	found, err := store.Order(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(trail.Stitch(s.order(events(by)...), found))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(found.Spans), func(i, j int) {
			found.Spans[i], found.Spans[j] = found.Spans[j], found.Spans[i]
		})
		got, err := json.Marshal(trail.Stitch(s.order(events(by)...), found))
		if err != nil || string(got) != string(want) {
			t.Fatalf("seed %d: another trail:\n%s\nnot\n%s", seed, got, want)
		}
	}
}

// Of a batch's links only the order's own are followed.
func TestBatch(t *testing.T) {
	one, byOne := happy(1)
	two, byTwo := happy(2)
	batch := byOne["batch"]
	batch.Links = append(batch.Links, byTwo["batch"].Links...)
	store := stored(one, two)
	found, err := store.Order(t.Context(), two.id)
	if err != nil {
		t.Fatal(err)
	}
	got := trail.Stitch(two.order(events(byTwo)...), found)
	n := got.Find(refOf(batch))
	if n == nil || n.Batch == nil || n.Batch.Links != 12 || n.Batch.OfOrder != 6 {
		t.Fatalf("the batch is %+v", n)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), one.id) || len(got.Links(refOf(batch))) != 6 || !got.Complete {
		t.Errorf("of the batch's links there are %v; %v", got.Links(refOf(batch)), got.Gaps)
	}
	if ids := found.Orders(); !slices.Equal(ids, []string{one.id, two.id}) {
		t.Errorf("the spans belong to %v", ids)
	}
	if ids := found.OrdersOf(refOf(batch)); !slices.Equal(ids, []string{one.id, two.id}) {
		t.Errorf("the batch belongs to %v", ids)
	}
	if ids := found.OrdersOf(refOf(byTwo["pay"])); !slices.Equal(ids, []string{two.id}) {
		t.Errorf("payments' span belongs to %v", ids)
	}
}

// What an order's span calls, and what it is called by, belongs to the order too,
// unless it says otherwise.
func TestSpansThatNameNoOrder(t *testing.T) {
	s, by := happy(1)
	nameless := s.child(by["pay"], "GET", oteltrace.SpanKindClient, 18, 19)
	below := s.child(nameless, "dial", oteltrace.SpanKindInternal, 18.2, 18.4)
	above := s.span("payments", "poll", oteltrace.SpanKindInternal, 4, 22)
	above.SpanContext = above.SpanContext.WithTraceID(by["pay"].SpanContext.TraceID())
	by["pay"].Parent = above.SpanContext
	other := s.child(by["pay"], "another order's", oteltrace.SpanKindInternal, 18, 19)
	ofBatch := s.child(by["batch"], "store", oteltrace.SpanKindClient, 140, 141)
	for _, stub := range []*tracetest.SpanStub{nameless, below, above, ofBatch} {
		stub.Attributes = nil
	}
	other.Attributes = []attribute.KeyValue{event.OrderIDKey.String(newStory(7).id)}

	got := stitched(t, s, s.order(events(by)...))
	for _, stub := range []*tracetest.SpanStub{nameless, below, above} {
		if got.Find(refOf(stub)) == nil {
			t.Errorf("%q is not in the trail", stub.Name)
		}
	}
	for _, stub := range []*tracetest.SpanStub{other, ofBatch} {
		if got.Find(refOf(stub)) != nil {
			t.Errorf("%q is in the trail", stub.Name)
		}
	}
}

// Deliveries of one message are connected, and marked.
func TestRetries(t *testing.T) {
	s, _ := happy(1)
	s.spans = s.spans[:3]
	created := s.spans[2]
	var deliveries []*tracetest.SpanStub
	for i, from := range []float64{5, 105, 305} {
		p := s.process("payments", created, i+1, from, from+2)
		if i < 2 {
			fail(p, "_OTHER")
		}
		deliveries = append(deliveries, p)
	}
	mail := s.process("notify", created, 1, 5, 6) // another consumer's first
	confirmed := s.publish(deliveries[2], event.PaymentConfirmed, 306, 307)

	got := stitched(t, s, s.order(created, confirmed))
	var retries []trail.Edge
	for _, e := range got.Edges {
		if e.Kind == trail.EdgeRetry {
			retries = append(retries, e)
		}
	}
	want := []trail.Edge{
		{Kind: trail.EdgeRetry, From: refOf(deliveries[0]), To: refOf(deliveries[1]), Wait: 98 * time.Millisecond},
		{Kind: trail.EdgeRetry, From: refOf(deliveries[1]), To: refOf(deliveries[2]), Wait: 198 * time.Millisecond},
	}
	if fmt.Sprint(retries) != fmt.Sprint(want) {
		t.Errorf("the retries are\n%v, want\n%v", retries, want)
	}
	for i, l := range got.Lanes[1:] {
		if l.Service == "payments" && l.Failed == (l.Delivery == 3) {
			t.Errorf("lane %d: delivery %d, failed %t", i, l.Delivery, l.Failed)
		}
	}
	if n := got.Find(refOf(deliveries[0])); n.ErrorType != "_OTHER" || n.Status != trail.StatusError {
		t.Errorf("the first delivery is %+v", n)
	}
	// Without a conclusion the path leads to what came last, through all deliveries.
	for _, d := range deliveries {
		if !got.Find(refOf(d)).Critical {
			t.Errorf("delivery at %v is not on the critical path", d.StartTime.Sub(s.start))
		}
	}
	if got.Find(refOf(mail)).Critical {
		t.Error("notify is on the critical path")
	}
	wantPath(t, got.CriticalPath, 0, 307*time.Millisecond)
}

func TestCompensation(t *testing.T) {
	s, by := happy(1)
	closing := s.process("payments", by["shipped"], 1, 40, 50)
	refund := s.child(closing, "refund card", oteltrace.SpanKindClient, 41, 42)
	refund.Attributes = append(refund.Attributes, event.CompensationKey.Bool(true))
	refunded := s.publish(closing, event.PaymentRefunded, 43, 44)
	got := stitched(t, s, s.order())
	for _, l := range got.Lanes {
		if want := l.TraceID == refOf(closing).TraceID; l.Compensation != want {
			t.Errorf("%s %s: compensation %t", l.Service, l.Name, l.Compensation)
		}
	}
	for stub, want := range map[*tracetest.SpanStub]bool{closing: false, refund: true, refunded: true, by["charge"]: false} {
		if got := got.Find(refOf(stub)).Compensation; got != want {
			t.Errorf("%s: compensation %t", stub.Name, got)
		}
	}
}

// Whatever spans say of each other, a trail comes of it.
func TestNonsense(t *testing.T) {
	s, by := happy(1)
	by["post"].Parent = by["created"].SpanContext // a circle of parents
	by["pay"].Parent = by["pay"].SpanContext      // its own parent
	s.link(by["created"], by["shipped"], "triggered_by")
	s.link(by["pay"], by["confirmed"], "triggered_by") // a circle of links
	by["charge"].EndTime = by["charge"].StartTime.Add(-time.Hour)
	got := stitched(t, s, s.order(events(by)...))
	spans := 0
	for _, l := range got.Lanes {
		spans += len(l.Spans)
	}
	if spans != len(s.spans) {
		t.Errorf("%d spans, want %d", spans, len(s.spans))
	}
	for _, seg := range got.CriticalPath.Segments {
		if seg.Duration <= 0 {
			t.Errorf("a segment takes %v", seg.Duration)
		}
	}
}

// Ten thousand spans give a trail that can be shown, and says what it leaves out.
func TestManySpans(t *testing.T) {
	s, by := happy(1)
	for i := range 10_000 {
		s.child(by["pay"], "call", oteltrace.SpanKindClient, 6+float64(i)/1000, 6+float64(i+1)/1000)
	}
	got := stitched(t, s, s.order(events(by)...))
	spans := 0
	for _, l := range got.Lanes {
		spans += len(l.Spans)
	}
	if spans != trail.MaxSpans || got.Complete || !slices.ContainsFunc(got.Gaps, func(g trail.Gap) bool { return g.Kind == trail.GapTruncated }) {
		t.Errorf("%d spans, complete: %t", spans, got.Complete)
	}
}

func TestServiceMap(t *testing.T) {
	one, byOne := happy(1)
	two, _ := happy(2)
	fail(byOne["charge"], "timeout")
	found, err := stored(one, two).Recent(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	m := trail.Map(found.Spans)
	var names []string
	for _, s := range m.Services {
		names = append(names, s.Name)
		if want := map[bool]int{true: 1}[s.Name == "payments"]; s.Failed != want {
			t.Errorf("%s has %d failed spans, want %d", s.Name, s.Failed, want)
		}
	}
	if want := []string{"analytics", "fulfillment", "inventory", "notify", "orders", "payments"}; !slices.Equal(names, want) {
		t.Errorf("the services are %v", names)
	}
	for _, want := range []trail.EventsFlow{
		{From: "orders", To: "payments", EventType: "orders.created", Relationship: "triggered_by", Links: 2},
		{From: "payments", To: "fulfillment", EventType: "payments.confirmed", Relationship: "payment_confirmation", Links: 2},
		{From: "notify", To: "analytics", EventType: "notify.shipped", Relationship: "triggered_by", Links: 2},
		{From: "orders", To: "orders", EventType: "deadlines.at", Relationship: "triggered_by", Links: 2},
	} {
		if !slices.Contains(m.Flows, want) {
			t.Errorf("no flow %+v in %+v", want, m.Flows)
		}
	}
	// Whose event it was is known without the publisher's span.
	alone := trail.Map(slices.DeleteFunc(found.Spans, func(s trail.Span) bool { return s.Service != "analytics" }))
	if !slices.Contains(alone.Flows, trail.EventsFlow{From: "orders", To: "analytics", EventType: "orders.created", Relationship: "triggered_by", Links: 2}) {
		t.Errorf("of analytics alone: %+v", alone.Flows)
	}
	// A trail's own map has this order alone.
	got := stitched(t, one, one.order(events(byOne)...))
	if !slices.Contains(got.Services.Flows, trail.EventsFlow{From: "orders", To: "payments", EventType: "orders.created", Relationship: "triggered_by", Links: 1}) {
		t.Errorf("the trail's flows are %+v", got.Services.Flows)
	}
}
