package orders_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// Who has an order's id, and the list has all of them, sees what becomes of the
// order, and not who ordered: of the mails' address the first letter and the domain.
func TestNobodySeesWhoOrders(t *testing.T) {
	t.Parallel()
	s := everything(t, systemtest.Deadline(demo.OrderDeadline))
	for _, change := range []map[string]any{
		{"payment.token": "tok_ok"},
		{"payment.token": "tok_declined"},
	} {
		change["customer.name"], change["customer.email"], change["shipping.address"] = "Quirin Zapf", "quirin.zapf@example.org", "7 Xylem Street"
		a := s.MustPost(t, body(change))
		wantStatus(t, a, http.StatusAccepted)
		id := MustOrder(t, a).ID
		told := func(o orders.Order) bool {
			return slices.ContainsFunc(o.Events, func(e orders.Event) bool {
				return e.Type == event.NotifyShipped || e.Type == event.NotifyCancelled
			})
		}
		systemtest.Until(t, "the customer is told", func() bool { return told(MustOrder(t, s.MustGet(t, "/orders/"+id))) })
		page := wantPage(t, s.MustDo(t, http.MethodGet, "/orders/"+id, "", browser()), http.StatusOK, "to q…@example.org, ", "thank you for your order", "Order "+id)
		feed := follow(t, s.url+"/orders/"+id+"/events", "")
		var events []string
		for range MustOrder(t, s.MustGet(t, "/orders/"+id)).Events {
			var e json.RawMessage
			if _, ok := feed.next(t, &e); !ok {
				t.Fatal("the feed ended")
			}
			events = append(events, string(e))
		}
		for what, shown := range map[string]string{
			"the page": page, "the feed": strings.Join(events, " "),
			"the order": string(s.MustGet(t, "/orders/"+id).body), "the list": string(s.MustGet(t, "/orders").body),
			"the shop":         string(s.MustDo(t, http.MethodGet, "/", "", browser()).body),
			"the trail":        string(s.MustGet(t, "/orders/"+id+"/trail").body),
			"the trail's page": string(s.MustDo(t, http.MethodGet, "/orders/"+id+"/trail", "", browser()).body),
		} {
			for _, private := range []string{"Quirin", "Zapf", "quirin", "zapf", "Xylem"} {
				if strings.Contains(shown, private) {
					t.Errorf("%s shows %q: %s", what, private, shown)
				}
			}
		}
	}
}
