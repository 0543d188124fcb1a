package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/test/systemtest"
)

// play plays scenarios, one after the other, and returns their orders' ids.
func (s *stack) play(t *testing.T, scenarios ...demo.Scenario) (ids []string) {
	t.Helper()
	for _, sc := range scenarios {
		order, err := demo.Play(context.Background(), demo.Shop{URL: s.shop, Client: http.DefaultClient}, sc)
		if err != nil {
			t.Errorf("%s: %v", sc.Name, err)
		}
		ids = append(ids, order.ID)
	}
	return ids
}

// get reads JSON from a URL.
func get(t *testing.T, url string, into any, headers ...string) error {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("%s: %s: %.200s", url, answer.Status, body)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// mailed waits until the mailbox has exactly the mails of an order.
func (s *stack) mailed(t *testing.T, order string, sc demo.Scenario) {
	t.Helper()
	var want []string
	for _, typ := range sc.Want.Events {
		if typ.Domain() == notify.Name {
			want = append(want, strings.Trim(notify.MessageID(typ, order), "<>"))
		}
	}
	slices.Sort(want)
	until(t, sc.Name+"'s mails are there", func() error {
		var box struct {
			Messages []struct{ MessageID string }
		}
		if err := get(t, s.mails+"/api/v1/messages?limit=1000", &box); err != nil {
			return err
		}
		var got []string
		for _, m := range box.Messages {
			if strings.Contains(m.MessageID, order) {
				got = append(got, m.MessageID)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// traced waits until Jaeger has spans of the order from every service.
func (s *stack) traced(t *testing.T, order string) {
	t.Helper()
	var known struct{ Services []string }
	until(t, "Jaeger knows every service", func() error {
		if err := get(t, s.jaeger+"/api/v3/services", &known); err != nil {
			return err
		}
		for _, name := range services {
			if !slices.Contains(known.Services, name) {
				return fmt.Errorf("not %s, but %s", name, known.Services)
			}
		}
		return nil
	})
	for _, name := range services {
		until(t, "Jaeger has traces of "+name+" about the order", func() error {
			from, to := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano), time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
			query := url.Values{ // each under both of its names: see package trail
				"query.serviceName": {name}, "query.startTimeMin": {from}, "query.startTimeMax": {to}, "query.searchDepth": {"1000"},
				"query.service_name": {name}, "query.start_time_min": {from}, "query.start_time_max": {to}, "query.num_traces": {"1000"},
			}
			var found struct{ Result json.RawMessage }
			if err := get(t, s.jaeger+"/api/v3/traces?"+query.Encode(), &found); err != nil {
				return err
			}
			if !strings.Contains(string(found.Result), order) {
				return fmt.Errorf("%d bytes of traces do not name it", len(found.Result))
			}
			return nil
		})
	}
}

// trailed waits until the shop shows the order's complete trail, read from Jaeger.
func (s *stack) trailed(t *testing.T, order string, sc demo.Scenario) {
	t.Helper()
	shop := demo.Shop{URL: s.shop, Client: http.DefaultClient}
	until(t, sc.Name+"'s trail is whole", func() error {
		tr, err := shop.Trail(context.Background(), order)
		if err != nil {
			return err
		}
		if tr.State != sc.Want.State || len(tr.Events) != len(sc.Want.Events) {
			return fmt.Errorf("it is %s, with %d events, want %s with %d", tr.State, len(tr.Events), sc.Want.State, len(sc.Want.Events))
		}
		if !tr.Complete || len(tr.Edges) < len(tr.Events) {
			return fmt.Errorf("complete %v, %d traces, %d edges, gaps %v", tr.Complete, len(tr.Lanes), len(tr.Edges), tr.Gaps)
		}
		return nil
	})
}

// told waits until the tool trail has one story of an order, with spans of every service,
// and Jaeger has taken what it forwards.
func (s *stack) told(t *testing.T, order string) {
	t.Helper()
	until(t, "the tool has the order's story", func() error {
		var list struct {
			Stories []struct{ Services []string }
			Forward struct{ Sent, Dropped int }
		}
		if err := get(t, s.trail+"/?q=order.id%3D"+order, &list, "Authorization: Bearer demo-trail"); err != nil {
			return err
		}
		if len(list.Stories) != 1 || !slices.Equal(list.Stories[0].Services, slices.Sorted(slices.Values(services))) {
			return fmt.Errorf("it has %+v", list.Stories)
		}
		if list.Forward.Sent == 0 || list.Forward.Dropped > 0 {
			return fmt.Errorf("it has forwarded %+v", list.Forward)
		}
		return nil
	})
	if err := get(t, s.trail+"/", new(any)); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without the token: %v", err)
	}
}

// counted waits until analytics has counted this number of orders, none twice.
func (s *stack) counted(t *testing.T, orders int) {
	t.Helper()
	until(t, "analytics has counted", func() error {
		var a systemtest.Analytics
		if err := get(t, s.analytics+"/analytics", &a); err != nil {
			return err
		}
		if a.Orders.Created != orders || a.Orders.Shipped+a.Orders.Cancelled != orders {
			return fmt.Errorf("%+v, want %d orders", a.Orders, orders)
		}
		return nil
	})
}
