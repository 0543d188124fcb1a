package demo

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Await that is cut short returns the last order that it got, also if the shop does not
// answer any more.
func TestAwaitInVain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	asked := false
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked {
			cancel()
			<-r.Context().Done()
		}
		asked = true
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"1","state":"created"}`)
	}))
	defer shop.Close()
	got, err := Shop{URL: shop.URL, Client: shop.Client()}.Await(ctx, "1", func(Order) bool { return false })
	if err == nil || got.ID != "1" || got.State != "created" {
		t.Errorf("got %+v, %v", got, err)
	}
}
