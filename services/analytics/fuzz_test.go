package analytics

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.org/ordertrail/internal/web"
)

// An accepted checkpoint can be shown, and the next events can be added to it. Its size
// does not grow with them. Encoded again it is the same checkpoint.
func FuzzCheckpoint(f *testing.F) {
	for _, n := range []int{0, 1, 200} {
		c, _ := fold(newCheckpoint(), day(n))
		value := MustJSON(f, c)
		f.Add([]byte(value))
		for _, change := range [][2]string{
			{`"minute":"2026`, `"minute":"2027`}, {`"minute":"2026`, `"minute":"9999`}, {`"per_minute":[`, `"per_minute":[{},{"minute":"2100-01-01T00:00:30+23:59"},`},
			{`"counts":[`, `"counts":[-1,9223372036854775807,`}, {`"counts":[`, `"counts":[` + strings.Repeat("0,", 3000)}, {`"max_ms":`, `"max_ms":-`},
			{`"created":`, `"created":-`}, {`"revenue":`, `"revenue":9223372036854775807,"x":`}, {`"amount":`, `"amount":-`}, {`"COMPASS":`, `"\u0000":-`},
			{`"units":{`, `"units":null,"Units":{"":9223372036854775807,`}, {`"as_of_sequence":`, `"as_of_sequence":9`}, {`"as_of_time":"`, `"as_of_time":"0`},
		} {
			f.Add([]byte(strings.Replace(value, change[0], change[1], 1)))
		}
	}
	for _, b := range []string{"", "null", "{}", "[]", `{"per_minute":null,"to_parcel":{"counts":[0,1]}}`} {
		f.Add([]byte(b))
	}
	events := day(3)
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := decodeCheckpoint(value)
		if err != nil {
			return
		}
		encoded := MustJSON(t, c)
		again, err := decodeCheckpoint([]byte(encoded))
		if err != nil {
			t.Fatalf("decodeCheckpoint refuses what it has accepted, written anew as %s: %v", encoded, err)
		}
		if got := MustJSON(t, again); got != encoded {
			t.Errorf("written anew twice: %s, want %s", got, encoded)
		}

		c.AsOf = 0 // the events come after it
		next, _ := fold(c, events)
		if len(next.Minutes) > minutesKept {
			t.Errorf("%d minutes, want %d at most", len(next.Minutes), minutesKept)
		}
		if got, most := len(MustJSON(t, next)), len(encoded)+2000; got > most {
			t.Errorf("the checkpoint has %d bytes after three orders, and had %d", got, len(encoded))
		}
		for _, c := range []checkpoint{again, next} {
			if _, err := json.Marshal(c.report()); err != nil {
				t.Error(err)
			}
			w := httptest.NewRecorder()
			if err := (web.Site{Shop: "/"}).Write(w, httptest.NewRequest(http.MethodGet, "/analytics", nil), http.StatusOK, page(c, afternoon)); err != nil {
				t.Error(err)
			}
		}
	})
}
