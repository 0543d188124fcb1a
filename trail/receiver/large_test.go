package receiver_test

import (
	"net/http"
	"strings"
	"testing"

	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/receiver"
)

// JSON as an SDK sends it is not too large before it has 8 MiB. What is too large in memory
// only is refused with that reason.
func TestLargeJSON(t *testing.T) {
	addr := serve(t, &receiver.Receiver{Keep: func(...trail.Span) int { return 0 }})
	text := must[[]byte](t)(traces(9000).MarshalJSON())
	if a, answer := post(t, addr, "/v1/traces", "application/json", "gzip", zipped(text)); a.StatusCode != http.StatusOK || len(text) < 8<<20 {
		t.Errorf("%d bytes: %s %q", len(text), a.Status, answer)
	}
	if a, answer := post(t, addr, "/v1/traces", "application/x-protobuf", "", bomb()); a.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(answer), "decoded") {
		t.Errorf("a bomb: %s %q", a.Status, answer)
	}
}
